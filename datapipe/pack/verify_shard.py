"""One shard against its entry in the manifest: its hash, and its samples one by one."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datapipe.files import Folder
from datapipe.names import parse_name
from datapipe.pack.manifest import NAME, Manifest
from datapipe.pack.shards import Shard
from datapipe.pack.tar_reader import TarReader

NAMED = 20
"""Mismatches that are named per shard; the rest are counted."""
_DESCRIPTION = 4 << 20
"""Bytes of a sample's JSON that are read."""
_MOST_MEMBERS = 1000
"""Of a sample; keeps a forged one from filling the memory."""
_CLIP = re.compile(r"[a-z0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as the manifest says."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Counted:
    """What was found in all shards."""

    def __init__(self) -> None:
        self.samples = 0
        self.identities = 0
        self.views: Counter[str] = Counter()
        self.members: Counter[str] = Counter()
        self.bytes = 0

    def add(self, check: ShardCheck) -> None:
        self.samples += check.samples
        self.identities += check.identities
        self.views += check.views
        self.members += check.members
        self.bytes += check.bytes

    def against(self, manifest: Manifest) -> Iterator[Mismatch]:
        totals = manifest.totals
        for name in ("samples", "identities", "bytes"):
            found, said = getattr(self, name), getattr(totals, name)
            if found != said:
                yield Mismatch(NAME, f"says {said} {name} in all, the shards hold {found}")
        if totals.members and dict(self.members) != dict(totals.members):
            yield Mismatch(NAME, "counts other members than there are in the shards")
        for yaw in sorted({*self.views, *totals.views}):
            if self.views[yaw] != totals.views.get(yaw, 0):
                said = totals.views.get(yaw, 0)
                yield Mismatch(NAME, f"says {said} views at {yaw}°, there are {self.views[yaw]}")


class ShardCheck:
    """One shard: its hash, and its samples one by one."""

    def __init__(self, shard: Shard, last: str) -> None:
        self.shard = shard
        self.key = last
        self.samples = 0
        self.identities = 0
        self.views: Counter[str] = Counter()
        self.members: Counter[str] = Counter()
        self.bytes = 0
        self.keys: list[str] = []
        self._names: dict[str, bytes | None] = {}

    def run(self, folder: Folder) -> Iterator[Mismatch]:
        """Everything that is wrong; the first `NAMED` one by one."""
        shard, more = self.shard, 0
        with folder.open(shard.name) as file:
            reader = TarReader(file)
            for number, what in enumerate(self._contents(reader)):
                if number < NAMED:
                    yield Mismatch(shard.name, what)
                else:
                    more += 1
            digest, size = reader.finish()
        if more:
            yield Mismatch(shard.name, f"and {more} more")
        if size != shard.bytes:
            yield Mismatch(shard.name, f"has {size} bytes, the manifest says {shard.bytes}")
        elif digest != shard.sha256:
            yield Mismatch(shard.name, f"has SHA-256 {digest}, the manifest says {shard.sha256}")
        if self.samples != shard.samples:
            said = f"the manifest says {shard.samples}"
            yield Mismatch(shard.name, f"holds {self.samples} samples, {said}")

    def _contents(self, reader: TarReader) -> Iterator[str]:
        key = None
        try:
            for entry in reader.entries(".json", _DESCRIPTION):
                self.bytes += entry.size
                found, _, name = entry.name.partition(".")
                if found != key:
                    yield from self._sample(key)
                    key, self._names = found, {}
                shown = repr(entry.name[:200])
                if not key or "/" in entry.name or "\\" in entry.name:
                    yield f"{shown} is not the name of a member"
                elif name in self._names:
                    yield f"{shown} is there twice"
                elif len(self._names) < _MOST_MEMBERS:
                    self._names[name] = entry.data if name == "json" else None
        except tarfile.ReadError as broken:
            yield f"is not a whole tar: {broken}"
        yield from self._sample(key)

    def _sample(self, key: str | None) -> Iterator[str]:
        """A sample whose last member has been read."""
        if key is None:
            return
        shown = repr(key[:200])
        self.samples += 1
        self.keys.append(key)
        if key <= self.key:
            yield f"sample {shown} is out of order or there twice"
        self.key = key
        names = set(self._names)
        pictures = {parsed for name in names if (parsed := parse_name(name))}
        rest = {name for name in names if parse_name(name) is None} - {"txt", "json"}
        clips = {name for name in rest if _CLIP.fullmatch(name)}
        for name in sorted(rest - clips):
            yield f"sample {shown} holds {name[:200]!r}, which does not belong in a sample"
        self.members.update(names - (rest - clips))
        if len(clips) != 1:
            yield f"sample {shown} has {len(clips)} clips, not one"
        for name in sorted({"txt", "json"} - names):
            yield f"sample {shown} lacks its .{name}"
        self.identities += sum(yaw is None for _, yaw in pictures)
        self.views.update(str(yaw) for _, yaw in pictures if yaw is not None)
        if "json" in names:
            yield from self._against_description(shown, pictures)

    def _against_description(
        self, shown: str, pictures: set[tuple[int, int | None]]
    ) -> Iterator[str]:
        try:
            described = _pictures(json.loads(self._names["json"] or b""))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            yield f"the JSON of sample {shown} does not describe a sample"
            return
        for index, yaw in sorted(described - pictures, key=str):
            yield f"sample {shown} lacks {_picture(index, yaw)}, which its JSON names"
        for index, yaw in sorted(pictures - described, key=str):
            yield f"sample {shown} holds {_picture(index, yaw)}, which its JSON does not name"


def _pictures(description: Any) -> set[tuple[int, int | None]]:
    found: set[tuple[int, int | None]] = set()
    for identity in description["identities"]:
        index = int(identity["identity"])
        found |= {(index, None), *((index, int(yaw)) for yaw in identity["yaws"])}
    return found


def _picture(identity: int, yaw: int | None) -> str:
    return f"the reference of id{identity}" if yaw is None else f"id{identity} at {yaw:+d}°"
