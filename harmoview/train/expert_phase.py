"""The order of a run: one phase of one expert after the other."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from harmoview.curriculum import Phase
from harmoview.flow import Expert, NoiseSchedule, expert_range
from harmoview.train.settings import TrainSettings


@dataclass(frozen=True)
class ExpertPhase:
    """A part of the run: one phase of one expert."""

    model: str
    """transformer or transformer_2."""
    expert: Expert | None
    """Which part of the noise it works on; None for a base without experts."""
    number: int
    """The phase's number, from 1."""
    phase: Phase
    first: int
    """Steps of the run before this part."""
    noise: NoiseSchedule

    @property
    def last(self) -> int:
        """Steps of the run when this part is done."""
        return self.first + self.phase.steps


MODELS: dict[Expert | None, str] = {
    None: "transformer", "high": "transformer", "low": "transformer_2",
}  # fmt: skip
"""Where bases and trained models have each expert."""


def expert_phases(settings: TrainSettings, boundary: float | None) -> list[ExpertPhase]:
    """List the parts of a run: all phases of the high-noise expert, then all of the other.

    `boundary` is the noise level between the experts, None for a base without them.
    """
    found: list[ExpertPhase] = []
    experts: tuple[Expert | None, ...] = (None,) if boundary is None else ("high", "low")
    done = 0
    for expert in experts:
        if expert is not None and settings.experts not in ("both", expert):
            continue
        low, high = expert_range(expert, boundary)
        for number, phase in settings.curriculum_phases():
            noise = NoiseSchedule(**asdict(phase.noise), low=low, high=high)
            found.append(ExpertPhase(MODELS[expert], expert, number, phase, done, noise))
            done += phase.steps
    return found
