"""Counts by bins answer what the judge answers, at every stop of every slider."""

from collections import Counter
from dataclasses import replace
from itertools import groupby

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.inspect.report.bins import ABSENT, first_failing, slider_stops, unpack
from dataset.inspect.report.cells import Cells
from dataset.inspect.report.counts import count_pictures, stops_for
from filters.checks import compile_rules, reference_reason
from filters.judge import Judge
from filters.judge_sql import TableJudge
from filters.rules import AestheticRule, ExpressionRule, Rules, SharpnessRule
from filters.rules_file import load_rules, to_toml
from tests.dataset.inspect.report.rows import rows, tables

SFACE = load_rules(
    None, yaws=(-90, -60, -30, 0, 30, 60, 90), recogniser="sface", aesthetic_scorer="brisque"
)
W600K = load_rules(
    None, yaws=(-75, -25, 5, 25, 90), recogniser="w600k_r50", aesthetic_scorer="nima"
)
DATABASE = duckdb.connect(config={"threads": 1})


def cells_of(rules, references, views):
    """The cells of some rows, with every identity held."""
    checks, found = compile_rules(rules), tables(references, views)
    stops = stops_for(checks, *map(arrays, found))
    cells = Cells(checks, stops)
    with DATABASE.cursor() as connection:  # tables of its own
        for name, table in zip(("refs", "views"), found, strict=True):
            connection.register(name, table)
        TableJudge(rules).judge(connection)
        cells.hold(count_pictures(connection, cells, ()).T)
    return cells


def arrays(table):
    scores = [name for name in table.column_names if name not in ("key", "detected", "source")]
    return {name: table[name].to_numpy().astype(float) for name in scores}


def moved(rules, cells, positions):
    """The rules with the sliders at these stops."""
    value, curve = {}, []
    for threshold, stops, at in zip(cells.thresholds, cells.stops, positions, strict=True):
        if threshold.angle is None:
            section, *_, name = threshold.key.split(".")
            value[section, name] = float(stops[at])
        else:
            curve.append((float(threshold.angle), float(stops[at])))
    curve.sort()
    if curve[0][0] != 0:
        curve.insert(0, (0.0, curve[0][1]))
    pose = {name: stop for (section, name), stop in value.items() if section == "pose"}
    return Rules(
        yaws=rules.yaws,
        minimum_views=rules.minimum_views,
        reference_must_pass=rules.reference_must_pass,
        prefer_real=rules.prefer_real,
        real=rules.real,
        sharpness=SharpnessRule(
            *(value["sharpness", name] for name in ("minimum", "ratio", "reference"))
        ),
        expression=ExpressionRule(value["expression", "reference"]),
        aesthetic=AestheticRule(
            rules.aesthetic.scorer, value["aesthetic", "minimum"], value["aesthetic", "reference"]
        ),
        pose=replace(rules.pose, **pose),
        identity=replace(rules.identity, curve=tuple(curve)),
        windows=rules.windows,
    )


def judged(rules, references, views):
    """What the judge says: by yaw (None: references) the count of every reason."""
    judge, found = Judge(rules), {yaw: Counter() for yaw in (None, *rules.yaws)}
    for key, own in groupby(references, key=lambda row: row["key"]):
        mine = [row for row in views if row["key"] == key]
        for identity in judge.rows(list(own), mine).identities:
            reason = identity.reference.reason
            found[None][reason and reference_reason(reason)] += 1
            for yaw, verdict in identity.views.items():
                found[yaw][verdict.reason] += 1
    return found


def binned(cells, positions):
    """The same from the cells."""
    found = {}
    groups = zip(cells.groups, cells.codes, cells.counts, cells.levels(positions), strict=True)
    for group, codes, counts, levels in groups:
        names = [check.reason for check in group.checks]
        if group.yaw is None:
            names = [*map(reference_reason, names)]
        fates = first_failing(unpack(codes, len(names)), levels)
        found[group.yaw] = Counter()
        for fate, count in zip(fates, counts, strict=True):
            found[group.yaw][[*names, None][fate]] += int(count)
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
    cells = cells_of(rules, references, views)
    if thinner:
        cells.shrink(60)
    positions = [data.draw(st.integers(0, len(stops) - 1)) for stops in cells.stops]
    changed = moved(rules, cells, positions)
    assert binned(cells, positions) == judged(changed, references, views)


ODD = replace(SFACE, pose=replace(SFACE.pose, tolerance=0.4, profile_minimum=89.5, pitch=0.5))


@pytest.mark.parametrize("rules", [SFACE, W600K, ODD])
def test_the_rules_own_thresholds_are_stops_for_ever(rules):
    """The report starts at them, however few stops are left."""
    cells = cells_of(rules, *rows(1, 60, rules.yaws))
    before = len(cells)
    cells.shrink(0)
    assert len(cells) < before
    for threshold, stops in zip(cells.thresholds, cells.stops, strict=True):
        assert threshold.value in stops


def test_identities_that_are_held_have_cells_that_are_counted():
    """Also after thinning: their codes are recoded with the cells."""
    cells = cells_of(SFACE, *rows(2, 60))
    cells.shrink(100)
    for column, codes, counts in zip(cells.held.T, cells.codes, cells.counts, strict=True):
        found = np.unique(column[column != ABSENT], return_counts=True)
        np.testing.assert_array_equal(found, (codes, counts))


@given(st.floats(-0.9, 0.9), st.floats(1e-7, 1.0))
def test_stops_of_the_identity_curve_are_what_the_rules_read(middle, width):
    """However close the cosines of a run lie: the rules round the curve."""
    (threshold,) = [t for t in compile_rules(SFACE).thresholds if t.angle == 30]
    threshold = replace(threshold, value=round(middle, 4))
    stops = slider_stops(threshold, np.linspace(middle - width, middle + width, 50))
    assert threshold.value in stops
    assert len(set(stops)) == len(stops) <= 31
    for stop in stops:
        assert replace(SFACE.identity, curve=((0.0, stop),)).threshold(30) == stop


@pytest.mark.parametrize("rules", [SFACE, W600K])
def test_a_rules_file_may_hold_every_stop(rules, tmp_path):
    """Whatever the page offers, `--rules` takes."""
    cells = cells_of(rules, *rows(3, 40, rules.yaws))
    for last in (False, True):
        changed = moved(rules, cells, [last * (len(stops) - 1) for stops in cells.stops])
        (tmp_path / "rules.toml").write_text(to_toml(changed))
        names = {
            "recogniser": rules.identity.recogniser,
            "aesthetic_scorer": rules.aesthetic.scorer,
        }
        assert load_rules(tmp_path / "rules.toml", yaws=rules.yaws, **names) == changed
