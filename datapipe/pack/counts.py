"""What has been packed so far, counted in the order of the keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datapipe.pack.kept import KeptSample
from datapipe.pack.manifest import Totals
from datapipe.pack.shards import Member


@dataclass
class Counts:
    """Grows with every sample; what it held at the end of a shard outlives an interruption."""

    samples: int = 0
    identities: int = 0
    bytes: int = 0
    views: Counter[str] = field(default_factory=Counter)
    """By yaw, as text."""
    members: Counter[str] = field(default_factory=Counter)
    """By their name after the key."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By what was wrong."""

    def add(self, kept: KeptSample, members: Sequence[Member]) -> None:
        self.samples += 1
        self.identities += len(kept.identities)
        self.bytes += sum(member.size for member in members)
        self.members.update(member.name.partition(".")[2] for member in members)
        for identity in kept.identities.values():
            self.views.update(str(yaw) for yaw in identity.views)

    def totals(self, candidates: int, over_cap: int) -> Totals:
        """Of `candidates`, those that were neither packed nor skipped nor too many: left out."""
        return Totals(
            candidates=candidates,
            samples=self.samples,
            identities=self.identities,
            views={yaw: self.views[yaw] for yaw in sorted(self.views, key=int)},
            bytes=self.bytes,
            left_out=candidates - self.samples - self.skipped.total() - over_cap,
            skipped=dict(sorted(self.skipped.items())),
            members=dict(sorted(self.members.items())),
            over_cap=over_cap,
        )

    def as_dict(self) -> dict[str, Any]:
        return {name: dict(v) if isinstance(v, Counter) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Counts:
        """Raises KeyError, TypeError and ValueError when `data` is not from `as_dict`."""
        return cls(
            samples=int(data["samples"]),
            identities=int(data["identities"]),
            bytes=int(data["bytes"]),
            views=Counter(dict(data["views"])),
            members=Counter(dict(data["members"])),
            skipped=Counter(dict(data["skipped"])),
        )
