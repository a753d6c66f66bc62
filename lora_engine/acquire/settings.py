"""How frames are picked from clips of people turning their heads."""

from __future__ import annotations

from dataclasses import dataclass

from datapipe.record import YAWS


@dataclass(frozen=True, slots=True)
class AcquireSettings:
    """How frames are picked."""

    yaws: tuple[int, ...] = YAWS
    """Degrees; positive when the nose points to image right. They must hold 0."""
    tolerance: float = 3.0
    """Degrees by which a frame's yaw may differ from the one it stands for. At 90 no estimator
    reads so well: there the frames are taken in which the head has turned farthest."""
    side: int = 512
    """Side of the pictures in pixels, for every subject; at least 64."""
    every: float = 0.25
    """Seconds between the frames that are looked at first."""
    looks: int = 160
    """Frames of a clip that are looked at, at most."""
    choices: int = 3
    """Frames for each yaw among which the sharpest is taken, if the clip has so many."""
    truth: bool = False
    """Pick by the yaw in a clip's .json (as `harmoview subjects` writes it) where there is one,
    instead of the yaw measured."""

    def __post_init__(self) -> None:
        if 0 not in self.yaws:
            raise ValueError("--yaws must hold 0: the frontal frame is the reference")
        if len(set(self.yaws)) < len(self.yaws) or max(map(abs, self.yaws)) > 90:
            raise ValueError(f"--yaws must differ and lie within -90 and 90, not {self.yaws}")
        if not 0 < self.tolerance <= 15:
            raise ValueError(f"--tolerance must be above 0 and at most 15, not {self.tolerance}")
        if self.side < 64:
            raise ValueError(f"--side must be at least 64 pixels, not {self.side}")
        if self.every <= 0 or self.choices < 1:
            raise ValueError("--every must be above 0, --choices at least 1")
        if self.looks < 8 * len(self.yaws):
            raise ValueError(f"--looks must be at least {8 * len(self.yaws)}, not {self.looks}")
