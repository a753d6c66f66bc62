"""Verify: shards against their manifest, reading each once and trusting neither."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import parse_name
from datapipe.shards import Shard
from datapipe.tar import TarReader
from dataset.pack.manifest import (
    CARD,
    NAME,
    PACKING,
    REPORT,
    HoldoutManifest,
    Manifest,
    PackTotals,
    count,
    load_holdout,
    load_parts,
)

NAMED = 20
"""Mismatches that are named per shard; the rest are counted."""
_DESCRIPTION = 4 << 20
"""Bytes of a sample's JSON that are read."""
_MOST_MEMBERS = 1000
"""Of a sample; keeps a forged one from filling the memory."""
_CLIP = re.compile(r"[a-z0-9]{1,8}")
_MALFORMED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What reading a sample's JSON raises when it says something else than pack writes."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as the manifest says."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def against(found: PackTotals, said: PackTotals) -> Iterator[Mismatch]:
    """What the shards hold, against what their manifest says of all of them."""
    for name in ("samples", "identities", "bytes"):
        one, other = getattr(found, name), getattr(said, name)
        if one != other:
            yield Mismatch(NAME, f"says {other} {name} in all, the shards hold {one}")
    if found.members != said.members:
        yield Mismatch(NAME, "counts other members than there are in the shards")
    for yaw in sorted({*found.views, *said.views}):
        one, other = found.views.get(yaw, 0), said.views.get(yaw, 0)
        if one != other:
            yield Mismatch(NAME, f"says {other} views at {yaw}°, there are {one}")


class CaptionCount:
    """The captions of all samples."""

    def __init__(self) -> None:
        self.present = 0
        self.empty = 0
        """Of samples whose source says nothing."""
        self.undecodable = 0
        """Empty, because what the source says is no text: the sample's JSON tells why."""
        self._digests = array("Q")

    def add(self, caption: bytes, *, undecodable: bool) -> None:
        if undecodable:
            self.undecodable += 1
        elif not caption:
            self.empty += 1
        else:
            self.present += 1
            digest = hashlib.blake2b(caption, digest_size=8).digest()
            self._digests.append(int.from_bytes(digest))

    @property
    def duplicates(self) -> int:
        """Samples whose caption another one has already."""
        return len(self._digests) - len(np.unique(np.asarray(self._digests)))

    def __str__(self) -> str:
        counts = {
            "with": self.present,
            "empty": self.empty,
            "undecodable": self.undecodable,
            "duplicates": self.duplicates,
        }
        found = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        return found or "none"


class ShardCheck:
    """One shard: its hash, and its samples one by one."""

    def __init__(self, shard: Shard, last: str, captions: CaptionCount) -> None:
        self.shard = shard
        self.captions = captions
        self.key = last
        self.found = PackTotals()
        self.keys: list[str] = []
        self._names: dict[str, bytes | None] = {}

    def run(self, folder: Folder) -> Iterator[Mismatch]:
        """Everything that is wrong; the first `NAMED` one by one."""
        shard, more = self.shard, 0
        with folder.open(shard.name) as file:
            reader = TarReader(file, hashed=True)
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
        if (samples := self.found.samples) != shard.samples:
            said = f"the manifest says {shard.samples}"
            yield Mismatch(shard.name, f"holds {samples} samples, {said}")

    def _contents(self, reader: TarReader) -> Iterator[str]:
        key = None
        try:
            for member in reader:
                self.found.bytes += member.size
                found, _, name = member.name.partition(".")
                if found != key:
                    yield from self._sample(key)
                    key, self._names = found, {}
                shown = repr(member.name[:200])
                if not key or "/" in member.name or "\\" in member.name:
                    yield f"{shown} is not the name of a member"
                elif name in self._names:
                    yield f"{shown} is there twice"
                elif len(self._names) < _MOST_MEMBERS:
                    wanted = name in ("json", "txt") and member.size <= _DESCRIPTION
                    self._names[name] = reader.read() if wanted else None
        except tarfile.ReadError as broken:
            yield f"is not a whole tar: {broken}"
        yield from self._sample(key)

    def _sample(self, key: str | None) -> Iterator[str]:
        """A sample whose last member has been read."""
        if key is None:
            return
        shown = repr(key[:200])
        self.found.samples += 1
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
        count(self.found.members, names - (rest - clips))
        if len(clips) != 1:
            yield f"sample {shown} has {len(clips)} clips, not one"
        for name in sorted({"txt", "json"} - names):
            yield f"sample {shown} lacks its .{name}"
        self.found.identities += sum(yaw is None for _, yaw in pictures)
        count(self.found.views, (str(yaw) for _, yaw in pictures if yaw is not None))
        if "json" in names:
            yield from self._against_description(shown, pictures)

    def _against_description(
        self, shown: str, pictures: set[tuple[int, int | None]]
    ) -> Iterator[str]:
        try:
            description = json.loads(self._names["json"] or b"")
            described = _pictures(description)
            yield from self._caption(shown, description)
        except _MALFORMED:
            yield f"the JSON of sample {shown} does not describe a sample"
            return
        for index, yaw in sorted(described - pictures, key=str):
            yield f"sample {shown} lacks {_picture(index, yaw)}, which its JSON names"
        for index, yaw in sorted(pictures - described, key=str):
            yield f"sample {shown} holds {_picture(index, yaw)}, which its JSON does not name"

    def _caption(self, shown: str, description: Mapping[str, Any]) -> Iterator[str]:
        caption = self._names.get("txt") or b""
        self.captions.add(caption, undecodable="caption_problem" in description)
        try:
            several = description.get("captions", [caption.decode()])
        except UnicodeDecodeError:
            yield f"the caption of sample {shown} is not UTF-8"
            return
        if several[0].encode() != caption:
            yield f"the caption of sample {shown} is not the first that its JSON names"


