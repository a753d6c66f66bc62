"""What two rules make different is the difference of the packs they give."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datapipe.inspect import diff as diff_module
from datapipe.inspect.diff import rules_diff
from datapipe.inspect.diff_sheet import changes_sheet
from datapipe.inspect.sheet_drawing import AMBER, GREEN, MARGIN, RED
from datapipe.names import parse_name
from datapipe.pack.pack import Limits, pack
from datapipe.record import YAWS
from filters.rules import SharpnessRule
from jobs.run_rules import applied, explained
from tests.datapipe.runs import RULES, TinyRun, good


def ruled(minimum=0.18, **changes):
    return replace(RULES, sharpness=SharpnessRule(minimum, 0.0), **changes)


SOFT, HARD = ruled(0.3), ruled(0.6, minimum_views=5)


def blurred(*values):
    """Views whose sharpness is one of `values`, from the left; the others are sharp."""
    return {yaw: good(yaw, sharpness=value) for yaw, value in zip(YAWS, values, strict=False)}


@pytest.fixture
def tiny(tmp_path):
    """Two that lose views, one that loses too many, one that passes, one that never does."""
    run = TinyRun(tmp_path)
    run.add("a", [blurred(0.5)])
    run.add("b", [blurred(0.5, 0.1), blurred(0.5, 0.5, 0.5)])
    run.add("c", [blurred(0.5, 0.5, 0.1)])
    run.add("d")
    run.add("e", [blurred(*[0.0] * 7)])
    run.reject("noface")
    run.save()
    return run


def members(folder):
    """Every picture of a pack, as (key, identity, yaw), yaw None for references."""
    found = set()
    for name in folder.names("*.tar"):
        with tarfile.open(fileobj=io.BytesIO(folder.read(name))) as tar:
            for member in tar:
                key, rest = member.name.split(".", 1)
                if (picture := parse_name(rest)) is not None:
                    found.add((key, *picture))
    return found


def packs(run, *rules):
    out = []
    for index, one in enumerate(rules):
        folder = run.folder(f"pack-{index}")
        pack(run, folder, applied(one), Limits(), lambda *_: None)
        out.append(members(folder))
    return out


def check(run, a, b):
    """Every count of the diff against the members of two packs."""
    found = rules_diff(run, applied(a), applied(b), 5)
    first, second = packs(run, a, b)
    for change, of in (
        (found.samples, lambda m: {key for key, _, _ in m}),
        (found.identities, lambda m: {(key, identity) for key, identity, _ in m}),
        *((found.yaws[y].kept, lambda m, y=y: {one for one in m if one[2] == y}) for y in YAWS),
    ):
        x, y = of(first), of(second)
        assert vars(change) == {
            "a": len(x), "b": len(y), "lost": len(x - y), "gained": len(y - x)
        }  # fmt: skip
    keys = [{key for key, _, _ in one} for one in (first, second)]
    assert found.lost_samples == sorted(keys[0] - keys[1])
    assert found.gained_samples == sorted(keys[1] - keys[0])
    changed = {key for key, _, _ in first ^ second} & keys[0] & keys[1]
    assert (found.changed_samples, found.changed_examples) == (len(changed), sorted(changed))
    return found


@pytest.mark.parametrize(
    ("a", "b"),
    [(SOFT, HARD), (HARD, SOFT), (ruled(0.05, minimum_views=6), ruled(0.3, minimum_views=2))],
)
def test_the_numbers_are_the_difference_of_two_packs(tiny, a, b):
    """Samples, identities, and views at each yaw; also where some come and others go."""
    check(tiny.folder, a, b)


def test_the_size_of_the_batches_changes_nothing(tiny, monkeypatch):
    """Counts, examples and the views that are drawn are the same."""
    whole = rules_diff(tiny.folder, applied(SOFT), applied(HARD), 5)
    monkeypatch.setattr(diff_module, "BATCH", 2)
    assert rules_diff(tiny.folder, applied(SOFT), applied(HARD), 5) == whole


def test_views_that_change_sides_are_counted_with_the_rule(tiny):
    """By the first rule that they fail on the side where they fail; kept or not."""
    found = rules_diff(tiny.folder, applied(SOFT), applied(HARD), 5)
    left = found.yaws[-90]
    assert vars(left.passed) == {"a": 5, "b": 1, "lost": 4, "gained": 0}
    assert left.lost_by == {"blurred": 4}
    back = rules_diff(tiny.folder, applied(HARD), applied(SOFT), 5).yaws[-90]
    assert back.gained_from == {"blurred": 4}
    assert found.samples.lost == 1
    assert found.lost_samples == ["c"]
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_equal_rules_change_nothing(tiny):
    """No view, no sample; and a sheet that says so."""
    found = rules_diff(tiny.folder, applied(SOFT), applied(SOFT), 5)
    assert (found.lost, found.gained, found.changed_samples) == ([], [], 0)
    assert changes_sheet(tiny.folder, "same", found, explained(SOFT), explained(SOFT))


def test_views_that_fail_themselves_are_drawn_first(tiny):
    """Those that only go with their identity fill what room is left; the same ones each time."""
    few = rules_diff(tiny.folder, applied(SOFT), applied(HARD), 3).lost
    assert all(view.yaw in YAWS[:3] for view in few)
    many = rules_diff(tiny.folder, applied(SOFT), applied(HARD), 100).lost
    assert {(view.key, view.yaw) for view in many} > {(view.key, view.yaw) for view in few}
    assert {view.key for view in many if view.yaw == 90} == {"b", "c"}
    assert few == rules_diff(tiny.folder, applied(SOFT), applied(HARD), 3).lost


@pytest.mark.parametrize(
    ("a", "b", "shown", "not_shown"),
    [(SOFT, HARD, (RED, AMBER), (GREEN,)), (HARD, SOFT, (GREEN, AMBER), (RED,))],
)
def test_the_sheet_frames_say_which_way(tiny, a, b, shown, not_shown):
    """Red leaves, green comes, amber goes with its identity."""
    found = rules_diff(tiny.folder, applied(a), applied(b), 100)
    data = changes_sheet(tiny.folder, "a and b", found, explained(a), explained(b))
    picture = np.asarray(Image.open(io.BytesIO(data)))[:, MARGIN + 1 : MARGIN + 3].mean(axis=1)

    def rows_of(colour):
        return (np.abs(picture - colour).max(axis=1) < 25).sum()

    assert all(rows_of(colour) > 100 for colour in shown)
    assert not any(rows_of(colour) for colour in not_shown)
    again = changes_sheet(tiny.folder, "a and b", found, explained(a), explained(b))
    assert data == again


def test_a_lost_candidate_leaves_its_place_on_the_sheet(tiny):
    """The numbers and the reason are in the tables."""
    found = rules_diff(tiny.folder, applied(SOFT), applied(HARD), 5)
    for key in "abcd":
        tiny.folder.delete(tiny.store.name(key))
    assert changes_sheet(tiny.folder, "a and b", found, explained(SOFT), explained(HARD))
