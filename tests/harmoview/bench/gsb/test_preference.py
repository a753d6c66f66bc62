"""Laws of preferences between methods."""

import numpy as np
import pytest

from harmoview.bench.gsb.preference import (
    bradley_terry,
    elo,
    holm,
    power,
    preference,
    sign_test,
    wilson,
)


def test_the_specified_shares_and_tests():
    """Net, win rate, Wilson's interval, the sign test, and what 100 cases can show."""
    found = preference(["G", "G", "S", "S"])
    assert (found.net, found.win_rate) == (0.5, 0.75)
    assert wilson(55, 80) == pytest.approx((0.5793, 0.7785), abs=5e-5)
    assert sign_test(55, 25) == pytest.approx(0.00105, abs=5e-6)
    assert power(100) == (61, pytest.approx(0.0352, abs=5e-5), pytest.approx(0.0569, abs=5e-5))


def test_strengths_recover_what_the_wins_were_made_of():
    """Wins 40:20, 48:12, 40:20 are strengths 4:2:1, 120.41 Elo apart."""
    wins = np.array([[0, 40, 48], [20, 0, 40], [12, 20, 0.0]])
    strength = bradley_terry(wins)
    assert strength / strength[2] == pytest.approx([4, 2, 1])
    assert -np.diff(elo(strength)) == pytest.approx([120.41, 120.41], abs=0.005)


def test_a_method_that_won_everything_stays_finite_and_first():
    """Half a win on either side keeps the strengths finite; their order is that of the wins."""
    strength = bradley_terry(np.array([[0, 10, 10], [0, 0, 7], [0, 3, 0.0]]))
    assert np.isfinite(strength).all()
    assert strength[0] > strength[1] > strength[2]


def test_exchanging_the_methods_exchanges_good_and_bad():
    """Net changes its sign, the win rate becomes its complement, p stays."""
    votes = ["G", "G", "S", "B", "G", None]
    one = preference(votes)
    other = preference([{"G": "B", "B": "G"}.get(vote, vote) for vote in votes])
    assert other.net == -one.net
    assert other.win_rate == pytest.approx(1 - one.win_rate)
    assert other.p == one.p
    assert one.good + one.same + one.bad == 5


def test_no_votes_say_nothing():
    """Shares of nothing are missing; the test has p 1."""
    found = preference([None])
    assert (found.net, found.win_rate, found.odds, found.decided, found.p) == (*[None] * 4, 1.0)


def test_asking_several_times_makes_p_larger_and_keeps_the_order():
    """Holm: the smallest p times the number of questions, then never decreasing, at most 1."""
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9})


def test_few_cases_can_show_nothing():
    """Five cases without ties are never significant, six are if all are won."""
    assert power(5)[0] == 6
    assert power(6)[0] == 6
