"""Settings of a run: phases, ablations, experts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from harmoview import curriculum
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
    assert selected(text, 4) == numbers


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


def table(**changes):
    """A [[phase]] table as `--settings` hands it over."""
    return json.dumps({"data": "single_view", "steps": 7, "views": {"1": 1.0}, **changes})


def test_phases_come_from_tables():
    """As many as there are, each with its own data, views, rates, guidance and noise."""
    noise = {"distribution": "uniform", "shift": 4.0}
    made = settings(phase=(
        table(learning_rate=2e-5, train_set="new_parts_and_lora", guidance={"text": 0.2}),
        table(data="curated", curated=0.5, keep_frontal=False, views={"2": 1, "7": 3},
              train_set="lora", noise=noise),
        table(train_set="lora"),
    ))  # fmt: skip
    (one, first), (two, second), (three, _) = made.curriculum_phases()
    assert (one, two, three) == (1, 2, 3)
    assert (first.learning_rate, first.guidance.text, first.guidance.both) == (2e-5, 0.2, 0.05)
    assert (second.data, second.curated, second.views.counts) == ("curated", 0.5, {2: 1, 7: 3})
    assert not second.views.keep_frontal
    part = expert_phases(made, None)[1]
    assert (part.noise.distribution, part.noise.shift, part.first) == ("uniform", 4.0, 7)
    (only,) = settings(phase=made.phase, phases="2", steps=9, shift=3.0).curriculum_phases()
    assert (only[0], only[1].steps, only[1].noise.shift) == (2, 9, 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}", "phase 1: data is missing"), (table(data="all"), "data is single_view"),
     (table(stepps=3), "no stepps; did you mean steps"), (table(steps="many"), "phase 1"),
     (table(views={"9": 1}), "1..7"), (table(views=3), "phase 1"), ("[]", "a table"),
     (table(guidance={"words": 1}), "words"), (table(noise={"shift": -1}), "shift"),
     (table(learning_rate=0), "learning_rate"), (table(curated=2), "curated")],
)  # fmt: skip
def test_a_wrong_table_is_named(text, said):
    """With the number of its phase and what is wrong in it."""
    with pytest.raises(ValueError, match=said):
        settings(phase=(text,))


def test_the_file_that_is_shipped_is_the_default():
    """Its tables give the phases that a run has without any."""
    text = Path(curriculum.__file__).with_name("curriculum.toml").read_text()
    tables = tuple(json.dumps(one) for one in tomllib.loads(text)["phase"])
    assert settings(phase=tables).curriculum_phases() == settings().curriculum_phases()
    assert len(tables) == 4


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch": 0}, {"batch": 3, "micro_batch": 2}, {"ema": 1.0}, {"holdout": -0.1},
     {"curated": 0.0}, {"clip": 0.0}, {"warmup": -1}, {"train_set": "some"}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    """Before anything is loaded; the message names what is wrong."""
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("_")[0]):
        settings(**wrong)
