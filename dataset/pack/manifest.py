"""The manifest of a folder of shards: written last, so it vouches for all of them.

What has been packed so far, counted in the order of the keys.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Member, Shard
from dataset.judged import KeptSample

NAME = "manifest.json"
PACKING = "packing.json"
"""Present while shards have no manifest: marks the folder as one that pack may clear."""
KIND = "harmoview-shards"
SPLITS_KIND = "harmoview-splits"
FORMAT = 2
CARD = "README.md"
REPORT = "identities.jsonl"
SPLITS = ("train", "validation")
READABLE = (1, 2)
"""Format 1 has neither `selection` nor `files`, and totals without `members`."""
LARGEST = 256 << 20
"""Bytes of a manifest; a million shards need about 150 MB."""


@dataclass(frozen=True)
class Totals:
    """What is in the shards, and what became of the other candidates."""

    candidates: int = 0
    """Of the run, or of its part that belongs to this split; samples + left out + skipped + over
    cap."""
    samples: int = 0
    identities: int = 0
    views: Mapping[str, int] = field(default_factory=dict)
    """By yaw, as text: JSON has no other keys."""
    bytes: int = 0
    left_out: int = 0
    """Candidates without an identity that passes the rules."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Candidates that passed and could not be packed, by reason."""
    members: Mapping[str, int] = field(default_factory=dict)
    """How many samples have a member of which name after the key; empty in format 1."""
    over_cap: int = 0
    """Candidates that passed, of people who have enough samples without them."""

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            candidates=self.candidates + other.candidates,
            samples=self.samples + other.samples,
            identities=self.identities + other.identities,
            views=_sum(self.views, other.views),
            bytes=self.bytes + other.bytes,
            left_out=self.left_out + other.left_out,
            skipped=_sum(self.skipped, other.skipped),
            members=_sum(self.members, other.members),
            over_cap=self.over_cap + other.over_cap,
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    run: Mapping[str, Any]
    """Settings hash, seed and scorers of the run that was packed."""
    rules: Mapping[str, Any]
    limits: Mapping[str, int]
    totals: Totals
    shards: tuple[Shard, ...]
    selection: Mapping[str, Any] = field(default_factory=dict)
    """By which settings samples were chosen by identity; empty where all that pass are packed."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of what else lies beside, by name."""

    @property
    def fingerprint(self) -> str:
        """Of the shards, in their order; the data set card names it."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def write(self, folder: Folder) -> None:
        data = {"kind": KIND, "format": FORMAT, **asdict(self)}
        folder.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


@dataclass(frozen=True)
class SplitsManifest:
    """The content of the manifest.json above splits: written last, it vouches for their own."""

    splits: Mapping[str, str]
    """SHA-256 of each split's manifest, by its name."""
    selection: Mapping[str, Any]
    """By which settings the splits were made."""
    files: Mapping[str, str]
    """SHA-256 of what else lies beside, by name."""

    def write(self, folder: Folder) -> None:
        data = {"kind": SPLITS_KIND, "format": FORMAT, **asdict(self)}
        folder.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def load_splits(folder: Folder) -> SplitsManifest | None:
    """None where the manifest is not one of splits. Raises as `load_manifest` does."""
    data = read_manifest(folder, KIND, SPLITS_KIND)
    if "splits" not in data:
        return None
    try:
        found = SplitsManifest(**data)
        if unknown := set(found.splits) - set(SPLITS):
            raise ValueError(f"{min(unknown)!r} is not a split")
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise _no_manifest(folder, wrong) from wrong
    return found


def load_parts(folder: Folder) -> dict[str | None, Manifest]:
    """The manifests of a pack by split, None where it has no splits. Raises as above."""
    splits = load_splits(folder)
    if splits is None:
        return {None: load_manifest(folder)}
    parts: dict[str | None, Manifest] = {}
    for split in splits.splits:
        if not folder.exists(f"{split}/{NAME}"):
            raise UserError(f"{folder.url}/{split} has no {NAME}; copy it here, or pack again")
        parts[split] = load_manifest(folder.folder(split))
    return parts


def load_packed(folder: Folder) -> Manifest:
    """What a pack holds in all, with shards of splits as `train/000000.tar`. Raises as above."""
    parts = load_parts(folder)
    if None in parts:
        return parts[None]
    shards = [
        replace(shard, name=f"{split}/{shard.name}")
        for split, manifest in parts.items()
        for shard in manifest.shards
    ]
    first = next(iter(parts.values()))
    totals = sum((manifest.totals for manifest in parts.values()), start=Totals())
    return replace(first, totals=totals, shards=tuple(shards))


def load_manifest(folder: Folder) -> Manifest:
    """Raises FileNotFoundError, and UserError when manifest.json is not one of ours or damaged."""
    data = read_manifest(folder, KIND)
    try:
        totals = Totals(**data.pop("totals"))
        shards = tuple(Shard(**shard) for shard in data.pop("shards"))
        return Manifest(**data, totals=totals, shards=shards)
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise _no_manifest(folder, wrong) from wrong


def read_manifest(folder: Folder, *kinds: str) -> dict[str, Any]:
    """The content of a manifest of one of `kinds`, without kind and format.

    Raises FileNotFoundError, and UserError when it is none or of a format that is too new.
    """
    path = folder.path(NAME)
    if folder.size(NAME) > LARGEST:
        raise UserError(
            f"{path} is over {LARGEST >> 20} MB; it was not written by `harmoview pack`"
        )
    try:
        data: dict[str, Any] = json.loads(folder.read(NAME))
        kind, found = data.pop("kind"), data.pop("format")
        if kind == SPLITS_KIND and kind not in kinds:
            raise UserError(
                f"{folder.url} holds splits, not shards: give {folder.url}/train or one beside it"
            )
        if kind not in kinds:
            raise ValueError(f"kind {kind!r} is not {' or '.join(map(repr, kinds))}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise _no_manifest(folder, wrong) from wrong
    if found not in READABLE:
        raise UserError(f"{path} is of format {found}; this version reads up to {FORMAT}")
    return data


def _no_manifest(folder: Folder, wrong: Exception) -> UserError:
    return UserError(
        f"{folder.path(NAME)} is not a manifest of shards: {wrong!r}; "
        "`harmoview pack RUN` writes one"
    )


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
