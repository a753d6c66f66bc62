"""What a training step sees: groups of one person at several yaws, a pure function of the step.

Nothing is drawn from a running random state, so a run can stop anywhere and be resumed by any
number of processes: data, noise and timesteps of a step depend on its number alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

from datapipe.errors import check_range
from lora_engine.flux import vae
from lora_engine.flux.latents import REFERENCE, LatentCache, sample_id
from lora_engine.flux.prompts import tag


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are drawn. Raises ValueError for steps without any."""

    groups: int
    """Groups of a step, over all processes."""
    yaws: int
    """Targets of a group, at most."""
    flip: bool
    """Whether half of the groups are mirrored."""
    seed: int
    variants: int = 1
    """Variants of each subject's pictures."""

    def __post_init__(self) -> None:
        check_range(self, "groups", "yaws", "variants", least=1, option="")


@dataclass(frozen=True, slots=True)
class Draw:
    """One group by its names, before anything is read."""

    subject: str
    mirrored: bool
    """Whether all pictures of the group are mirrored, and every yaw negated."""
    frames: tuple[int, ...]
    """Yaws of the target frames as they are stored."""
    seed: int
    """Seed of noise and timesteps."""
    variant: int = 0
    """Number of the variant that all pictures of the group are of."""

    @property
    def yaws(self) -> tuple[int, ...]:
        """The yaws that the pictures show and the prompts ask for."""
        return tuple(-yaw if self.mirrored else yaw for yaw in self.frames)

    @property
    def targets(self) -> tuple[str, ...]:
        """Ids of the targets' latents."""
        return tuple(self._id(tag(yaw)) for yaw in self.frames)

    @property
    def reference(self) -> str:
        """Id of the reference's latents."""
        return self._id(REFERENCE)

    def _id(self, name: str) -> str:
        return sample_id(self.subject, self.variant, name, self.mirrored)


def draw(
    settings: GroupSettings, coverage: Mapping[str, tuple[int, ...]], step: int, slot: int
) -> Draw:
    """Draw group `slot` of step `step`, both from 0. Every epoch sees every person once."""
    position = step * settings.groups + slot
    epoch, index = divmod(position, len(coverage))
    subject = sorted(coverage)[_order(settings.seed, epoch, len(coverage))[index]]
    rng = np.random.default_rng([settings.seed, 1, position])
    mirrored = bool(settings.flip and rng.random() < 0.5)
    count = min(settings.yaws, len(coverage[subject]))
    frames = rng.choice(coverage[subject], count, replace=False)
    seed = int(rng.integers(2**63))
    variant = int(rng.integers(settings.variants))
    return Draw(subject, mirrored, tuple(map(int, frames)), seed, variant)


def draw_resolution(resolutions: Sequence[int], seed: int, step: int) -> int:
    """Draw the side of a step's pictures; one for all of its groups, so that no process waits."""
    rng = np.random.default_rng([seed, 2, step])
    return resolutions[int(rng.integers(len(resolutions)))]


@functools.lru_cache(4)
def _order(seed: int, epoch: int, people: int) -> tuple[int, ...]:
    return tuple(map(int, np.random.default_rng([seed, 0, epoch]).permutation(people)))


@dataclass(frozen=True, slots=True)
class Group:
    """A drawn group with its tensors, on the CPU."""

    draw: Draw
    reference: torch.Tensor
    """(1, S, C): packed latents."""
    targets: torch.Tensor
    """(n, S, C)."""
    noise: torch.Tensor
    """(n, S, C)."""
    sigmas: torch.Tensor
    """(n,), 0..1: how much of a noisy target is noise."""


def load_group(cache: LatentCache, drawn: Draw, mu: float) -> Group:
    """Read the latents of a group, and draw its noise and timesteps."""
    ids = (drawn.reference, *drawn.targets)
    latents = cache.get(drawn.subject, drawn.variant, ids).float()
    tokens = vae.pack(latents)
    generator = torch.Generator().manual_seed(drawn.seed)
    noise = torch.randn(tokens[1:].shape, generator=generator)
    sigmas = shifted_sigmas(len(noise), mu, generator)
    return Group(drawn, tokens[:1], tokens[1:], noise, sigmas)


def shift_of(tokens: int, scheduler: Mapping[str, float]) -> float:
    """Return mu of the shift that depends on the resolution, by the target's tokens."""
    mu: float = calculate_shift(
        tokens,
        scheduler["base_image_seq_len"],
        scheduler["max_image_seq_len"],
        scheduler["base_shift"],
        scheduler["max_shift"],
    )
    return mu


def shifted_sigmas(count: int, mu: float, generator: torch.Generator) -> torch.Tensor:
    """Draw logit-normal noise levels, 0..1, shifted by e^mu (SD3, arXiv 2403.03206, eq. 23)."""
    return torch.sigmoid(torch.randn(count, generator=generator) + mu)
