"""Settings of a run: phases, ablations, experts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harmoview.curriculum import PHASES
from harmoview.train.expert_phase import expert_phases
from harmoview.train.settings import TrainSettings, selected, variant


def settings(**changes):
    return TrainSettings(base="wan", out=Path("out"), **changes)


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-4", [1, 2, 3, 4]), ("2", [2]), ("1,3", [1, 3]), ("3-4,1", [1, 3, 4])]
)
def test_phases_are_named_by_number(text, numbers):
    """Single ones and ranges, in any order."""
    assert selected(text) == numbers


@pytest.mark.parametrize("text", ["", "0", "5", "4-1", "1-5", "one"])
def test_other_phases_are_refused(text):
    """With the text in the message."""
    with pytest.raises(ValueError, match="--phases"):
        settings(phases=text)


def test_phases_follow_each_other_expert_by_expert():
    """Steps add up; each expert has its own range of noise."""
    found = expert_phases(settings(steps=5, phases="1-2"), 0.875)
    assert [(part.first, part.last) for part in found] == [(0, 5), (5, 10), (10, 15), (15, 20)]
    assert [(part.noise.low, part.noise.high) for part in found[1:3]] == [
        (0.875, 1.0),
        (0.0, 0.875),
    ]
    (low,) = expert_phases(settings(steps=5, phases="1", experts="low"), 0.9)
    assert (low.expert, low.model, low.first) == ("low", "transformer_2", 0)
    assert (low.noise.low, low.noise.high) == (0.0, 0.9)
    (only,) = expert_phases(settings(steps=5, phases="1"), None)
    assert (only.expert, only.model, only.noise.high) == (None, "transformer", 1.0)


def test_ablations_of_the_curriculum_change_what_is_shown_and_nothing_else():
    """Data and views as their names say; steps and rates as before."""
    single, multi, whole = (variant(PHASES, n) for n in ("single_view", "multi_view", "no_view_dropout"))  # fmt: skip  # noqa: E501
    assert {p.data for p in single} == {"single_view"}
    assert all(set(p.views.counts) == {1} for p in single)
    assert "single_view" not in {p.data for p in multi}
    assert all(set(p.views.counts) == {7} for p in whole[1:])
    for phases in (single, multi, whole):
        assert [(p.steps, p.learning_rate) for p in phases] == [
            (p.steps, p.learning_rate) for p in PHASES
        ]


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch": 0}, {"batch": 3, "micro_batch": 2}, {"ema": 1.0}, {"holdout": -0.1},
     {"curated": 0.0}, {"clip": 0.0}, {"warmup": -1}, {"train_set": "some"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    """Before anything is loaded; the message names what is wrong."""
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("_")[0]):
        settings(**wrong)
