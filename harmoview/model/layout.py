"""The slots of the reference views and their places on the temporal axis (Jump-RoPE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from datapipe.errors import check_range
from datapipe.record import YAWS

AbsentViews = Literal["proxy", "sequential", "gray"]
"""What takes the place of an absent view: proxy tokens, which are learned; nothing, so that the
other views close ranks; a grey picture."""

IDENTITY_GAP = 28
"""Empty positions between the blocks of two identities. With `VIDEO_GAP` it is the closest layout
in which no two bands agree in phase by more than one half: see `benchmarks/rope_leakage.py`."""
VIDEO_GAP = 29
"""Empty positions between the nearest block and frame 0."""


@dataclass(frozen=True, slots=True)
class ReferenceLayout:
    """One slot for each yaw of each identity, in front of the video's frames 0, 1, 2, …

    An identity always fills its whole block, so an absent view leaves its slot to a proxy. A sample
    has as many blocks as identities; the block of a single person is where the first of two people
    has it. Raises ValueError for settings that make no layout.
    """

    yaws: tuple[int, ...] = YAWS
    identities: int = 2
    """Identities that a sample may have, at most."""
    identity_gap: int = IDENTITY_GAP
    video_gap: int = VIDEO_GAP
    jump_rope: bool = True
    """Whether there are gaps at all."""

    def __post_init__(self) -> None:
        if self.yaws.count(0) != 1 or len(set(self.yaws)) != len(self.yaws):
            raise ValueError(f"yaws must be distinct and hold 0, the frontal view: {self.yaws}")
        check_range(self, "identities", least=1, option="")
        check_range(self, "identity_gap", "video_gap", least=0, option="")

    @property
    def frontal(self) -> int:
        """The slot of the frontal view."""
        return self.yaws.index(0)

    def check(self, latents: Sequence[int], mask: Sequence[int], batch: int, channels: int) -> None:
        """Check the shapes of reference latents and mask. Raises ValueError where they do not fit.

        `batch` and `channels` are those of the video's latents.
        """
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
        """Return the temporal positions of blocks of `views[i]` views, identity by identity.

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
    """Check a choice of `AbsentViews`. Raises ValueError for another, or grey without a latent."""
    if value not in get_args(AbsentViews):
        raise ValueError(f"absent_views must be one of {get_args(AbsentViews)}, got {value!r}")
    if value == "gray" and (gray_latent is None or len(gray_latent) != channels):
        raise ValueError(f"absent_views gray needs gray_latent with {channels} numbers")
