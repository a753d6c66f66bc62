"""The pieces together: curriculum, train set, noise levels and loss teach a model to look."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview import flow
from harmoview.curriculum import PHASES, shown
from harmoview.trainable import select

PEOPLE = 64
BATCH = 16


def batch(keys, phase, colors, epoch=0, other=False):
    """Videos of people of one colour, with views of that colour, or of another person's."""
    frontal = 3
    choice = [shown(phase, [[True] * 7], frontal=frontal, seed=0, key=str(k), epoch=epoch)
              for k in keys]  # fmt: skip
    color = colors[keys]
    seen = colors[(keys + 1) % PEOPLE] if other else color
    clean = color[:, :, None, None, None].expand(-1, -1, 3, 4, 4)
    latents = seen[:, None, None, :, None, None].expand(-1, 1, 7, -1, 4, 4)
    mask = torch.tensor([one.views for one in choice])
    text = torch.zeros(len(keys), 3, 32)
    return clean, {"encoder_hidden_states": text, "reference_latents": latents,
                   "reference_mask": mask}  # fmt: skip


def loss(model, clean, inputs, sigma, draw):
    noise = torch.randn(clean.shape, generator=draw)
    prediction = model(
        flow.noisy(clean, noise, sigma), sigma * flow.TIMESTEPS, **inputs, return_dict=False
    )[0]
    return flow.loss(prediction, clean, noise).mean()


@pytest.mark.slow
def test_after_a_short_training_the_right_references_help():
    """Held out people: right references beat another person's and none at all, at high noise."""
    draw = torch.Generator().manual_seed(0)
    colors = torch.randn(PEOPLE, 16, generator=draw)
    model = tiny.harmoview(vit_dim=None).train()
    select(model, "full")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = flow.NoiseSchedule("uniform", shift=3.0)
    for step in range(400):
        phase = PHASES[step // 100]
        keys = torch.randint(PEOPLE - BATCH, (BATCH,), generator=draw)
        clean, inputs = batch(keys, phase, colors, epoch=step)
        sigma = schedule.sigma(flow.strata(BATCH, draw))
        loss(model, clean, inputs, sigma, draw).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    held_out, sigma = torch.arange(PEOPLE - BATCH, PEOPLE), torch.full((BATCH,), 0.98)

    def measure(other=False, none=False):
        clean, inputs = batch(held_out, PHASES[1], colors, other=other)
        if none:
            inputs["reference_mask"] = torch.zeros_like(inputs["reference_mask"])
        with torch.no_grad():
            return float(loss(model, clean, inputs, sigma, torch.Generator().manual_seed(1)))

    right, wrong, nobody = measure(), measure(other=True), measure(none=True)
    assert right < 0.8 * nobody, (right, nobody)
    assert right < 0.8 * wrong, (right, wrong)
