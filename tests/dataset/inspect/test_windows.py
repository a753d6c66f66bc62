"""Windows as a run shows them: counted, judged, drawn, and in the shards as far as they pass."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from dataset.inspect.contact import HEIGHT, draw_strip
from dataset.inspect.show import tell
from dataset.inspect.stats import run_stats
from dataset.pack.pack import ShardLimits, pack
from filters.judge import PASSED, Verdict
from tests.datapipe.runs import RULES, WINDOW, TinyRun

SHORT = replace(WINDOW, start=700.0, end=700.5)
SMALL = replace(WINDOW, start=800.0, end=900.0, face_size=20.0)
TURNS = replace(WINDOW, start=900.0, end=904.0, yaw_low=-50.0, yaw_high=40.0, together=0.9)


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", windows=(WINDOW, SHORT, SMALL, TURNS))
    tiny.add("b", windows=(SHORT,))
    tiny.add("c", windows=())
    tiny.add("d", people=({}, {}), windows=(WINDOW,))
    return tiny.save()


def test_every_window_is_counted_once(run):
    """Those that pass by length and span, the others by the first rule that each fails."""
    found = run_stats(run, RULES).windows
    assert (found.windows, found.passed) == (7, 4)
    assert found.reasons == {"short": 2, "small": 1}
    assert (found.identities, found.without, found.together) == (3, 2, 1)
    assert found.seconds == 3 * 600 + 4
    assert sum(found.lengths.values()) == sum(found.spans.values()) == found.passed
    assert (found.lengths[2], found.lengths[30]) == (1, 3)
    assert (found.spans[40], found.spans[80]) == (3, 1)
    assert json.loads(json.dumps(found.as_dict()))["passed"] == 4


def test_other_rules_for_windows_need_nothing_new(run):
    """Only what is stored is judged again."""
    easy = replace(RULES, windows=replace(RULES.windows, seconds=0.1, face_size=0.0))
    assert run_stats(run, easy).windows.passed == 7
    turned = replace(RULES, windows=replace(RULES.windows, yaw_span=60.0))
    assert run_stats(run, turned).windows.passed == 1


def test_shards_list_the_windows_that_pass(run):
    """In order, with every value; a sample without one is packed all the same."""
    shards = run.folder("shards")
    pack(run, shards, RULES, ShardLimits(), lambda *_: None)
    with tarfile.open(shards.path("000000.tar")) as tar:
        about = {m.name: json.loads(tar.extractfile(m).read()) for m in tar if "json" in m.name}
    listed = {key[0]: one["identities"][0]["windows"] for key, one in about.items()}
    assert {key: len(windows) for key, windows in listed.items()} == {
        "a": 2,
        "b": 0,
        "c": 0,
        "d": 1,
    }
    first, second = listed["a"]
    assert (first["start"], second["start"]) == (WINDOW.start, TURNS.start)
    assert first.keys() == set(WINDOW.__dataclass_fields__)


def test_a_story_tells_each_window_with_its_verdict(run):
    """As the statistics and the shards decide."""
    story = tell(run, "a", RULES, None)
    told = story.as_dict()["identities"][0]["windows"]
    assert [w["decision"]["reason"] for w in told] == [None, "short", "small", None]
    assert all(w["decision"]["detail"] for w in told if not w["decision"]["passed"])
    assert story.picture()


def test_a_strip_is_green_where_the_person_may_be_trained_on():
    """Red where a window is rejected, neither where nobody is seen."""
    rows = [({"start": 0.0, "end": 2.0}, PASSED), ({"start": 6.0, "end": 10.0}, Verdict("small"))]
    strip = np.asarray(draw_strip("", rows, np.zeros((0, 11), np.float32), 1048))
    assert strip.shape == (HEIGHT, 1048, 3)
    row = strip[80].astype(int)
    for second, channel in ((1, 1), (8, 0)):
        pixel = row[24 + 100 * second]
        assert pixel[channel] == pixel.max() > pixel.min() + 20
    gap = row[24 + 400]
    assert gap.max() - gap.min() < 10
