"""Packed shards of virtual subjects: their clips and views rendered, the rest by the real pack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import YAWS, Identity, Pose, Sample, Source, View
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.ledger import Ledger
from datapipe.run.store import CandidateStore
from dataset.pack.pack import ShardLimits, pack
from lora_engine.mesh.render import Shot, render
from lora_engine.mesh.studio import build
from lora_engine.subjects.clip import camera_for, encode, scene
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.people import invent
from tests.datapipe.runs import LABELS, REFERENCE, REFERENCE_SCORES, RULES, good

SIDE = 64
FRAMES = (-40.0, -20.0, 0.0, 20.0, 40.0)
FPS = 8


def packed_people(root, count, tints=1, per_shard=16):
    """A folder of packed shards of that many people, each once in several colours.

    A colour makes another person of somebody at no cost: it is what a tiny model can tell people
    apart by, and it is the same in the clip and in the views.
    """
    run = Folder(root / "run")
    info = RunInfo(str(root), 0, {"yaws": list(YAWS), "engine": "mesh"}, Scoring(labels=LABELS))
    save_info(run, info)
    store, ledger, gallery = CandidateStore(run, info.settings_hash), Ledger(run), Gallery()
    for number in range(count):
        frames, views = _pictures(gallery, number)
        for tint in range(tints):
            mix = _tint(number, tint)
            sample = _sample(
                root, store, f"subject-{number:03d}-{tint}", mix(frames),
                dict(zip(YAWS, mix(views), strict=True)),
            )  # fmt: skip
            ledger.append([sample], LABELS, 0)
    out = Folder(root / "shards")
    pack(run, out, RULES, ShardLimits(samples=per_shard), lambda *_: None)
    return out.url


def _pictures(gallery, number):
    """The clip's frames and the views of a person."""
    rng = np.random.default_rng(number)
    place, who = scene(1.0, rng), invent(gallery, rng)
    head = build(who.person, gallery.studio, int(rng.integers(2**31)))
    camera = camera_for(head, 0, 1, rng)

    def look(yaw):
        shot = Shot(head, Pose(float(yaw), 0.0, 0.0), camera, place.light)
        return np.asarray(render([shot], (SIDE, SIDE), place.background), np.float32)

    return [look(yaw) for yaw in FRAMES], [look(yaw) for yaw in YAWS]


def _tint(number, tint):
    """What changes the colours of pictures; the first leaves them alone."""
    rng = np.random.default_rng([number, tint])
    gains = np.eye(3)[rng.permutation(3)] * rng.uniform(0.3, 1.3, 3) if tint else np.eye(3)
    offset = rng.uniform(-40, 60, 3) if tint else 0.0
    return lambda pictures: [
        np.asarray(np.clip(np.rint(p @ gains + offset), 0, 255), np.uint8) for p in pictures
    ]


def _sample(root, store, key, frames, views):
    """A scored sample whose candidate is stored."""
    path = root / f"{key}.mp4"
    path.write_bytes(encode(iter(frames), (SIDE, SIDE), FPS))
    made = {yaw: encode_jpeg(view) for yaw, view in views.items()}
    identity = Identity(REFERENCE, tuple(View(yaw, yaw) for yaw in YAWS), portrait=made[0])
    source = Source(str(path), ".mp4", size=path.stat().st_size)
    stored = store.put(Sample(key, source, "a person", (identity,)), [made], {"engine": "mesh"})
    scored = replace(
        identity,
        views=tuple(View(yaw, yaw, good(yaw)) for yaw in YAWS),
        scores=REFERENCE_SCORES,
        embedding=(1.0, 0.0),
        portrait=b"",
    )
    return replace(stored, identities=(scored,)).spent("synthesize", 1.0)
