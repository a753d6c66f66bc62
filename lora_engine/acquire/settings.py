"""How frames are picked from clips of people turning their heads.

The settings are apart from the code, which loads libraries, so that `--help` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass

from datapipe.errors import check_range
from datapipe.record import YAWS


@dataclass(frozen=True, slots=True)
class AcquireSettings:
    """How frames are picked. Raises ValueError for a value out of its range."""

    yaws: tuple[int, ...] = YAWS
    """Degrees; positive when the nose points to image right. They must include 0."""
    tolerance: float = 3.0
    """Degrees by which a frame's yaw may differ from the one for which it stands. No estimator
    reads 90 as well: there the frames are taken in which the head has turned farthest."""
    side: int = 512
    """Side of the pictures of every subject, pixels; at least 64."""
    every: float = 0.25
    """Seconds between the frames that are looked at first."""
    looks: int = 160
    """Frames of a clip that are looked at, at most."""
    choices: int = 3
    """Frames for each yaw of which the sharpest are taken, if the clip has that many."""
    frames: int = 2
    """Frames kept for each yaw, at most."""
    references: int = 4
    """Frontal frames kept as references, at most; their yaw and pitch may be off by as much as the
    references' of the main job."""
    truth: bool = False
    """Pick by the yaw in a clip's .json (as `harmoview subjects` writes it) where there is one,
    and not by the measured yaw."""

    def __post_init__(self) -> None:
        if 0 not in self.yaws:
            raise ValueError("--yaws must include 0: the frontal frame is the reference")
        if len(set(self.yaws)) < len(self.yaws) or max(map(abs, self.yaws)) > 90:
            raise ValueError(f"--yaws must differ and lie within -90 and 90, not {self.yaws}")
        check_range(self, "tolerance", above=0, most=15)
        check_range(self, "side", least=64)
        check_range(self, "every", above=0)
        check_range(self, "choices", "frames", "references", least=1)
        if self.frames > self.choices:
            raise ValueError(f"--frames {self.frames}: at most --choices ({self.choices}) are kept")
        check_range(self, "looks", least=8 * len(self.yaws))
