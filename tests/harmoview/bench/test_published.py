"""Laws of OpenS2V-Eval's columns."""

import numpy as np
import pytest

from harmoview.bench.published import COLUMN, COLUMNS, NEXUS_STRICT, WEIGHTS, ranks, total


def scaled(column, values):
    return float(column.scaled(np.nanmean(column.clipped(values))))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_sum_to_one(weights):
    """A Total of columns that are all alike is that number."""
    assert sum(WEIGHTS[weights].values()) == pytest.approx(1)
    assert total(dict.fromkeys(COLUMN, 0.4), weights).value == pytest.approx(0.4)


def test_columns_are_scaled_as_opens2v_merges_its_demo():
    """The means of its two demo videos, by column."""
    assert scaled(COLUMN["opens2v_aes"], [4.811809062957764, 5.194509506225586]) == pytest.approx(
        0.3343864281972249
    )
    assert scaled(COLUMN["opens2v_natural"], [4, 10 / 3]) == pytest.approx(2 / 3)
    assert scaled(COLUMN["opens2v_smooth"], [0.8985507246376812, 1]) == pytest.approx(0.94927536)
    assert scaled(COLUMN["opens2v_gme"], [0.68115234375, 0.67236328125]) == pytest.approx(
        0.6767578125
    )
    assert scaled(COLUMN["opens2v_nexus"], [0.01300811767578125]) == pytest.approx(0.26016235)


def test_totals_of_opens2v_demo_are_those_of_its_own_weights():
    """Open .5959962, human .6884788, from the raw values of its two demo videos."""
    raw = {
        "opens2v_natural": [4, 10 / 3],
        "opens2v_aes": [4.811809062957764, 5.194509506225586],
        "opens2v_smooth": [0.8985507246376812, 1],
        "opens2v_amp": [0.35025984048843384, 0.038793787360191345],
        "opens2v_gme": [0.68115234375, 0.67236328125],
        "opens2v_facesim_cur": [0.94201976],  # the mean of both
        "opens2v_nexus": [0.01300811767578125],
    }
    columns = {name: scaled(COLUMN[name], values) for name, values in raw.items()}
    assert total(columns, "open_v1_1").value == pytest.approx(0.5959962, abs=1e-6)
    assert total(columns, "human_v1_1").value == pytest.approx(0.6884788, abs=1e-6)


def test_nexus_drops_videos_without_a_find_and_the_strict_column_counts_them():
    """Raw .02, .04 and 0: 60 of two videos officially, 40 of three strictly."""
    raw = [0.02, 0.04, 0]
    assert scaled(COLUMN["opens2v_nexus"], raw) == pytest.approx(0.60)
    assert scaled(NEXUS_STRICT, raw) == pytest.approx(0.40)


def test_values_beyond_the_range_are_clipped_where_opens2v_clips():
    """AES and Natural at both ends; cosines keep a negative sign, motion loses it."""
    assert COLUMN["opens2v_aes"].clipped([1, 9]).tolist() == [4, 7]
    assert COLUMN["opens2v_natural"].clipped([0, 6]).tolist() == [1, 5]
    assert COLUMN["opens2v_gme"].clipped([-0.2, 1.5]).tolist() == [-0.2, 1]
    assert COLUMN["opens2v_amp"].clipped([-0.2, 1.5]).tolist() == [0.2, 1]


def test_a_total_with_a_column_missing_is_blank_and_says_how_much_is_missing():
    """Weights are never spread over what is there; columns without weight may be missing."""
    columns = {column.name: 50.0 for column in COLUMNS}
    without = {**columns, "opens2v_nexus": None, "opens2v_gme": None}
    found = total(without)
    assert (found.value, found.missing) == (None, pytest.approx(0.32))
    assert found.missing_columns == ("opens2v_gme", "opens2v_nexus")
    assert total({**columns, "opens2v_nexus": None}, "human_v1_1").value == pytest.approx(50)


def test_ranks_share_and_skip_what_has_no_total():
    """The highest is first; equals are equal; a blank Total has no rank."""
    assert ranks([1.0, None, 3.0, 3.0]) == [3, None, 1, 1]
