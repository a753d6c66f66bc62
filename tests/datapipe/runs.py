"""A small run, written with the real store and ledger; pictures and clips are noise."""

from dataclasses import replace

import numpy as np

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.prepare.windows import track_bytes
from datapipe.record import (
    YAWS,
    Cutout,
    Identity,
    Pose,
    Reference,
    Sample,
    Scores,
    Source,
    View,
    Window,
)  # fmt: skip
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from filters.rules_file import load_rules

LABELS = {"aesthetic_scorer": "brisque", "recogniser": "sface", "pose_estimator": "3ddfa"}
RULES = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")


def picture(seed, side=24):
    return encode_jpeg(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def good(yaw, **changes):
    """Scores of a view that pass the default rules."""
    scores = Scores(
        detected=True,
        sharpness=900.0,
        sharpness_ratio=1.0,
        aesthetic=80.0,
        identity_cosine=0.9,
        measured_yaw=float(yaw),
        measured_pitch=1.0,
        measured_roll=-1.0,
        face_size=120.0,
    )
    return replace(scores, **changes)


TRACK = track_bytes([])
REFERENCE = Reference(
    1.5, 37, (1.0, 2.0, 3.5, 4.5), (0, 0, 9, 9), Pose(-3.0, 2.0, 0.5), 0.9, 88.0, 4
)
CUTOUT = Cutout(12, 1, (2.0, 3.0, 4.0, 5.0), (1, 1, 8, 8), Pose(31.0, 1.0, 2.0), 0.8, 0.3, 0.7)
WINDOW = Window(
    start=0.0, end=600.0, shot=0, frames_seen=1800, face_size=64.0, face_min=50.0,
    left=30.0, top=22.0, right=34.0, bottom=26.0, yaw_low=-20.0, yaw_median=0.5, yaw_high=30.0,
    motion=0.1, others=0, together=0.0, sharpness=0.25,
)  # fmt: skip
REFERENCE_SCORES = good(0, identity_cosine=None, sharpness_ratio=None, expression=0.1)


class TinyRun:
    """Adds samples to a run folder; `people` gives for each identity the views that are bad."""

    def __init__(self, root, run="run", **settings):
        self.root = root
        self.folder = Folder(run if "://" in str(run) else root / run)
        self.info = RunInfo(
            corpus=str(root / "clips"),
            seed=0,
            settings={"yaws": list(YAWS), "engine": "noise", **settings},
            scoring=Scoring(labels=LABELS),
        )
        save_info(self.folder, self.info)
        self.store = CandidateStore(self.folder, self.info.settings_hash)
        self.ledger = Ledger(self.folder)
        self.samples = []

    def add(
        self,
        key,
        people=({},),
        caption="a person",
        clip=None,
        size=None,
        faces=None,
        windows=(WINDOW,),
        real=None,
        portraits=None,
        **more,
    ):
        """A candidate; each of `people` maps a yaw to the scores it has instead of good ones.

        `faces` are the embeddings of their references, `more` is said of the sample. `real` maps
        yaws of the first one to the scores of real views, beside the synthesised ones.
        """
        path = self.root / "clips" / f"{key}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip if clip is not None else f"the clip of {key}".encode() * 40)
        turned = {
            yaw: View(yaw, None, None, "real", 0.5 + yaw / 100, cutout=CUTOUT) for yaw in real or {}
        }
        bare = tuple(
            Identity(
                REFERENCE,
                (*(View(yaw, 1000 + yaw) for yaw in YAWS), *(turned.values() if not index else ())),
                windows=windows,
                portrait=portraits[index] if portraits else picture(index + 7 * len(self.samples)),
                cutouts=tuple((v, picture(yaw + 500)) for yaw, v in turned.items() if not index),
                track=TRACK,
            )
            for index in range(len(people))
        )
        source = Source(str(path), ".mp4", size=path.stat().st_size if size is None else size)
        made = [{yaw: picture(yaw + 200 + index) for yaw in YAWS} for index in range(len(people))]
        sample = Sample(key, source, caption, bare, **more)
        stored = self.store.put(sample, made, {"engine": "noise"})
        scored = tuple(
            replace(
                identity,
                scores=instead.get("reference", REFERENCE_SCORES),
                views=tuple(
                    replace(
                        v,
                        scores=(real if v.source == "real" else instead).get(v.yaw, good(v.yaw)),
                        twin_cosine=0.6 if v.yaw in turned and not index else None,
                    )
                    for v in identity.views
                ),
                embedding=tuple(face),
            )
            for index, (identity, instead, face) in enumerate(
                zip(stored.identities, people, faces or [(1.0, 0.0)] * len(people), strict=True)
            )
        )
        self.samples.append(replace(stored, identities=scored).spent("synthesize", 2.0))
        return path

    def reject(self, key, outcome="rejected", reason="no_face"):
        source = Source(f"/nowhere/{key}.mp4", ".mp4")
        self.samples.append(Sample(key, source).stop(outcome, reason, f"about {key}"))

    def save(self, per_segment=3):
        """Write the ledger in segments, in the order the samples came."""
        for start in range(0, len(self.samples), per_segment):
            self.ledger.append(self.samples[start : start + per_segment], LABELS, 0)
        self.samples = []
        return self.folder