def _pictures(description: Any) -> set[tuple[int, int | None]]:
    found: set[tuple[int, int | None]] = set()
    for identity in description["identities"]:
        index = int(identity["identity"])
        found |= {(index, None), *((index, int(yaw)) for yaw in identity["yaws"])}
    return found


def _picture(identity: int, yaw: int | None) -> str:
    return f"the reference of id{identity}" if yaw is None else f"id{identity} at {yaw:+d}°"


_SHARD = re.compile(r"\d{6,}\.tar")

Show = Callable[[int, int], None]
"""Told how many of how many bytes are read."""


def verify(folder: Folder, show: Show, captions: CaptionCount | None = None) -> Iterator[Mismatch]:
    """Everything that is wrong with a folder of shards, or of splits, as it is found.

    `captions` grows with what is read.

    Raises UserError when there is no readable manifest.
    """
    try:
        holdout = load_holdout(folder)
        manifests = list(load_parts(folder).values())
    except FileNotFoundError as missing:
        raise UserError(
            f"{folder.url} has no {NAME}: it is not a folder of shards, or `harmoview pack` did "
            "not finish; pack again"
        ) from missing
    check = _Verify(manifests, show, CaptionCount() if captions is None else captions)
    if holdout is None:
        yield from check.beside(folder, manifests[0].files)
        yield from check.shards(folder, manifests[0])
    else:
        yield from check.beside(folder, holdout.files)
        yield from check.splits(folder, holdout)


class _Verify:
    """One pass over everything that the manifests name."""

    def __init__(self, manifests: Sequence[Manifest], show: Show, captions: CaptionCount) -> None:
        self._manifests, self._show, self._captions = manifests, show, captions
        self._whole = sum(shard.bytes for one in manifests for shard in one.shards)
        self._read = 0
        self._keys: set[str] = set()

    def beside(self, folder: Folder, files: Mapping[str, str]) -> Iterator[Mismatch]:
        """The files beside the shards; the card may have been edited, but is it about these?"""
        present = set(folder.names("*"))
        for name, digest in files.items():
            if name != REPORT:
                yield Mismatch(NAME, f"names {name[:200]!r}, which is no file of a pack")
            elif name not in present:
                yield Mismatch(name, "is missing")
            elif hashlib.sha256(folder.read(name)).hexdigest() != digest:
                yield Mismatch(name, "is not the one that was packed")
        if CARD in present:
            text = folder.read(CARD).decode(errors="replace")
            if not all(manifest.fingerprint in text for manifest in self._manifests):
                yield Mismatch(CARD, "is about other shards: it lacks the SHA-256 of these")

    def splits(self, folder: Folder, holdout: HoldoutManifest) -> Iterator[Mismatch]:
        """Each split like a folder of shards; and no sample in two of them."""
        for name in sorted(set(folder.names("*")) - {NAME, PACKING, CARD, REPORT, *holdout.splits}):
            yield Mismatch(name, "is not in the manifest")
        parts = zip(holdout.splits.items(), self._manifests, strict=True)
        # the small one first: the keys of all but the last are remembered
        for (split, digest), manifest in sorted(parts, key=lambda part: part[1].totals.samples):
            part, before = folder.folder(split), frozenset(self._keys)
            if hashlib.sha256(part.read(NAME)).hexdigest() != digest:
                yield Mismatch(f"{split}/{NAME}", "is not the one that was packed")
            for mismatch in self.shards(part, manifest, before):
                yield Mismatch(f"{split}/{mismatch.where}", mismatch.what)

    def shards(
        self, folder: Folder, manifest: Manifest, others: frozenset[str] = frozenset()
    ) -> Iterator[Mismatch]:
        """The shards of one manifest."""
        present = set(folder.names("*"))
        listed = {shard.name for shard in manifest.shards}
        for name in sorted(present - listed - {NAME, PACKING, CARD, *manifest.files}):
            yield Mismatch(name, "is not in the manifest")
        counted = PackTotals()
        last = ""
        for shard in manifest.shards:
            if not _SHARD.fullmatch(shard.name):
                yield Mismatch(NAME, f"{shard.name!r} is not a shard's name")
                continue
            if shard.name not in present:
                yield Mismatch(shard.name, "is missing")
                continue
            check = ShardCheck(shard, last, self._captions)
            yield from check.run(folder)
            yield from self._in_two(shard.name, check.keys, others)
            last = check.key
            counted += check.found
            self._read += shard.bytes
            self._show(self._read, self._whole)
        yield from against(counted, manifest.totals)

    def _in_two(self, name: str, keys: list[str], others: frozenset[str]) -> Iterator[Mismatch]:
        if twice := others.intersection(keys):
            named = f"{min(twice)[:200]!r}" + (f" and {len(twice) - 1} more" * (len(twice) > 1))
            yield Mismatch(name, f"holds {named}, which another split holds too")
        if len(self._manifests) > 1:
            self._keys.update(keys)
