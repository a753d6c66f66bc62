"""Training pairs out of a run: who is taken, from where, and how it is cut."""

from dataclasses import replace

import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.stages import Synthesize
from datapipe.pictures import decode_jpeg
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import YAWS, Sample, Scores, Source
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from datapipe.stage import Resources
from lora_engine.acquire.clips import acquire
from lora_engine.acquire.from_run import LEAST, AcquireFromRun, is_run, turned_people
from lora_engine.acquire.people import people_of, splits, write
from lora_engine.acquire.settings import AcquireSettings
from tests.datapipe.media import write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

SIZE = 800, 400
SETTINGS = AcquireSettings(side=256)
LABELS = {"aesthetic_scorer": "brisque", "recogniser": "painted", "pose_estimator": "painted"}


def shot(person, yaws, left=200, background=90):
    return [paint([Painted(person, y, 150, left, 80)], *SIZE, background=background) for y in yaws]


STILL = 2 * np.sin(np.arange(60))
TURN = 89 * np.sin(2 * np.pi * np.arange(100) / 99)
FILMS = {
    "turns": shot(0, [*STILL, *TURN]),
    "still": shot(1, [*STILL, *STILL]),
    "elsewhere": shot(2, STILL) + shot(2, TURN, left=300, background=220),
    "dims": [
        (f * (1.0 if k < 60 else 0.35)).astype(np.uint8)
        for k, f in enumerate(shot(3, [*STILL, *TURN]))
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One who turns, one who does not, one who turns in a shot without a frontal frame of the
    reference, and one who turns where the light is another."""
    root = tmp_path_factory.mktemp("run")
    folder = Folder(root / "run")
    info = RunInfo(
        corpus=str(root), seed=0, settings={"yaws": list(YAWS)}, scoring=Scoring(labels=LABELS)
    )
    save_info(folder, info)
    store = CandidateStore(folder, info.settings_hash)
    prepare = Prepare(PrepareSettings(), PaintedFaces(), resources=Resources(1), real_yaws=YAWS)
    store_only = Synthesize(
        None, store, yaws=YAWS, run_seed=0, provenance={}, resources=Resources(1),
        real_frontal=True,
    )  # fmt: skip
    prepare.setup()
    done = []
    for key, frames in FILMS.items():
        path = write_video(root / f"{key}.mp4", frames)
        made = store_only(prepare(Sample(key, Source(str(path), ".mp4"))))
        identities = tuple(
            replace(
                one,
                scores=Scores(True),
                views=tuple(replace(view, scores=Scores(True)) for view in one.views),
            )
            for one in made.identities
        )
        done.append(replace(made, identities=identities))
    prepare.close()
    Ledger(folder).append(done, LABELS, 0)
    return folder


def test_those_are_taken_who_turn_in_the_shot_and_light_of_their_reference(run, tmp_path):
    """All frames of a person are of that shot; the others are left out, with a reason where the
    frames have to be looked at."""
    assert is_run(run)
    people = turned_people(run)
    for sample in people:
        (identity,) = sample.identities
        assert len({view.cutout.shot for view in identity.views}) == 1
    assert "turns" in {sample.key for sample in people}
    assert "still" not in {sample.key for sample in people}
    stage = AcquireFromRun(SETTINGS, PaintedFaces(), str(tmp_path / "clips"))
    found = {s.key: stage.result(s) for s in acquire(stage, people, 1)}
    assert len(found["turns"].picked.frames) == len(YAWS)
    assert all(len(c.picked.frames) >= LEAST for c in found.values() if c.picked)
    for clip in found.values():
        if clip.picked is None:
            assert clip.reason == "no_turn"


def test_their_frames_show_the_yaws_and_make_pairs(run, tmp_path):
    """Pictures have one size and show what they are named for; shards can be read again."""
    people = [sample for sample in turned_people(run) if sample.key == "turns"]
    stage = AcquireFromRun(SETTINGS, PaintedFaces(), str(tmp_path / "clips"))
    clips = [stage.result(sample) for sample in acquire(stage, people, 1)]
    who = people_of(clips)
    pairs = write(
        Folder(tmp_path / "pairs"), who, splits(who, 0.0, 0.6, 0), stage.pictures, {}, YAWS
    )
    (subject,) = pairs.subjects("train")
    assert subject.yaws == YAWS
    for frame in subject.frames:
        image = decode_jpeg(frame.picture)
        assert image.shape == (SETTINGS.side, SETTINGS.side, 3)
        (face,) = PaintedFaces(smallest=8).find([image])[0][:1]
        assert abs(face.pose.yaw - frame.yaw) < 12
        assert abs(TURN - frame.yaw).min() < 5


def test_a_second_time_nothing_is_cut_again(run, tmp_path):
    """The files of before stay."""
    people = turned_people(run)
    stage = AcquireFromRun(SETTINGS, PaintedFaces(), str(tmp_path / "clips"))
    list(acquire(stage, people, 1))
    before = {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "clips").iterdir()
    }
    assert before
    list(acquire(stage, people, 1))
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "clips").iterdir()}
    assert after == before


def test_a_run_that_cannot_be_read_is_told(tmp_path):
    """In a sentence."""
    Folder(tmp_path).put("run.json", b"{}")
    with pytest.raises(UserError):
        turned_people(Folder(tmp_path))
