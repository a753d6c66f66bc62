"""Laws of tables and differences, on scores that are made up."""

import dataclasses

import numpy as np
import pytest

from datapipe.errors import UserError
from harmoview.bench.published import COLUMN, COLUMNS, WEIGHT_SETS
from harmoview.bench.results import collect
from harmoview.bench.statistics import case_weights, identity_weights, interval
from harmoview.bench.table import TOTAL, Resampling, compare, table
from tests.harmoview.bench.suites import case

CASES = [case(f"c{k}", (f"p{k % 3}",)) for k in range(8)]
FEW = Resampling(resamples=400)


def row(method, case, metric, value, **more):
    fields = {
        "suite_sha256": "s", "method": method, "case": case, "seed": 0, "identity": "",
        "metric": metric, "variant": "", "value": value, "status": "ok", "reason": "",
        "model_sha256": "",
    }  # fmt: skip
    return {**fields, **more}


def published(method, shift=0.0, seed=0):
    """Plausible values of all seven columns in every case; FaceSim shifted."""
    rng = np.random.default_rng(seed)
    ranges = {
        "opens2v_natural": (2, 4.5), "opens2v_aes": (4.5, 6.5), "opens2v_smooth": (0.8, 1),
        "opens2v_amp": (0.1, 0.5), "opens2v_gme": (0.5, 0.7), "opens2v_facesim_cur": (0.3, 0.7),
        "opens2v_nexus": (0.01, 0.04),
    }  # fmt: skip
    return [
        row(method, one.id, metric, rng.uniform(*ends) + shift * (metric == "opens2v_facesim_cur"))
        for one in CASES
        for metric, ends in ranges.items()
    ]


def results(*rows, cases=CASES):
    return collect([one for some in rows for one in some], cases, "s")


def test_a_column_is_the_mean_in_points_and_the_total_their_weighted_sum():
    """Clip, mean, scale, times 100; .24 Natural and so on."""
    rows = published("a")
    found = table(results(rows), resampling=FEW)[0]
    for column in COLUMNS:
        values = [one["value"] for one in rows if one["metric"] == column.name]
        mean = np.mean(np.clip(values, column.low, column.high))
        want = 100 * (mean - column.low) / (column.high - column.low)
        assert found.cells[column.name].value == pytest.approx(want)
        assert found.cells[column.name].n == len(CASES)
    weights = (0.24, 0.16, 0.06, 0.02, 0.12, 0.20, 0.20)
    values = [found.cells[column.name].value for column in COLUMNS]
    assert found.totals["open_v1_1"].value == pytest.approx(np.dot(weights, values))
    interval = found.totals["open_v1_1"].interval
    assert interval.low < found.totals["open_v1_1"].value < interval.high


def test_a_gain_in_every_case_is_that_gain_without_doubt():
    """B is A with .05 more FaceSim everywhere: Total +1.00 [1.00, 1.00]."""
    both = results(published("a"), published("b", shift=0.05))
    difference = next(one for one in compare(both, "a", "b") if one.column == TOTAL)
    assert difference.difference == pytest.approx(1.0)
    assert (difference.interval.low, difference.interval.high) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("cluster", ["case", "identity"])
def test_one_case_or_one_person_gives_no_interval(cluster):
    """Nothing can be resampled then: blank, not a point that claims certainty."""
    alone = [case("c0", ("p0",)), *([case("c1", ("p0",))] if cluster == "identity" else [])]
    rows = [one for one in published("a") + published("b", 0.05) if one["case"] in ("c0", "c1")]
    few = Resampling(cluster=cluster, resamples=50)
    found = results([row for row in rows if row["case"] in {one.id for one in alone}], cases=alone)
    first = table(found, resampling=few)[0]
    assert first.totals["open_v1_1"].value is not None
    assert first.totals["open_v1_1"].interval is None
    assert {cell.interval for cell in first.cells.values()} == {None}
    assert {one.interval for one in compare(found, "a", "b", resampling=few)} == {None}


def test_exchanging_the_methods_changes_every_sign_exactly():
    """Differences and both ends of their intervals, in every column and the Total."""
    both = results(published("a"), published("b", seed=1))
    for one, other in zip(
        compare(both, "a", "b", resampling=FEW),
        compare(both, "b", "a", resampling=FEW),
        strict=True,
    ):
        if one.difference is None:
            assert other.difference is None
            continue
        assert other.difference == -one.difference
        assert (other.interval.low, other.interval.high) == (-one.interval.high, -one.interval.low)
        assert (other.higher, other.lower) == (one.lower, one.higher)


def test_only_videos_that_both_have_are_compared():
    """A case that only one method has does not count."""
    rows = published("b", seed=1)
    kept = [one for one in rows if one["case"] != "c0"]
    found = compare(results(published("a"), kept), "a", "b", resampling=FEW)
    assert {one.n for one in found if one.column in COLUMN} == {len(CASES) - 1}


