"""The legs of a run: one phase of one expert after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harmoview.curriculum import Phase
from harmoview.flow import NoiseSchedule, expert_range
from harmoview.train.settings import TrainSettings


@dataclass(frozen=True)
class Leg:
    """One phase of one expert: a stretch of the run's steps."""

    expert: str
    """transformer or transformer_2."""
    number: int
    """Of the phase, 1..4."""
    phase: Phase
    first: int
    """Steps of the run before it."""
    noise: NoiseSchedule

    @property
    def last(self) -> int:
        """Steps of the run when it is done."""
        return self.first + self.phase.steps


def legs(settings: TrainSettings, experts: Sequence[str], shift: float) -> list[Leg]:
    """The run: all phases of the first expert, then all of the next."""
    found: list[Leg] = []
    names: dict[str, Literal["high", "low"] | None] = {name: None for name in experts}
    if len(experts) == 2:
        names = {"transformer": "high", "transformer_2": "low"}
    done = 0
    for name, expert in names.items():
        if expert is not None and settings.experts not in ("both", expert):
            continue
        low, high = expert_range(expert)
        noise = NoiseSchedule(settings.distribution, settings.shift or shift, low=low, high=high)
        for number, phase in settings.curriculum_phases():
            found.append(Leg(name, number, phase, done, noise))
            done += phase.steps
    return found
