"""Costs that are counted on meta are those of a step that is taken."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from harmoview.curriculum import PHASES
from harmoview.data.loader import EncodedBatch
from harmoview.flow import NoiseSchedule
from harmoview.tiny import VIT_DIM, save_base
from harmoview.train.cost import BatchShape, batch_cost, weight_cost
from harmoview.train.expert_phase import ExpertPhase
from harmoview.train.learner import ExpertLearner
from harmoview.train.objective import Draws
from harmoview.train.plan import PlannedMemory
from harmoview.train.settings import TrainSettings
from training.parallel import process_group

CPU = torch.device("cpu")
SHAPE = BatchShape(1, 5, 16, 24, 2, 8, 16, 4)
LARGER = {"num_attention_heads": 4, "attention_head_dim": 48, "ffn_dim": 512, "num_layers": 4}
"""So large that a tensor is more than the bookkeeping around it."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("wan"), rope_max_seq_len=64, **LARGER)


def learner(base, train_set, again, held="none"):
    how = TrainSettings(
        base=str(base), out=Path("unused"), train_set=train_set, rank=2, device="cpu",
        recompute=again,
        quantize=held,
    )  # fmt: skip
    phase = replace(PHASES[0], train_set=train_set)
    part = ExpertPhase("transformer", None, 1, phase, 0, NoiseSchedule())
    own = {"vit_dim": VIT_DIM, "text_length": SHAPE.text}
    return ExpertLearner(how, part, own, CPU, torch.float32), how


def step(made):
    """Two micro-batches, so that gradients are there while activations are."""
    values = {
        name: torch.randn(one.shape)
        for name, one in SHAPE.inputs(made.model.config, torch.float32).items()
        if one.is_floating_point()
    }
    present = torch.ones(1, SHAPE.people, 7, dtype=torch.bool)
    batch = EncodedBatch(
        (0,), ("key",), values["hidden_states"], values["reference_latents"], present,
        values["encoder_hidden_states_image"], values["encoder_hidden_states"], SHAPE.text,
        torch.ones(1),
    )  # fmt: skip
    drawn = Draws(present, torch.ones(1, dtype=torch.bool), torch.ones(1) / 2, batch.video)
    made.step([batch] * 2, [drawn] * 2, torch.zeros(1, SHAPE.text, 32))


@pytest.mark.parametrize(
    ("train_set", "again", "held"),
    [
        ("full", "all_but_attention", "none"),
        pytest.param("full", "none", "none", marks=pytest.mark.slow),
        pytest.param("new_parts_and_lora", "all", "none", marks=pytest.mark.slow),
        pytest.param("new_parts_and_lora", "all", "fp8", marks=pytest.mark.slow),
        pytest.param("lora", "none", "nf4", marks=pytest.mark.slow),
    ],
)
def test_memory_is_what_the_allocator_hands_out(base, train_set, again, held):
    """Within 10 % of the peak of real steps, model, optimiser and averages included."""
    gc.collect()  # what goes while it is measured would be subtracted
    with (
        process_group(CPU),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen,
    ):
        made, how = learner(base, train_set, again, held)
        config = dict(made.model.config)
        step(made)
        step(made)
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    cost = batch_cost(config, train_set, how.lora, SHAPE, torch.float32, again=again, held=held)
    own = weight_cost(config, train_set, how.lora, 1, torch.float32, ema=True, held=held)
    assert PlannedMemory(own, cost, accumulates=True).total == pytest.approx(most, rel=0.1)


ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
        lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward:
        lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
}  # fmt: skip
"""The kernels of CPUs, which torch's counter does not know."""


@pytest.mark.parametrize(
    "again", ["all_but_attention", pytest.param("all", marks=pytest.mark.slow)]
)
def test_operations_are_those_that_a_step_takes(base, again):
    """Within 1 %, what is computed a second time included: less of it where attention is kept."""
    with process_group(CPU):
        made, how = learner(base, "new_parts_and_lora", again)
        with FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
            step(made)
    counted = batch_cost(
        dict(made.model.config), "new_parts_and_lora", how.lora, SHAPE, torch.float32, again=again
    )
    taken = counter.get_total_flops()
    assert 2 * (counted.flops + counted.again) == pytest.approx(taken, rel=0.01)
    assert 0 < counted.again < counted.flops / 2
