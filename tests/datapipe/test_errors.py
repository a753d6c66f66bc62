"""Settings out of their range are refused by the name of their option."""

import contextlib
import math
from dataclasses import make_dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import check_range

NUMBERS = st.none() | st.integers(-9, 9) | st.floats(allow_nan=False)
BOUNDS = st.fixed_dictionaries(
    {}, optional={name: st.integers(-9, 9) for name in ("least", "above", "most", "under")}
)


def settings(value):
    return make_dataclass("Made", ["some_value"])(value)


@given(value=NUMBERS, bounds=BOUNDS)
def test_exactly_what_is_within_the_bounds_passes(value, bounds):
    """None is what is not given, and passes."""
    inside = value is None or (
        bounds.get("least", -math.inf) <= value <= bounds.get("most", math.inf)
        and ("above" not in bounds or value > bounds["above"])
        and ("under" not in bounds or value < bounds["under"])
    )
    with contextlib.nullcontext() if inside else pytest.raises(ValueError, match="some-value"):
        check_range(settings(value), "some_value", **bounds)


@pytest.mark.parametrize(
    ("option", "shown"),
    [("--", "--some-value "), ("--part.", "--part.some-value "), ("", "some_value ")],
)
def test_a_message_names_the_option_as_it_is_typed(option, shown):
    """Or the field, where there is no option."""
    with pytest.raises(ValueError, match=f"^{shown}must be at least 1 and finite, not 0$"):
        check_range(settings(0), "some_value", least=1, under=math.inf, option=option)


def test_what_is_not_a_number_is_in_no_range():
    """NaN compares with nothing."""
    with pytest.raises(ValueError, match="nan"):
        check_range(settings(math.nan), "some_value", least=0)
