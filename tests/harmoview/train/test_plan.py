"""A plan says what a run takes before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from datapipe.errors import UserError
from harmoview.train.plan import plan_run
from harmoview.train.report import result_lines
from harmoview.train.settings import TrainSettings
from training.device import card_named

BASES = {
    "A14B": ({"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}, 16, 0.875),
    "5B": ({"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}, 48, None),
    "1.3B": ({"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, 16, None),
}
"""What the published configs say, the latents' channels, and where the experts part."""


def configs(folder, kind):
    """The two files of a base that a plan reads."""
    config, channels, boundary = BASES[kind]
    config = {**config, "in_channels": channels, "out_channels": channels,
              "_class_name": "WanTransformer3DModel", "attention_head_dim": 128}  # fmt: skip
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer/config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": boundary}))
    return str(folder)


def planned(base, data=None, workers=8, card=None, **more):
    how = TrainSettings(base=base, out=Path("out"), **more)
    return plan_run(how, data, workers, on_gpu=True, card=card)


def said(plan, card="H100"):
    return "\n".join(result_lines(plan, card_named(card), 0.4))


@pytest.mark.slow
def test_a14b_of_two_people_on_eight_cards_of_80_gb_is_marginal(tmp_path):
    """At 480p, of the config alone; on larger cards, or with shared sequences, it fits.

    Twice the samples are twice the work, in as much memory where gradients are accumulated.
    """
    plan = planned(configs(tmp_path, "A14B"), steps=10)
    assert "2 people is marginal on 8 x H100" in said(plan)
    assert "2 people fits on 8 x H200" in said(plan, "H200")
    shared, more, most = (
        replace(plan, settings=replace(plan.settings, **change))
        for change in ({"context_parallel": 2}, {"batch": 16}, {"batch": 32})
    )
    assert "2 people fits on 8 x H100" in said(shared)
    assert most.run_flops() == 2 * more.run_flops()
    assert most.memory(most.largest).total == more.memory(more.largest).total


@pytest.mark.slow
def test_720p_does_not_fit_unless_sequences_are_shared(tmp_path):
    """The same model and cards, with one, two and four workers for each sample."""
    plan = planned(configs(tmp_path, "A14B"))
    two = plan.groups[1]
    large = replace(two, height=720, width=1280, shape=replace(two.shape, height=90, width=160))
    for count, told in ((1, "does not fit"), (2, "is marginal"), (4, "fits")):
        settings = replace(plan.settings, context_parallel=count)
        assert f"2 people {told} on 8" in said(replace(plan, groups=(large,), settings=settings))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "card"), [("5B", "H100"), ("A14B", "H200")])
def test_as_little_is_computed_again_as_fits(tmp_path, kind, card):
    """With two people: to keep everything is too much, self-attention is not."""
    found = planned(configs(tmp_path, kind), card=card_named(card))
    assert found.recompute == "all_but_attention"
    assert f"2 people fits on 8 x {card}" in said(found, card)


@pytest.mark.slow
def test_what_self_attention_gives_is_most_of_what_would_be_computed_again(tmp_path):
    """And less than the card has left, unlike everything that blocks make."""
    base, again = configs(tmp_path, "1.3B"), {}
    for kind in ("none", "all_but_attention", "all"):
        plan = planned(base, recompute=kind, card=card_named("H100"))
        group = plan.largest
        again[kind] = plan.cost("full", group).again
        assert (plan.share(group, card_named("H100")) < 1) == (kind != "none")
    assert again["none"] == 0 < again["all_but_attention"] < again["all"] / 2


def test_a_base_without_a_config_is_named(tmp_path):
    """With the files that a plan reads."""
    with pytest.raises(UserError, match=r"model_index\.json"):
        planned(str(tmp_path))
