"""The rules as checks: complete, in one order, and movable without surprises."""

from dataclasses import asdict, replace

import duckdb
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datapipe.record import YAWS, Scores, Window
from datapipe.run.rows import WINDOWS
from filters.checks import VIEW_REASONS, Threshold, compile_rules
from filters.judge import Judge
from filters.judge_sql import TableJudge
from filters.rules import (
    AestheticRule,
    ExpressionRule,
    IdentityRule,
    PoseRule,
    RealViewRule,
    Rules,
    SharpnessRule,
    WindowRule,
)
from filters.rules_file import load_rules, settings

some_yaws = st.sets(st.integers(-90, 90), max_size=8).map(lambda yaws: {0} | yaws)


DEFAULTS = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")


@st.composite
def any_window_rule(draw):
    few = st.sampled_from([0.0, 1.0, 2.5, 60.0])
    return WindowRule(
        draw(few), draw(few), draw(few), draw(st.integers(0, 3)),
        draw(st.sampled_from([0.0, 0.2])), draw(few),
    )  # fmt: skip


@st.composite
def any_window(draw):
    """A row of the windows table, at the thresholds and beside them."""
    few = st.sampled_from([0.0, 1.0, 2.5, 60.0, 61.0])
    start = draw(few)
    window = Window(
        start=start, end=start + draw(few), shot=0, frames_seen=1,
        face_size=draw(few), face_min=draw(few), left=0.0, top=0.0, right=9.0, bottom=9.0,
        yaw_low=-draw(few), yaw_median=0.0, yaw_high=draw(few), motion=0.0,
        others=draw(st.integers(0, 4)), together=0.0,
        sharpness=draw(st.sampled_from([None, 0.1, 0.2, 0.3])),
    )  # fmt: skip
    return {"key": "a", "identity": 0, **asdict(window)}


@st.composite
def any_rules(draw, yaws=None):
    """Rules for any yaws, with any reach of the recogniser; 0 is always there to rest on."""
    yaws = draw(some_yaws) if yaws is None else yaws
    verified = draw(st.floats(0, 90))
    angles = [0, *sorted(draw(st.sets(st.integers(1, 90), max_size=3)))]
    score = st.floats(0, 1)
    identity = IdentityRule(
        "any",
        curve=tuple((angle, draw(score)) for angle in angles),
        verified_to=verified,
        judged_to=draw(st.floats(verified, 90)),
    )
    return Rules(
        yaws=tuple(sorted(yaws)),
        minimum_views=draw(st.integers(1, len(yaws))),
        reference_must_pass=draw(st.booleans()),
        prefer_real=draw(st.booleans()),
        real=RealViewRule(draw(st.floats(0.1, 45)), draw(score), draw(score), draw(score)),
        sharpness=SharpnessRule(draw(score), draw(score), draw(score)),
        expression=ExpressionRule(draw(score)),
        aesthetic=AestheticRule("any", draw(score), draw(score)),
        pose=PoseRule(
            tolerance=draw(st.floats(0.1, 45)),
            profile_minimum=draw(st.floats(45, 89)),
            pitch=draw(st.floats(0.1, 90)),
            roll=draw(st.floats(0.1, 180)),
            level_to=draw(st.floats(0, 89)),
        ),
        identity=identity,
        windows=draw(any_window_rule()),
    )


@given(st.lists(any_window(), max_size=8), any_window_rule())
def test_tables_of_windows_are_judged_as_single_ones(rows, rule):
    """In SQL and in Python alike; what is not asked for is not looked at."""
    rules = replace(DEFAULTS, windows=rule)
    with duckdb.connect() as connection:
        connection.register("windows", pa.Table.from_pylist(rows, schema=WINDOWS))
        TableJudge(rules).judge_windows(connection)
        found = connection.sql("SELECT reason FROM judged_windows").fetchall()
    verdicts = [Judge(rules).window(row) for row in rows]
    assert [reason for (reason,) in found] == [verdict.reason for verdict in verdicts]
    assert all(bool(verdict.detail) is not verdict.passed for verdict in verdicts)
    easy = replace(rules, windows=WindowRule(0, 0, 0, 99, 0, 0))
    assert all(Judge(easy).window(row).passed for row in rows)


@given(any_rules())
def test_every_picture_is_checked_in_the_order_of_the_reasons(rules):
    """So a table may be judged test by test instead of view by view."""
    checks = compile_rules(rules)
    assert list(checks.views) == sorted(rules.yaws)
    for own in (checks.reference, *(view.own for view in checks.views.values())):
        order = (*VIEW_REASONS, "expression")  # of references, last
        places = [order.index(check.reason) for check in own]
        assert places == sorted(places)
        assert {check.column for check in own} <= set(Scores.__dataclass_fields__)


@given(any_rules())
def test_a_view_rests_on_checks_that_nearer_views_have(rules):
    """On its own side, ever nearer to 0, and on nothing that is not tested there anyway."""
    views = compile_rules(rules).views
    for yaw, view in views.items():
        way = [yaw, *(check.yaw for check in view.nearer)]
        assert way == sorted(way, key=abs, reverse=True)
        assert all(yaw * nearer >= 0 for nearer in way)
        for check in view.nearer:
            assert replace(check, reason="identity") in views[check.yaw].own


@given(any_rules())
def test_every_threshold_is_a_number_of_the_rules_file(rules):
    """Under its key, with the value that the file has; the curve's where it is read."""
    values = settings(rules)
    for threshold in compile_rules(rules).thresholds:
        if threshold.angle is None:
            assert values[threshold.key] == threshold.value
        else:
            assert threshold.key in values
            assert rules.identity.threshold(threshold.angle) == threshold.value


@given(
    comparison=st.sampled_from(["at_least", "at_most", "around", "beyond"]),
    yaw=st.integers(-90, 90),
    values=st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted),
    score=st.floats(-200, 200),
)
def test_what_passes_a_stricter_threshold_passes_a_looser_one(comparison, yaw, values, score):
    """So a picture passes all stops of a slider up to one, and none beyond."""
    threshold = Threshold("key", 0.0, comparison, "Section", "Title")
    loose, strict = values if threshold.rejects_upwards else values[::-1]
    low, high = threshold.bounds(yaw, strict)
    if low <= score <= high:
        low, high = threshold.bounds(yaw, loose)
        assert low <= score <= high
