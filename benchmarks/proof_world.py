"""A world of people in which the best answer is known: what `benchmarks.proof` trains on.

A person is seven random codes, one a view, each √½ of what the views share and √½ of its own. The
clip shows the view that the text names, of the one of two people that it names. So with k views
shown, the least error that any model can have is known: 0 where the named one is among them, else
½ + ½/(k + 1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datapipe.record import YAWS
from harmoview.curriculum import SLOTS

CHANNELS, FRAMES, PATCHES, WORDS, TEXT_DIM = 4, 1, 2, 3, 24
FEATURES = (2, 8)
"""Image tokens of a portrait, and how many numbers each has."""
FRONTAL = YAWS.index(0)
SHARED = 0.5
"""The share of a view's variance that all views of a person have in common."""


class People(NamedTuple):
    """The people whose references are given, and which of them the clip shows from where."""

    codes: Tensor
    """[B, I, 7, C], of every view."""
    who: Tensor
    """[B], the person in the clip."""
    yaw: Tensor
    """[B], the view that the clip shows."""

    @property
    def named(self) -> Tensor:
        """The code of the clip, [B, C]."""
        return self.codes[torch.arange(len(self.who)), self.who, self.yaw]

    def clip(self) -> Tensor:
        """Return the clip's latents, [B, C, F, 2, 4]."""
        return self.named[..., None, None, None].repeat(1, 1, FRAMES, 2, 2 * PATCHES)

    def text(self) -> Tensor:
        """Return the text, [B, T, D]: a word for who is seen from where, the rest is padding."""
        word = _WHO[self.who] + _WHERE[self.yaw]
        return torch.nn.functional.pad(word[:, None], (0, 0, 0, WORDS - 1))

    def inputs(self, mask: Tensor, *, mfi: bool) -> dict[str, Tensor | None]:
        """Return the references as the model takes them."""
        latents = self.codes[..., None, None].expand(-1, -1, -1, -1, 2, 2)
        features = (self.codes[:, :, FRONTAL] @ _TOWER).unflatten(-1, FEATURES)
        return {"reference_latents": latents, "reference_mask": mask,
                "encoder_hidden_states_image": features if mfi else None}  # fmt: skip

    def best(self, mask: Tensor) -> Tensor:
        """Return the mean of `named` given the views of `mask` [B, I, 7] and the text, [B, C].

        No model can do better. It weighs the shown views equally, and itself by one view's weight:
        the mean of k views and of a zero, which is what attention to them and to one sink gives.
        """
        rows = torch.arange(len(self.who))
        seen = mask[rows, self.who, :, None]
        count = seen.sum(dim=1)
        scale = SHARED / (count * SHARED + 1 - SHARED)
        guess = scale * (self.codes[rows, self.who] * seen).sum(dim=1)
        return torch.where(seen[rows, self.yaw], self.named, guess)

    def others(self) -> People:
        """Return the same with the other of two people in the clip."""
        return self._replace(who=1 - self.who)


def _fixed(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


_WHO, _WHERE = _fixed(2, TEXT_DIM), _fixed(SLOTS, TEXT_DIM)
"""What the text says who it is, and from where it is seen."""
_TOWER = _fixed(CHANNELS, FEATURES[0] * FEATURES[1]) / CHANNELS**0.5
"""What stands for the vision tower: all of the portrait, in other numbers."""


def draw_people(count: int, people: int, draw: torch.Generator) -> People:
    """Draw that many samples of one or two people."""
    common = torch.randn(count, people, 1, CHANNELS, generator=draw)
    own = torch.randn(count, people, SLOTS, CHANNELS, generator=draw)
    who = torch.randint(people, (count,), generator=draw)
    yaw = torch.randint(SLOTS, (count,), generator=draw)
    return People(SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own, who, yaw)


def least_error(count: int, *, named: bool) -> float:
    """Return the mean squared error of `People.best` with `count` views."""
    return 0.0 if named else 1 - SHARED * SHARED * count / (count * SHARED + 1 - SHARED)


def views(people: People, count: int, draw: torch.Generator, *, named: bool) -> Tensor:
    """Draw a mask of `count` views of each person, with or without those at the named yaw."""
    order = torch.rand(people.codes.shape[:3], generator=draw)
    order[torch.arange(len(order)), :, people.yaw] = 2.0 if named else -1.0
    return order.argsort(dim=2, descending=True).argsort(dim=2) < count
