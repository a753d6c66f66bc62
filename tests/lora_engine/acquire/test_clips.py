"""Laws of looking at many clips: each once, bad ones harm nothing."""

import json
import math
import shutil

import pytest

from datapipe.corpus import corpus
from datapipe.errors import UserError
from lora_engine.acquire.clips import Acquire, acquire, facts_of
from lora_engine.acquire.settings import AcquireSettings
from tests.datapipe.media import write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

SETTINGS = AcquireSettings(yaws=(-30, 0, 30), side=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One clip of a turning head, a file that is no video, and one without people."""
    folder = tmp_path_factory.mktemp("clips")
    turns = (paint([Painted(0, 50 * math.sin(f / 16), 150, 60, 80)]) for f in range(100))
    write_video(folder / "ann.mp4", turns)
    (folder / "broken.mp4").write_bytes(b"no video")
    write_video(folder / "nobody.mp4", [paint([])] * 20)
    return folder


@pytest.fixture
def clips(made, tmp_path):
    shutil.copytree(made, tmp_path / "clips")
    return tmp_path / "clips"


def run(clips, out, faces=None, settings=SETTINGS, workers=1):
    """What became of each clip by key, and the bytes that are kept."""
    stage = Acquire(settings, faces or PaintedFaces(), str(out))
    done = list(acquire(stage, list(corpus(str(clips))), workers))
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    return {sample.key: stage.result(sample) for sample in done}, kept


def test_bad_clips_are_rows_with_a_reason(clips, tmp_path):
    """The others are as they would be without them."""
    found, _ = run(clips, tmp_path / "out")
    assert {key: clip.reason for key, clip in found.items()} == {
        "ann": "",
        "broken": "unreadable",
        "nobody": "no_face",
    }
    (clips / "broken.mp4").unlink()
    (clips / "nobody.mp4").unlink()
    alone, _ = run(clips, tmp_path / "alone")
    assert alone["ann"] == found["ann"]
    assert [frame.yaw for frame in found["ann"].picked.frames] == [-30, 0, 30]


def test_a_second_run_looks_at_nothing(clips, tmp_path):
    """Everything is as it was, the rejected ones too."""
    first = run(clips, tmp_path / "out")
    idle = PaintedFaces()
    assert run(clips, tmp_path / "out", idle) == first
    assert idle.looked == 0


@pytest.mark.parametrize("change", ["video", "json", "settings"])
def test_what_changed_is_looked_at_again(clips, tmp_path, change):
    """And only that."""
    run(clips, tmp_path / "out")
    faces, settings = PaintedFaces(), SETTINGS
    if change == "video":
        shutil.copy(clips / "ann.mp4", clips / "nobody.mp4")
    elif change == "json":
        (clips / "ann.json").write_text(json.dumps({"subject": "Ann"}))
    else:
        settings = AcquireSettings(yaws=(-30, 0, 30), side=64, tolerance=4)
    found, _ = run(clips, tmp_path / "out", faces, settings)
    again = {"video": ["nobody"], "json": ["ann"], "settings": ["ann"]}[change]
    looked = sum(found[key].picked.looked for key in again)
    empty = 8 if change == "settings" else 0  # the clip without people, at its evenly spread frames
    assert faces.looked == looked + empty


@pytest.mark.slow
def test_several_processes_give_the_same_files(clips, tmp_path):
    """Bytes do not depend on who looked at which clip."""
    assert run(clips, tmp_path / "two", workers=2)[1] == run(clips, tmp_path / "one")[1]


def test_the_json_beside_a_clip_names_the_subject_and_tells_the_truth(clips):
    """Truth is taken where there is one person only."""
    ann = next(sample for sample in corpus(str(clips)) if sample.key == "ann")
    assert facts_of(ann).subject is None
    person = {"subject": "Ann", "frames": [{"yaw": 1.5}, {"yaw": -2}]}
    (clips / "ann.json").write_text(json.dumps({"subject": "Ann", "people": [person]}))
    assert facts_of(ann).subject == "Ann"
    assert facts_of(ann).truth == {0: 1.5, 1: -2.0}
    (clips / "ann.json").write_text(json.dumps({"people": [person, person]}))
    assert not facts_of(ann).truth


@pytest.mark.parametrize("text", ["{", "[]", '{"subject": 3}'])
def test_a_json_that_makes_no_sense_is_named(clips, text):
    """It might name the wrong person, so it is no clip's fault but the user's to mend."""
    (clips / "ann.json").write_text(text)
    ann = next(sample for sample in corpus(str(clips)) if sample.key == "ann")
    with pytest.raises(UserError, match=r"ann\.mp4"):
        facts_of(ann)
