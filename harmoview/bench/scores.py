"""A score: one number of one video, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["ok", "not_applicable", "no_face", "missing_weights", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class VideoScore:
    """What a scorer says of a video, of one of its people, or of one bin of their frames."""

    metric: str
    value: float | None
    n_frames: int = 0
    """Frames that were looked at."""
    n_used: int = 0
    """Frames that the value rests on."""
    identity: str = ""
    """Empty for the whole video."""
    variant: str = ""
    """A bin of |yaw|, or empty for all frames."""
    status: Status = "ok"
    reason: str = ""

    @property
    def column(self) -> str:
        """As tables head it: `hv_face_view[15-45]`."""
        return f"{self.metric}[{self.variant}]" if self.variant else self.metric
