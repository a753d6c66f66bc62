"""What the report must know of the rules: every threshold, and what is tested against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["at_least", "at_most", "around", "beyond"]
"""Passes when, with the threshold t and the score x of a view at a yaw: x >= t; |x| <= t;
yaw - t <= x <= yaw + t; x >= t on the yaw's side of 0."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number of the rules."""

    path: tuple[str | int, ...]
    """Where it stands in the described rules; of the identity curve, the |yaw| last."""
    title: str
    unit: str
    value: float
    stricter: Literal["up", "down"]
    """Whether a larger number rejects more."""
    least: float | None = None
    most: float | None = None
    """The range that a rules file may give."""
    decimals: int = 6
    """As finely as the rules hold it."""
    steps: int = 24
    """About how many values it can be moved to; fewer than 29."""


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a picture: a score against a threshold."""

    threshold: int
    """Its place in `Plan.thresholds`."""
    reason: str
    """Why a picture that fails it is rejected."""
    kind: Kind
    column: str
    yaw: int = 0
    """Whose score is looked at: the view's own yaw, or the nearer one it rests on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules as the report draws and moves them. The first check that fails gives the reason;
    before all of them, a face must have been found."""

    thresholds: tuple[Threshold, ...]
    references: tuple[Check, ...]
    views: Mapping[int, tuple[Check, ...]]
    """By yaw, in the order in which they are tested."""
    described: Mapping[str, Any]
    """The rules as the manifest records them; JSON types."""

    @property
    def yaws(self) -> tuple[int, ...]:
        return tuple(sorted(self.views))