def test_nexus_officially_drops_zeros_and_strictly_counts_them():
    """Raw .02, .04 and 0: 60.00 of 2 videos, 40.00 of 3."""
    rows = [row("a", f"c{k}", "opens2v_nexus", value) for k, value in enumerate([0.02, 0.04, 0])]
    cells = table(results(rows), resampling=FEW)[0].cells
    assert (cells["opens2v_nexus"].value, cells["opens2v_nexus"].n) == (pytest.approx(60), 2)
    assert cells["opens2v_nexus_strict"].value == pytest.approx(40)
    assert cells["opens2v_nexus_strict"].n == 3


def test_a_total_without_all_its_columns_is_blank_and_says_what_is_missing():
    """Nothing is spread over the columns that are there."""
    rows = [one for one in published("a") if one["metric"] != "opens2v_nexus"]
    rows += [
        row("a", one.id, "opens2v_nexus", None, status="missing_weights", reason="no weights")
        for one in CASES
    ]
    found = table(results(rows), resampling=FEW)[0]
    assert found.totals["open_v1_1"].value is None
    assert found.missing["open_v1_1"] == pytest.approx(0.2)
    assert found.totals["human_v1_1"].value is not None
    data = found.as_dict("open_v1_1")
    assert (data["total"], data["missing_weight"]) == (None, pytest.approx(0.2))
    assert data["missing_columns"] == ["opens2v_nexus"]
    assert (data["n"]["opens2v_nexus"], data["interval"]["opens2v_nexus"]) == (0, None)


def test_json_of_a_method_has_every_column_with_n_and_interval():
    """One flat object: values by column, and n and interval by the same names."""
    rows = published("a")
    rows += [row("a", "c1", "hv_face_view", 0.9, identity="p1", variant="15-45")]
    data = table(results(rows), resampling=FEW)[0].as_dict("open_v1_1")
    columns = {*COLUMN, "total", "opens2v_nexus_strict", "hv_face_view[15-45]"}
    assert columns <= set(data)
    assert set(data["n"]) == set(data["interval"]) == columns
    assert set(data["rank"]) == set(WEIGHT_SETS)
    assert data["hv_face_view[15-45]"] == 0.9


def test_results_of_different_suites_do_not_share_a_table():
    """One row of another suite is enough."""
    rows = published("a")
    rows[3]["suite_sha256"] = "another"
    with pytest.raises(UserError, match="different suites"):
        results(rows)


def test_a_score_measured_here_goes_before_an_imported_one():
    """And any value before none, in whatever order they are read."""
    own = row("a", "c0", "opens2v_gme", 0.5, model_sha256="abc")
    imported = row("a", "c0", "opens2v_gme", 0.9, model_sha256="imported:abc")
    none = row("a", "c0", "opens2v_gme", None, status="missing_weights")
    for rows in ([own, imported], [imported, own]):
        assert results(rows).values["a", "opens2v_gme"] == {("c0", 0): [0.5]}
    assert results([none, imported]).values["a", "opens2v_gme"] == {("c0", 0): [0.9]}


def test_tables_do_not_depend_on_the_order_of_rows_or_of_methods():
    """The same numbers to the last bit."""
    rows = [*published("a"), *published("b", seed=1)]
    one = table(results(rows), resampling=FEW)
    other = table(results(rows[::-1]), resampling=FEW)
    assert [dataclasses.astuple(x) for x in one] == [dataclasses.astuple(x) for x in other]
    alone = table(results(published("b", seed=1)), resampling=FEW)
    assert alone[0].cells == one[1].cells


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 200 samples of 30 cases, the mean's interval misses it in some 5 %."""
    rng = np.random.default_rng(0)
    drawn, missed = case_weights(30, 0, 500), 0
    for _ in range(200):
        values = rng.normal(0.3, 1, 30)
        found = interval(drawn @ values / 30)
        missed += not found.low <= 0.3 <= found.high
    assert 3 <= missed <= 24


def test_cases_that_share_a_person_widen_the_interval_by_identity():
    """Where a person decides the value, ten cases of two people are two observations."""
    people = [("p0",)] * 5 + [("p1",)] * 5
    values = np.array([0.0] * 5 + [1.0] * 5)

    def width(drawn):
        found = interval((drawn @ values) / drawn.sum(axis=1))
        return found.high - found.low

    assert width(identity_weights(people, 0, 2000)) > 1.4 * width(case_weights(10, 0, 2000))


def test_a_case_of_two_people_counts_as_often_as_they_do_on_average():
    """Its weight is the mean of theirs; each identity is drawn as often as there are identities."""
    drawn = identity_weights([("a",), ("b",), ("a", "b")], 0, 50)
    assert drawn[:, 2] == pytest.approx(drawn[:, :2].mean(axis=1))
    assert drawn[:, :2].sum(axis=1) == pytest.approx(2)


def test_an_unknown_method_is_named_with_those_there_are():
    """Exit with a sentence, not a table of blanks."""
    with pytest.raises(UserError, match="of these there are: a"):
        compare(results(published("a")), "a", "c")
