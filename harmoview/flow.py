"""Flow matching as Wan trains it: shifted noise levels, each expert inside its own range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Expert = Literal["high", "low"]
BOUNDARY = 0.875
"""A14B: sigma from here up is the high-noise expert's, below the low-noise expert's."""
TIMESTEPS = 1000
"""Wan is told sigma x 1000."""


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """How noise levels are drawn for training.

    A level u, uniform or logit-normal on 0..1, becomes sigma = shift u / (1 + (shift - 1) u), and
    is confined to low..high: the same density as over the whole range, cut to the part.
    """

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    """Wan's report trains with logit-normal levels; many trainers use uniform ones."""
    shift: float = 5.0
    mean: float = 0.0
    """Of the logit, for logit_normal."""
    std: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in ("logit_normal", "uniform"):
            raise ValueError(f"distribution is logit_normal or uniform, not {self.distribution!r}")
        if self.shift <= 0 or self.std <= 0:
            raise ValueError(f"shift and std must be positive: {self.shift}, {self.std}")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high must satisfy 0 <= {self.low} < {self.high} <= 1")

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Noise levels sigma in low..high, float32 [count], on the CPU.

        Drawn by the inverse of the distribution function between its values at the two ends: no
        draw is thrown away or clamped, whatever the shift.
        """
        ends = self._cumulative(
            unshifted(torch.tensor([self.low, self.high], dtype=torch.float64), self.shift)
        )
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        levels = self._quantile(ends[0] + (ends[1] - ends[0]) * uniform)
        sigma = shifted(levels, self.shift).clamp(self.low, self.high)  # of rounding only
        return sigma.float()

    def _cumulative(self, level: Tensor) -> Tensor:
        if self.distribution == "uniform":
            return level
        below: Tensor = torch.special.ndtr((torch.logit(level) - self.mean) / self.std)
        return below

    def _quantile(self, probability: Tensor) -> Tensor:
        if self.distribution == "uniform":
            return probability
        return torch.sigmoid(torch.special.ndtri(probability) * self.std + self.mean)


def expert_range(expert: Expert | None, boundary: float | None = BOUNDARY) -> tuple[float, float]:
    """The noise levels that an expert works on; None is a model without experts."""
    if expert is None or boundary is None:
        return 0.0, 1.0
    return (boundary, 1.0) if expert == "high" else (0.0, boundary)


def shifted(level: Tensor, shift: float) -> Tensor:
    """Wan's shift: sigma = shift u / (1 + (shift - 1) u), more time at high noise for shift > 1."""
    return shift * level / (1 + (shift - 1) * level)


def unshifted(sigma: Tensor, shift: float) -> Tensor:
    """The inverse of `shifted`."""
    return sigma / (shift - (shift - 1) * sigma)


def noisy(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) clean + sigma noise; `sigma` is [B], the others [B, …]."""
    weight = sigma.to(clean).view(-1, *[1] * (clean.ndim - 1))
    return (1 - weight) * clean + weight * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """What the model predicts: the direction from data to noise."""
    return noise - clean


def loss(prediction: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the velocity in float32, a number a sample, [B]."""
    error = F.mse_loss(prediction.float(), velocity(clean, noise).float(), reduction="none")
    return error.flatten(1).mean(dim=1)
