"""The curriculum: which views are shown, how often, and that it never depends on luck."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harmoview.curriculum import PHASES, GuidanceDropout, Phase, ViewDropout, shown, uniform

ALL = [True] * 7
FRONTAL = 3
NEVER = GuidanceDropout(0, 0, 0)
SAMPLES = 4000


def views(phase, key, available=ALL, seed=0, epoch=0):
    return shown(phase, [available], frontal=FRONTAL, seed=seed, key=key, epoch=epoch).views[0]


def undisturbed(number):
    phase = PHASES[number - 1]
    return replace(phase, guidance=NEVER)


def test_the_four_phases_show_what_the_paper_says():
    """1: the frontal alone. 2: the frontal alone or all. 3: from 1 to 7. 4: fewer left out."""
    drawn = {n: [views(undisturbed(n), f"k{k}") for k in range(500)] for n in range(1, 5)}
    alone = tuple(slot == FRONTAL for slot in range(7))
    assert set(drawn[1]) == {alone}
    assert set(drawn[2]) == {alone, tuple(ALL)}
    assert {sum(one) for one in drawn[3]} == set(range(1, 8))
    mean = {n: sum(map(sum, drawn[n])) / 500 for n in (3, 4)}
    assert mean[4] > mean[3] + 1
    assert [phase.data for phase in PHASES] == [
        "single_view",
        "multi_view",
        "multi_view",
        "curated",
    ]


def test_the_frontal_view_stays_except_in_phase_three():
    """Phases 1, 2 and 4 always show it; phase 3 treats it as any other view."""
    for number in (1, 2, 4):
        assert all(views(undisturbed(number), f"k{k}")[FRONTAL] for k in range(300))
    assert not all(views(undisturbed(3), f"k{k}")[FRONTAL] for k in range(300))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_numbers_of_views_have_the_phases_weights(number):
    """Chi-square of the number of views over 4,000 samples."""
    phase = undisturbed(number)
    seen = Counter(sum(views(phase, f"sample{k}")) for k in range(SAMPLES))
    weights = phase.views.counts
    assert set(seen) == set(weights)
    expected = [SAMPLES * weights[n] / sum(weights.values()) for n in sorted(weights)]
    assert stats.chisquare([seen[n] for n in sorted(weights)], expected).pvalue > 0.01


@pytest.mark.parametrize(("count", "keep"), [(3, False), (3, True), (6, False)])
def test_all_sets_of_a_size_are_equally_likely(count, keep):
    """Chi-square over the sets of slots, with the frontal view free or kept."""
    phase = Phase("multi_view", ViewDropout({count: 1.0}, keep), 1, 1.0, guidance=NEVER)
    seen = Counter(views(phase, f"sample{k}") for k in range(SAMPLES))
    others = [s for s in range(7) if not (keep and s == FRONTAL)]
    sets = [set(c) | ({FRONTAL} if keep else set()) for c in combinations(others, count - keep)]
    observed = [seen[tuple(s in chosen for s in range(7))] for chosen in sets]
    assert sum(observed) == SAMPLES
    assert stats.chisquare(observed).pvalue > 0.01


def test_guidance_dropout_has_its_shares_and_they_exclude_each_other():
    """5 % without references, 5 % without text, 5 % without both (chi-square)."""
    draws = [
        shown(PHASES[1], [ALL], frontal=FRONTAL, seed=0, key=f"s{k}", epoch=0)
        for k in range(SAMPLES)
    ]
    cases = Counter((any(one.views[0]), one.text) for one in draws)
    observed = [
        cases[case] for case in [(False, True), (True, False), (False, False), (True, True)]
    ]
    assert stats.chisquare(observed, [200, 200, 200, 3400]).pvalue > 0.01


@given(st.lists(st.booleans(), min_size=7, max_size=7), st.integers(0, 10**6))
def test_only_available_views_are_shown_and_as_many_as_drawn(available, number):
    """Missing views stay missing; what is there fills the number, however few there are."""
    phase = undisturbed(3)
    one = views(phase, f"k{number}", available)
    complete = views(phase, f"k{number}")
    assert all(there for there, shows in zip(available, one, strict=True) if shows)
    assert sum(one) == min(sum(available), sum(complete))


def test_sampling_is_a_pure_function_of_seed_key_and_epoch():
    """Repeated it is the same; each of the three changes it; identities are drawn apart."""
    phase = undisturbed(3)
    many = [f"k{k}" for k in range(50)]
    base = [views(phase, key) for key in many]
    assert base == [views(phase, key) for key in reversed(many)][::-1]
    assert base != [views(phase, key, seed=1) for key in many]
    assert base != [views(phase, key, epoch=1) for key in many]
    pair = [shown(phase, [ALL, ALL], frontal=3, seed=0, key=key, epoch=0).views for key in many]
    assert [one[0] for one in pair] == base
    assert any(first != second for first, second in pair)


def test_sampling_is_the_same_in_every_process():
    """A fixed value, and another interpreter with another hash seed agrees."""
    assert uniform(0, "a", 1) == 0.6115169087759219
    code = (
        "import sys; from harmoview.curriculum import uniform; print(uniform(0, 'a', 1)); "
        "assert 'torch' not in sys.modules"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    assert float(answer.stdout) == uniform(0, "a", 1)


def test_an_identity_without_the_frontal_view_it_must_keep_is_an_error():
    """The data promise a reference; a phase that keeps it does not go on without."""
    with pytest.raises(ValueError, match="frontal"):
        views(undisturbed(1), "key", [True, True, True, False, True, True, True])


@pytest.mark.parametrize("counts", [{}, {0: 1.0}, {8: 1.0}, {1: 0.0}])
def test_impossible_dropout_is_refused(counts):
    """Numbers of views are 1..7 with positive weights."""
    with pytest.raises(ValueError, match="counts"):
        ViewDropout(counts)


def test_impossible_phases_are_refused():
    """Train sets, rates, steps and shares are checked when a phase is built."""
    dropout = ViewDropout({1: 1.0})
    with pytest.raises(ValueError, match="train"):
        Phase("single_view", dropout, 1, 1.0, train_set="heads")
    with pytest.raises(ValueError, match="learning_rate"):
        Phase("single_view", dropout, 1, 0.0)
    with pytest.raises(ValueError, match="guidance"):
        GuidanceDropout(0.5, 0.5, 0.5)
