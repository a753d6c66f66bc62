"""What training minimises: the flow-matching loss of a batch, a pure function of its draws."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harmoview import flow
from harmoview.curriculum import Phase, shown, uniform
from harmoview.data.loader import EncodedBatch
from harmoview.flow import NoiseSchedule


@dataclass(frozen=True)
class Draws:
    """The random choices of a batch."""

    mask: Tensor
    """[B, I, V]: whether each view is shown."""
    text: Tensor
    """[B]: whether the caption is shown."""
    sigma: Tensor
    """[B]: noise levels, 0..1."""
    noise: Tensor
    """[B, C, F, h, w], like the video."""


def draw(batch: EncodedBatch, phase: Phase, sigma: Tensor, frontal: int, seed: int) -> Draws:
    """Draw the choices for a batch that is still on the CPU, but for the noise levels `sigma`.

    They depend on the seed and each sample's key and epoch, not on who draws them, or when.
    """
    views, texts, noises = [], [], []
    samples = zip(batch.keys, batch.epochs, batch.present, batch.video, strict=True)
    for key, epoch, present, video in samples:
        choice = shown(phase, present.tolist(), frontal=frontal, seed=seed, key=key, epoch=epoch)
        views.append(choice.views)
        texts.append(choice.text)
        generator = seeded(seed, "noise", key, epoch)
        noises.append(torch.randn(video.shape, generator=generator))
    return Draws(torch.tensor(views), torch.tensor(texts), sigma, torch.stack(noises))


def permuted(batch: EncodedBatch, seed: int) -> EncodedBatch:
    """Return the batch with each sample's people in an order that seed, key and epoch decide.

    In the data the more prominent one comes first, which is not to be learned.
    """
    people = batch.present.shape[1]
    if people == 1:
        return batch
    orders = torch.tensor(
        [sorted(range(people), key=lambda one: uniform(seed, "people", key, epoch, one))
         for key, epoch in zip(batch.keys, batch.epochs, strict=True)]
    )  # fmt: skip
    rows = torch.arange(len(batch))[:, None]
    features = batch.features
    return replace(
        batch,
        references=batch.references[rows, orders],
        present=batch.present[rows, orders],
        features=None if features is None else features[rows, orders],
    )


def noise_levels(
    noise: NoiseSchedule, batches: Sequence[EncodedBatch], probabilities: Tensor
) -> list[Tensor]:
    """Return the noise levels [B] of each batch, which depend on the size of its videos.

    `probabilities` [batches, samples] says which quantile of the levels each sample gets.
    """
    return [
        noise.at(tokens_of(batch.video.shape)).sigma(row[: len(batch)])
        for batch, row in zip(batches, probabilities, strict=True)
    ]


def tokens_of(shape: Sequence[int]) -> int:
    """Count the tokens of latents [B, C, F, h, w]: Wan's patches are 2 x 2."""
    frames, height, width = shape[-3:]
    return frames * (height // 2) * (width // 2)


def seeded(*what: object) -> torch.Generator:
    """Return a generator on the CPU whose seed depends on the arguments alone."""
    text = "\x1f".join(map(str, what)).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
    return torch.Generator().manual_seed(seed)


def loss(model: Any, batch: EncodedBatch, draws: Draws, no_text: Tensor) -> Tensor:
    """Return the mean squared error of the velocity for each sample: [B].

    `batch` and `no_text` [1, T, D] are on the model's device, in its dtype.
    """
    video = batch.video
    sigma, noise = draws.sigma.to(video.device), draws.noise.to(video.device)
    dtype = batch.text.dtype
    text = torch.where(draws.text.to(video.device)[:, None, None], batch.text, no_text)
    prediction = model(
        hidden_states=flow.noisy(video, noise, sigma).to(dtype),
        timestep=sigma * flow.TIMESTEPS,
        encoder_hidden_states=text,
        encoder_hidden_states_image=batch.features,
        reference_latents=batch.references,
        reference_mask=draws.mask.to(video.device),
        return_dict=False,
    )[0]
    return flow.loss(prediction, video, noise)
