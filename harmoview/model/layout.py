"""The slots of the reference views and their places on the temporal axis (Jump-RoPE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from datapipe.record import YAWS

AbsentViews = Literal["proxy", "sequential", "gray"]
"""What an absent view becomes: learnable proxy tokens; nothing, the others close ranks; grey."""


IDENTITY_GAP = 28
"""Empty positions between the blocks of two identities. With `VIDEO_GAP` it is the closest layout
in which no two bands agree in phase by more than one half: see `benchmarks/rope_leakage.py`."""
VIDEO_GAP = 29
"""Empty positions between the nearest block and frame 0."""


@dataclass(frozen=True, slots=True)
class ReferenceLayout:
    """One slot for each yaw of each identity, in front of the video's frames 0, 1, 2, …

    An identity always fills its whole block, so an absent view leaves its slot to a proxy. The
    number of blocks is the number of identities of the sample: one person has one block, at the
    same places as the first of two people.
    """

    yaws: tuple[int, ...] = YAWS
    identities: int = 2
    """The most that a sample may have."""
    identity_gap: int = IDENTITY_GAP
    video_gap: int = VIDEO_GAP
    jump_rope: bool = True
    """False: blocks and video follow each other without gaps."""

    def __post_init__(self) -> None:
        if self.yaws.count(0) != 1 or len(set(self.yaws)) != len(self.yaws):
            raise ValueError(f"yaws must be distinct and hold 0, the frontal view: {self.yaws}")
        if self.identities < 1:
            raise ValueError(f"identities must be at least 1, got {self.identities}")
        if self.identity_gap < 0 or self.video_gap < 0:
            raise ValueError(
                f"gaps cannot be negative: identity_gap {self.identity_gap}, "
                f"video_gap {self.video_gap}"
            )

    @property
    def frontal(self) -> int:
        """The slot of the frontal view."""
        return self.yaws.index(0)

    def check(self, latents: Sequence[int], mask: Sequence[int], batch: int, channels: int) -> None:
        """Raises ValueError where the shapes of reference latents and mask do not fit."""
        slots = (batch, len(self.yaws), channels)
        if len(latents) != 6 or (latents[0], *latents[2:4]) != slots:
            raise ValueError(
                f"reference_latents must be [{batch}, identities, {len(self.yaws)}, {channels}, "
                f"h, w], got {list(latents)}"
            )
        if not 1 <= latents[1] <= self.identities:
            raise ValueError(f"{latents[1]} identities, the model has 1..{self.identities}")
        if tuple(mask) != tuple(latents[:3]):
            raise ValueError(f"reference_mask must be {list(latents[:3])}, got {list(mask)}")

    def positions(self, views: Sequence[int]) -> tuple[int, ...]:
        """Temporal positions of identity blocks of `views[i]` views each, identity by identity.

        Identity 0 is nearest to the video, so its place does not depend on who else is there.
        """
        identity_gap, video_gap = self._gaps
        end = -video_gap
        places: list[int] = []
        for count in views:
            places.extend(range(end - count, end))
            end -= count + identity_gap
        return tuple(places)

    @property
    def _gaps(self) -> tuple[int, int]:
        return (self.identity_gap, self.video_gap) if self.jump_rope else (0, 0)


def check_absent_views(value: str, gray_latent: Sequence[float] | None, channels: int) -> None:
    """Raises ValueError where `value` is not one of `AbsentViews`, or lacks what it needs."""
    if value not in get_args(AbsentViews):
        raise ValueError(f"absent_views must be one of {get_args(AbsentViews)}, got {value!r}")
    if value == "gray" and (gray_latent is None or len(gray_latent) != channels):
        raise ValueError(f"absent_views gray needs gray_latent with {channels} numbers")
