"""What two rules make different is the difference of the packs they give."""

import io
import json
import random
import tarfile
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from datapipe.pictures import parse_name
from datapipe.record import YAWS
from dataset.inspect.diff import changes_sheet, rules_diff
from dataset.inspect.sheet import AMBER, GREEN, MARGIN, RED
from dataset.pack.pack import ShardLimits, pack
from filters.judge import Judge
from filters.rules import SharpnessRule
from tests.datapipe.runs import REFERENCE_SCORES, RULES, WINDOW, TinyRun, good


def ruled(minimum=0.18, **changes):
    return replace(RULES, sharpness=SharpnessRule(minimum, 0.0, minimum), **changes)


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
        pack(run, folder, one, ShardLimits(), lambda *_: None)
        out.append(members(folder))
    return out


def check(run, a, b):
    """Every count of the diff against the members of two packs."""
    found = rules_diff(run, a, b, 5)
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


def changes(pairs):
    """Of pairs of booleans, by A and by B, what the diff counts."""
    pairs = list(pairs)
    return {
        "a": sum(a for a, _ in pairs),
        "b": sum(b for _, b in pairs),
        "lost": sum(a and not b for a, b in pairs),
        "gained": sum(b and not a for a, b in pairs),
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_judging_each_sample_twice(tmp_path, seed):
    """For scores and rules at random: views, identities and samples as the judge of rows has it."""
    pick = random.Random(seed)
    tiny = TinyRun(tmp_path)
    for number in range(12):
        people = [random_scores(pick) for _ in range(pick.choice([1, 1, 2]))]
        tiny.add(f"v{number:02d}", people, windows=random_windows(pick))
    samples = list(tiny.samples)
    rules = [random_rules(pick) for _ in "ab"]
    verdicts = [[Judge(one).sample(sample) for sample in samples] for one in rules]
    found = rules_diff(tiny.save(), *rules, 1000)

    both = list(zip(*verdicts, strict=True))
    assert vars(found.samples) == changes((a.verdict.passed, b.verdict.passed) for a, b in both)
    pairs = [
        (sample.key, index, *two)
        for sample, (a, b) in zip(samples, both, strict=True)
        for index, two in enumerate(zip(a.identities, b.identities, strict=True))
    ]
    kept = [(a.verdict.passed, b.verdict.passed) for _, _, a, b in pairs]
    assert vars(found.identities) == changes(kept)
    seen = [
        [tuple(Judge(one).window(asdict(window)).reason for one in rules) for window in windows]
        for sample in samples
        for windows in (identity.windows for identity in sample.identities)
    ]
    every = [pair for pairs in seen for pair in pairs]
    assert vars(found.windows) == changes((a is None, b is None) for a, b in every)
    assert found.windows_lost_by == Counter(b for a, b in every if a is None and b)
    assert found.windows_gained_from == Counter(a for a, b in every if b is None and a)
    assert vars(found.trained) == changes(
        (p and any(a is None for a, _ in own), q and any(b is None for _, b in own))
        for (p, q), own in zip(kept, seen, strict=True)
    )
    lost, gained, other = set(), set(), set()
    for yaw in YAWS:
        views = [(key, index, a.views[yaw], b.views[yaw]) for key, index, a, b in pairs]
        passed = [(a.passed, b.passed) for _, _, a, b in views]
        stay = [(p and k, q and m) for (p, q), (k, m) in zip(passed, kept, strict=True)]
        change = found.yaws[yaw]
        assert vars(change.passed) == changes(passed)
        assert vars(change.kept) == changes(stay)
        for (key, index, a, b), (x, y) in zip(views, stay, strict=True):
            lost |= {(key, index, yaw)} if (x and not y) or (a.passed and not b.passed) else set()
            gained |= {(key, index, yaw)} if (y and not x) or (b.passed and not a.passed) else set()
            other |= {key} if x != y else set()
        assert change.lost_by == Counter(b.reason for _, _, a, b in views if a.passed and b.reason)
        assert change.gained_from == Counter(
            a.reason for _, _, a, b in views if b.passed and a.reason
        )
    for drawn, wanted in ((found.lost, lost), (found.gained, gained)):
        assert {(view.key, view.identity, view.yaw) for view in drawn} == wanted
        assert all(len(view.views) == len(YAWS) for view in drawn)
    keys = [
        sample.key
        for sample, (a, b) in zip(samples, both, strict=True)
        if a.verdict.passed and b.verdict.passed and sample.key in other
    ]
    assert (found.changed_samples, found.changed_examples) == (len(keys), keys[:5])


def random_scores(pick):
    """Of one identity: views of which about half pass, and sometimes a bad reference."""
    views = {
        yaw: good(
            yaw,
            detected=pick.random() < 0.95,
            sharpness=pick.choice([0.2, 0.4, 900.0, None]),
            identity_cosine=pick.uniform(0.2, 1),
            measured_yaw=yaw + pick.gauss(0, 6),
        )
        for yaw in YAWS
    }
    return views | {"reference": replace(REFERENCE_SCORES, aesthetic=pick.choice([20.0, 80.0]))}


def random_windows(pick):
    return tuple(
        replace(
            WINDOW, start=10.0 * n, end=10.0 * n + pick.uniform(0.5, 5), others=pick.randint(0, 3)
        )
        for n in range(pick.randint(0, 3))
    )


def random_rules(pick):
    return replace(
        ruled(pick.choice([0.1, 0.3, 0.5]), minimum_views=pick.randint(1, 4)),
        reference_must_pass=pick.random() < 0.5,
        windows=replace(RULES.windows, seconds=pick.uniform(1, 4), others=pick.randint(0, 2)),
        pose=replace(RULES.pose, tolerance=pick.uniform(5, 15)),
        identity=replace(
            RULES.identity,
            curve=((0.0, pick.uniform(0.3, 0.6)), (60.0, pick.uniform(0.1, 0.5))),
            verified_to=pick.choice([0, 30, 60]),
            judged_to=pick.choice([60, 90]),
        ),
    )


def test_views_that_change_sides_are_counted_with_the_rule(tiny):
    """By the first rule that they fail on the side where they fail; kept or not."""
    found = rules_diff(tiny.folder, SOFT, HARD, 5)
    left = found.yaws[-90]
    assert vars(left.passed) == {"a": 5, "b": 1, "lost": 4, "gained": 0}
    assert left.lost_by == {"blurred": 4}
    back = rules_diff(tiny.folder, HARD, SOFT, 5).yaws[-90]
    assert back.gained_from == {"blurred": 4}
    assert found.samples.lost == 1
    assert found.lost_samples == ["c"]
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_equal_rules_change_nothing(tiny):
    """No view, no sample; and a sheet that says so."""
    found = rules_diff(tiny.folder, SOFT, SOFT, 5)
    assert (found.lost, found.gained, found.changed_samples) == ([], [], 0)
    assert changes_sheet(tiny.folder, "same", found, SOFT, SOFT)


def test_views_that_fail_themselves_are_drawn_first(tiny):
    """Those that only go with their identity fill what room is left; the same ones each time."""
    few = rules_diff(tiny.folder, SOFT, HARD, 3).lost
    assert all(view.yaw in YAWS[:3] for view in few)
    many = rules_diff(tiny.folder, SOFT, HARD, 100).lost
    assert {(view.key, view.yaw) for view in many} > {(view.key, view.yaw) for view in few}
    assert {view.key for view in many if view.yaw == 90} == {"b", "c"}
    assert few == rules_diff(tiny.folder, SOFT, HARD, 3).lost


@pytest.mark.parametrize(
    ("a", "b", "shown", "not_shown"),
    [(SOFT, HARD, (RED, AMBER), (GREEN,)), (HARD, SOFT, (GREEN, AMBER), (RED,))],
)
def test_the_sheet_frames_say_which_way(tiny, a, b, shown, not_shown):
    """Red leaves, green comes, amber goes with its identity."""
    found = rules_diff(tiny.folder, a, b, 100)
    data = changes_sheet(tiny.folder, "a and b", found, a, b)
    picture = np.asarray(Image.open(io.BytesIO(data)))[:, MARGIN + 1 : MARGIN + 3].mean(axis=1)

    def rows_of(colour):
        return (np.abs(picture - colour).max(axis=1) < 25).sum()

    assert all(rows_of(colour) > 100 for colour in shown)
    assert not any(rows_of(colour) for colour in not_shown)
    again = changes_sheet(tiny.folder, "a and b", found, a, b)
    assert data == again


def test_a_lost_candidate_leaves_its_place_on_the_sheet(tiny):
    """The numbers and the reason are in the tables."""
    found = rules_diff(tiny.folder, SOFT, HARD, 5)
    for key in "abcd":
        tiny.folder.delete(tiny.store.name(key))
    assert changes_sheet(tiny.folder, "a and b", found, SOFT, HARD)
