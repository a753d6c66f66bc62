"""Flow matching as Wan trains it: shifted noise levels, each expert inside its own range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from datapipe.errors import check_range

Expert = Literal["high", "low"]
BOUNDARY = 0.875
"""Sigma from which A14B's high-noise expert works; below it, the low-noise expert does."""
TIMESTEPS = 1000
"""Factor of sigma in the time that Wan is told."""
SHIFT = 2.0
"""The shift of training at 480p.

The shifts of sampling (12, 8, 5) would leave the low noise levels, at which faces get their detail,
almost untrained: of the samples of A14B's low-noise expert, .15 % would be below sigma .3.
"""
TOKENS_480P = 21 * 30 * 52
"""Tokens of 81 frames of 480 x 832, for which `SHIFT` is meant."""
BINS = (0.0, 0.3, 0.5, 0.7, BOUNDARY, 0.95, 1.0)
"""Limits of the ranges of noise by which losses are told apart, the same for every run."""


def training_shift(tokens: int) -> float:
    """Return the shift of training for videos of that many tokens: `SHIFT` up to 480p, then more.

    It grows with the root of the tokens, for neighbours in a larger picture are more alike, and as
    much noise hides less of it (Stable Diffusion 3, section 5.3.2): 3.0 for 81 frames of 720p.
    """
    return SHIFT * math.sqrt(max(1.0, tokens / TOKENS_480P))


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """How noise levels are drawn for training.

    A level u, uniform or logit-normal on 0..1, becomes sigma = shift u / (1 + (shift - 1) u), and
    the density of sigma is cut to low..high. Raises ValueError for a value out of its range.
    """

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    """Wan's report trains with logit-normal levels; many trainers take uniform ones."""
    shift: float | None = None
    """More than 1 draws more high noise; None follows the size of the video, see `at`."""
    mean: float = 0.0
    """Mean of the logit, for logit_normal."""
    std: float = 1.0
    """Standard deviation of the logit, for logit_normal."""
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in ("logit_normal", "uniform"):
            raise ValueError(f"distribution is logit_normal or uniform, not {self.distribution!r}")
        check_range(self, "shift", "std", above=0, option="")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high must satisfy 0 <= {self.low} < {self.high} <= 1")

    def at(self, tokens: int) -> NoiseSchedule:
        """Return the schedule for videos of that many tokens, with a shift."""
        return self if self.shift is not None else replace(self, shift=training_shift(tokens))

    def sigma(self, probability: Tensor) -> Tensor:
        """Return the quantiles of sigma at these probabilities, 0..1, as float32.

        The inverse of the distribution function is taken between its values at the two ends, so no
        draw is thrown away or clamped, whatever the shift.
        """
        low, high = self._cumulative(self.low), self._cumulative(self.high)
        levels = self._quantile(low + (high - low) * probability.double())
        sigma = shifted(levels, self._shift).clamp(self.low, self.high)  # for rounding only
        return sigma.float()

    def share(self, low: float, high: float) -> float:
        """Return the share of draws between two levels of sigma."""
        ends = (self.low, self.high, *(min(max(x, self.low), self.high) for x in (low, high)))
        first, last, start, end = (self._cumulative(end) for end in ends)
        return float((end - start) / (last - first))

    @property
    def _shift(self) -> float:
        return SHIFT if self.shift is None else self.shift

    def _cumulative(self, sigma: float) -> Tensor:
        """Return the share of uncut draws below a level of sigma."""
        level = unshifted(torch.tensor(sigma, dtype=torch.float64), self._shift)
        if self.distribution == "uniform":
            return level
        below: Tensor = torch.special.ndtr((torch.logit(level) - self.mean) / self.std)
        return below

    def _quantile(self, probability: Tensor) -> Tensor:
        if self.distribution == "uniform":
            return probability
        return torch.sigmoid(torch.special.ndtri(probability) * self.std + self.mean)


def strata(count: int, generator: torch.Generator) -> Tensor:
    """Draw one number from each of `count` equal parts of 0..1, float64, in random order.

    So the noise levels of a step cover their distribution, however few samples it has.
    """
    order = torch.randperm(count, generator=generator)
    return (order + torch.rand(count, generator=generator, dtype=torch.float64)) / count


def bin_names() -> list[str]:
    """Return the names of the ranges of noise, like 0.3-0.5."""
    return [f"{low:g}-{high:g}" for low, high in pairwise(BINS)]


def bin_of(sigma: Tensor) -> Tensor:
    """Return the number of the range of `BINS` in which each sigma lies."""
    return torch.bucketize(sigma, sigma.new_tensor(BINS[1:-1]), right=True)


def expert_range(expert: Expert | None, boundary: float | None = BOUNDARY) -> tuple[float, float]:
    """Return the noise levels on which an expert works; None is a model without experts."""
    if expert is None or boundary is None:
        return 0.0, 1.0
    return (boundary, 1.0) if expert == "high" else (0.0, boundary)


def shifted(level: Tensor, shift: float) -> Tensor:
    """Apply Wan's shift, sigma = shift u / (1 + (shift - 1) u): above 1, for more high noise."""
    return shift * level / (1 + (shift - 1) * level)


def unshifted(sigma: Tensor, shift: float) -> Tensor:
    """Invert `shifted`."""
    return sigma / (shift - (shift - 1) * sigma)


def noisy(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Mix (1 - sigma) clean + sigma noise; `sigma` is [B], the others [B, …]."""
    weight = sigma.to(clean).view(-1, *[1] * (clean.ndim - 1))
    return (1 - weight) * clean + weight * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """Return what the model predicts: the direction from data to noise."""
    return noise - clean


def loss(prediction: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Return the mean squared error of the velocity in float32, for each sample: [B]."""
    error = F.mse_loss(prediction.float(), velocity(clean, noise).float(), reduction="none")
    return error.flatten(1).mean(dim=1)
