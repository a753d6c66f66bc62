"""Counts by bins answer what the judge answers, at every stop of every slider."""

from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.inspect.report.bins import choose_stops, first_failing, strictness, unpack
from dataset.inspect.report.cells import ABSENT, Joint
from dataset.inspect.report.count import _count_part, code_identities
from dataset.inspect.report.histograms import compared
from dataset.inspect.report.segments import identities
from filters.judge import Judge
from filters.rules import AestheticRule, Rules, SharpnessRule
from filters.rules_file import load_rules, to_toml
from jobs.report import plan_of
from tests.dataset.inspect.report.rows import rows, tables

SFACE = load_rules(
    None, yaws=(-90, -60, -30, 0, 30, 60, 90), recogniser="sface", aesthetic_scorer="brisque"
)
W600K = load_rules(
    None, yaws=(-75, -25, 5, 25, 90), recogniser="w600k_r50", aesthetic_scorer="nima"
)


def joint_of(rules, references, views):
    plan = plan_of(rules)
    part = identities([tables(references, views)], ["one"], plan.yaws)
    chosen = zip(plan.thresholds, compared(plan, part), strict=True)
    joint = Joint(plan, [choose_stops(*pair) for pair in chosen])
    codes = code_identities(joint, part)
    _count_part(joint, codes)
    joint.hold(codes)
    joint.finish(10**9)
    return joint


def moved(rules, joint, positions):
    """The rules with the sliders at these stops."""
    value = {
        threshold.path: float(stops[at])
        for threshold, stops, at in zip(joint.plan.thresholds, joint.stops, positions, strict=True)
    }
    angles = sorted(path[2] for path in value if path[1] == "curve")
    curve = [(float(angle), value["identity", "curve", angle]) for angle in angles]
    if curve[0][0] != 0:
        curve.insert(0, (0.0, curve[0][1]))
    pose = {path[1]: stop for path, stop in value.items() if path[0] == "pose"}
    return Rules(
        yaws=rules.yaws,
        minimum_views=rules.minimum_views,
        reference_must_pass=rules.reference_must_pass,
        sharpness=SharpnessRule(value["sharpness", "minimum"], value["sharpness", "ratio"]),
        aesthetic=AestheticRule(
            rules.aesthetic.scorer, value["aesthetic", "minimum"], value["aesthetic", "reference"]
        ),
        pose=replace(rules.pose, **pose),
        identity=replace(rules.identity, curve=tuple(curve)),
    )


def judged(rules, references, views):
    """What the judge says: by yaw (None: references) the count of every reason."""
    judge, found = Judge(rules), {yaw: Counter() for yaw in (None, *rules.yaws)}
    for key, own in groupby(references, key=lambda row: row["key"]):
        mine = [row for row in views if row["key"] == key]
        for identity in judge.rows(list(own), mine).identities:
            reason = identity.reference.reason
            found[None][reason and f"reference_{reason}"] += 1
            for yaw, verdict in identity.views.items():
                found[yaw][verdict.reason] += 1
    return found


def binned(joint, positions):
    """The same from the joint counts."""
    levels = [
        strictness(threshold, stops, at)
        for threshold, stops, at in zip(joint.plan.thresholds, joint.stops, positions, strict=True)
    ]
    found = {}
    for yaw, group in zip((None, *joint.plan.yaws), joint.groups, strict=True):
        first = "not_detected" if yaw is not None else "reference_not_detected"
        names = (first, *(check.reason for check in group.checks), None)
        at = [levels[check.threshold] for check in group.checks]
        fates = first_failing(unpack(group.codes, len(group.checks)), at)
        found[yaw] = Counter()
        for fate, count in zip(fates, group.counts, strict=True):
            found[yaw][names[fate]] += int(count)
    return found


@settings(max_examples=25)
@given(
    rules=st.sampled_from([SFACE, W600K]),
    seed=st.integers(0, 99),
    thinner=st.booleans(),
    data=st.data(),
)
def test_every_stop_gives_the_judges_counts(rules, seed, thinner, data):
    """Wherever the sliders stand, also after stops were taken away to make the report small."""
    references, views = rows(seed, 30, rules.yaws)
    joint = joint_of(rules, references, views)
    if thinner:
        joint.shrink(60)
    positions = [data.draw(st.integers(0, len(stops) - 1)) for stops in joint.stops]
    changed = moved(rules, joint, positions)
    assert binned(joint, positions) == judged(changed, references, views)


ODD = replace(SFACE, pose=replace(SFACE.pose, tolerance=0.4, profile_minimum=89.5, pitch=0.5))


@pytest.mark.parametrize("rules", [SFACE, W600K, ODD])
def test_the_rules_own_thresholds_are_stops_for_ever(rules):
    """The report starts at them, however few stops are left."""
    joint = joint_of(rules, *rows(1, 60, rules.yaws))
    before = joint.cells
    joint.shrink(0)
    assert joint.cells < before
    for threshold, stops in zip(joint.plan.thresholds, joint.stops, strict=True):
        assert threshold.value in stops


def test_identities_that_are_held_have_cells_that_are_counted():
    """Also after thinning: their codes are recoded with the cells."""
    joint = joint_of(SFACE, *rows(2, 60))
    joint.shrink(100)
    for column, group in zip(joint.sampled.T, joint.groups, strict=True):
        codes, counts = np.unique(column[column != ABSENT], return_counts=True)
        assert (codes == group.codes).all()
        assert (counts == group.counts).all()


@given(st.floats(-0.9, 0.9), st.floats(1e-7, 1.0))
def test_stops_of_the_identity_curve_are_what_the_rules_read(middle, width):
    """However close the cosines of a run lie: the rules round the curve."""
    (threshold,) = [t for t in plan_of(SFACE).thresholds if t.path == ("identity", "curve", 30)]
    threshold = replace(threshold, value=round(middle, 4))
    stops = choose_stops(threshold, np.linspace(middle - width, middle + width, 50))
    assert threshold.value in stops
    assert len(set(stops)) == len(stops) <= 31
    for stop in stops:
        assert replace(SFACE.identity, curve=((0.0, stop),)).threshold(30) == stop


@pytest.mark.parametrize("rules", [SFACE, W600K])
def test_a_rules_file_may_hold_every_stop(rules, tmp_path):
    """Whatever the page offers, `--rules` takes."""
    joint = joint_of(rules, *rows(3, 40, rules.yaws))
    names = {"recogniser": rules.identity.recogniser, "aesthetic_scorer": rules.aesthetic.scorer}
    for last in (False, True):
        changed = moved(rules, joint, [last * (len(stops) - 1) for stops in joint.stops])
        (tmp_path / "rules.toml").write_text(to_toml(changed))
        names = {
            "recogniser": rules.identity.recogniser,
            "aesthetic_scorer": rules.aesthetic.scorer,
        }
        assert load_rules(tmp_path / "rules.toml", yaws=rules.yaws, **names) == changed
