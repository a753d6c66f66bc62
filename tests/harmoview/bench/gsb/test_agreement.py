"""Laws of agreement between raters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoview.bench.gsb.agreement import (
    NO_VOTE,
    as_votes,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    percent_agreement,
    split,
)

FOUR = as_votes([list("GGG"), list("GGS"), list("SSB"), list("GSB")])
matrices = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=raters, max_size=raters),
        min_size=2,
        max_size=12,
    )
)


def test_the_specified_values():
    """Ordinal and nominal alpha, kappa and majority of four items by three raters."""
    assert krippendorff_alpha(FOUR, "ordinal") == pytest.approx(0.3660, abs=5e-5)
    assert krippendorff_alpha(FOUR, "nominal") == pytest.approx(0.1250, abs=5e-5)
    assert fleiss_kappa(FOUR) == pytest.approx(0.0455, abs=5e-5)
    assert majority(FOUR) == ["G", "G", "S", "S"]
    assert split(FOUR) == 1


def test_agreement_is_full_or_none_at_the_ends():
    """Raters who always agree have 1; a constant grade tells nothing."""
    same = as_votes([["G"] * 3, ["B"] * 3])
    assert krippendorff_alpha(same, "ordinal") == krippendorff_alpha(same, "nominal") == 1
    assert fleiss_kappa(same) == percent_agreement(same) == 1
    constant = as_votes([["S"] * 3] * 4)
    assert krippendorff_alpha(constant, "ordinal") is None
    assert fleiss_kappa(constant) is None


def test_random_votes_agree_by_chance():
    """Alpha and kappa of many random votes are about 0."""
    votes = np.random.default_rng(0).integers(0, 3, (4000, 3))
    for value in (
        krippendorff_alpha(votes, "ordinal"),
        krippendorff_alpha(votes, "nominal"),
        fleiss_kappa(votes),
    ):
        assert abs(value) < 0.03


def test_near_misses_count_less_on_the_ordinal_scale():
    """G against S is a smaller disagreement than G against B."""
    near = as_votes([["G", "S"], ["B", "B"], ["S", "S"], ["G", "G"]])
    far = as_votes([["G", "B"], ["B", "B"], ["S", "S"], ["G", "G"]])
    assert krippendorff_alpha(near, "ordinal") > krippendorff_alpha(far, "ordinal")


@given(matrices)
def test_raters_and_items_may_come_in_any_order(rows):
    """Agreement does not depend on who is which rater, or on the order of items."""
    votes = np.array(rows)
    shuffled = votes[::-1, ::-1]
    for level in ("ordinal", "nominal"):
        a, b = krippendorff_alpha(votes, level), krippendorff_alpha(shuffled, level)
        assert (a is None and b is None) or a == pytest.approx(b)
        assert a is None or a <= 1 + 1e-12


@given(matrices)
def test_a_grade_lies_between_the_votes(rows):
    """The majority is within the votes of its item, and missing only where all are missing."""
    votes = np.array(rows)
    for row, grade in zip(votes, majority(votes), strict=True):
        present = row[row != NO_VOTE]
        assert (grade is None) == (len(present) == 0)
        if grade is not None:
            assert present.min() <= "BSG".index(grade) <= present.max()


@pytest.mark.parametrize(
    "bad", [[], [[]], [["G", "X"]], [["G"], ["G", "S"]], [["G", 1]], [[["G"], "S"]]]
)
def test_what_is_no_matrix_of_votes_is_refused(bad):
    """Other letters, ragged rows and nothing at all raise ValueError."""
    with pytest.raises(ValueError, match=r"vote|raters"):
        as_votes(bad)
