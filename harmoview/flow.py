"""Flow matching as Wan trains it: shifted noise levels, each expert inside its own range."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """How noise levels are drawn for training.

    A level u, uniform or logit-normal on 0..1, becomes sigma = shift u / (1 + (shift - 1) u), and
    the density of sigma is cut to low..high. Raises ValueError for a value out of its range.
    """

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    """Wan's report trains with logit-normal levels; many trainers take uniform ones."""
    shift: float = 5.0
    """More than 1 draws more high noise."""
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

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise levels sigma in low..high, float32 [count], on the CPU.

        The inverse of the distribution function is taken between its values at the two ends, so no
        draw is thrown away or clamped, whatever the shift.
        """
        ends = self._cumulative(
            unshifted(torch.tensor([self.low, self.high], dtype=torch.float64), self.shift)
        )
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        levels = self._quantile(ends[0] + (ends[1] - ends[0]) * uniform)
        sigma = shifted(levels, self.shift).clamp(self.low, self.high)  # for rounding only
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
