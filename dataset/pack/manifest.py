"""The manifest of a folder of shards: written last, so it vouches for all of them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Member, Shard
from datapipe.tar import TarReader
from dataset.judged import KeptSample

NAME = "manifest.json"
PACKING = "packing.json"
"""Present while shards have no manifest: marks the folder as one that pack may clear."""
KIND = "harmoview-shards"
HOLDOUT_KIND = "harmoview-splits"
FORMAT = 2
CARD = "README.md"
REPORT = "identities.jsonl"
SPLITS = ("train", "validation")
LARGEST = 256 << 20
"""Bytes of a manifest; a million shards need about 150 MB."""


@dataclass
class PackTotals:
    """What some shards hold, and what became of the other candidates; grows with every sample."""

    candidates: int = 0
    """Of the run, or of its part that belongs to this split; samples + left out + skipped + over
    cap."""
    samples: int = 0
    identities: int = 0
    views: dict[str, int] = field(default_factory=dict)
    """By yaw, as text: JSON has no other keys."""
    bytes: int = 0
    left_out: int = 0
    """Candidates without an identity that passes the rules."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Candidates that passed and could not be packed, by reason."""
    members: dict[str, int] = field(default_factory=dict)
    """How many samples have a member of which name after the key."""
    over_cap: int = 0
    """Candidates that passed, of people who have enough samples without them."""
    again: int = 0
    """Samples that are there a second time, with another video's references."""
    references: dict[str, int] = field(default_factory=dict)
    """Identities with their `own` references, with those of another `shot` of the clip, and with
    those of an `other` video."""

    @property
    def all_skipped(self) -> int:
        return sum(self.skipped.values())

    def pack(self, kept: KeptSample, members: Sequence[Member]) -> None:
        """Count a sample that went into a shard."""
        self.samples += 1
        self.again += kept.again
        count(self.references, (identity.origin for identity in kept.identities.values()))
        self.identities += len(kept.identities)
        self.bytes += sum(member.size for member in members)
        count(self.members, (member.name.partition(".")[2] for member in members))
        for identity in kept.identities.values():
            count(self.views, map(str, identity.views))

    def closed(self, candidates: int, over_cap: int) -> PackTotals:
        """These totals once all is packed: of `candidates`, the rest was left out."""
        return replace(
            self,
            candidates=candidates,
            views={yaw: self.views[yaw] for yaw in sorted(self.views, key=int)},
            left_out=candidates - self.samples + self.again - self.all_skipped - over_cap,
            skipped=dict(sorted(self.skipped.items())),
            members=dict(sorted(self.members.items())),
            references=dict(sorted(self.references.items())),
            over_cap=over_cap,
        )

    def __add__(self, other: PackTotals) -> PackTotals:
        sums: dict[str, Any] = {}
        for name, one in vars(self).items():
            more = getattr(other, name)
            if isinstance(one, dict):
                sums[name] = {key: one.get(key, 0) + more.get(key, 0) for key in {**one, **more}}
            else:
                sums[name] = one + more
        return PackTotals(**sums)


def count(counts: dict[str, int], names: Iterable[str]) -> None:
    """Add one for each of the names."""
    for name in names:
        counts[name] = counts.get(name, 0) + 1


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    run: Mapping[str, Any]
    """Settings hash, seed and scorers of the run that was packed."""
    rules: Mapping[str, Any]
    limits: Mapping[str, int]
    totals: PackTotals
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
class HoldoutManifest:
    """The content of the manifest.json above the splits: written last, it vouches for theirs."""

    splits: Mapping[str, str]
    """SHA-256 of each split's manifest, by its name."""
    selection: Mapping[str, Any]
    """By which settings the splits were made."""
    files: Mapping[str, str]
    """SHA-256 of what else lies beside, by name."""

    def write(self, folder: Folder) -> None:
        data = {"kind": HOLDOUT_KIND, "format": FORMAT, **asdict(self)}
        folder.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def load_holdout(folder: Folder) -> HoldoutManifest | None:
    """None where the manifest is not one above splits.

    Raises FileNotFoundError, and UserError when manifest.json is not one of ours or damaged.
    """
    data = read_manifest(folder, KIND, HOLDOUT_KIND)
    if "splits" not in data:
        return None
    try:
        found = HoldoutManifest(**data)
        if unknown := set(found.splits) - set(SPLITS):
            raise ValueError(f"{min(unknown)!r} is not a split")
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise _no_manifest(folder, wrong) from wrong
    return found


def load_parts(folder: Folder) -> dict[str | None, Manifest]:
    """The manifests of a pack by split, None where it has no splits. Raises as `load_holdout`."""
    holdout = load_holdout(folder)
    if holdout is None:
        return {None: load_manifest(folder)}
    parts: dict[str | None, Manifest] = {}
    for split in holdout.splits:
        if not folder.exists(f"{split}/{NAME}"):
            raise UserError(f"{folder.url}/{split} has no {NAME}; copy it here, or pack again")
        parts[split] = load_manifest(folder.folder(split))
    return parts


def load_packed(folder: Folder) -> Manifest:
    """What a pack holds in all, with shards of splits as `train/000000.tar`.

    Raises as `load_holdout`.
    """
    parts = load_parts(folder)
    if None in parts:
        return parts[None]
    shards = [
        replace(shard, name=f"{split}/{shard.name}")
        for split, manifest in parts.items()
        for shard in manifest.shards
    ]
    first = next(iter(parts.values()))
    totals = sum((manifest.totals for manifest in parts.values()), start=PackTotals())
    return replace(first, totals=totals, shards=tuple(shards))


def load_manifest(folder: Folder) -> Manifest:
    """The manifest of one folder of shards. Raises as `load_holdout`."""
    data = read_manifest(folder, KIND)
    try:
        totals = PackTotals(**data.pop("totals"))
        shards = tuple(Shard(**shard) for shard in data.pop("shards"))
        return Manifest(**data, totals=totals, shards=shards)
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise _no_manifest(folder, wrong) from wrong


def read_manifest(folder: Folder, *kinds: str) -> dict[str, Any]:
    """The content of a manifest of one of `kinds`, without kind and format.

    Raises FileNotFoundError, and UserError when it is none, or of another format.
    """
    path = folder.path(NAME)
    if folder.size(NAME) > LARGEST:
        raise UserError(
            f"{path} is over {LARGEST >> 20} MB; it was not written by `harmoview pack`"
        )
    try:
        data: dict[str, Any] = json.loads(folder.read(NAME))
        kind, found = data.pop("kind"), data.pop("format")
        if kind == HOLDOUT_KIND and kind not in kinds:
            raise UserError(
                f"{folder.url} holds splits, not shards: give {folder.url}/train or one beside it"
            )
        if kind not in kinds:
            raise ValueError(f"kind {kind!r} is not {' or '.join(map(repr, kinds))}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise _no_manifest(folder, wrong) from wrong
    if found != FORMAT:
        raise UserError(f"{path} is of format {found}; this version reads {FORMAT}")
    return data


def _no_manifest(folder: Folder, wrong: Exception) -> UserError:
    return UserError(
        f"{folder.path(NAME)} is not a manifest of shards: {wrong!r}; "
        "`harmoview pack RUN` writes one"
    )


def shard_of(shards: Folder, manifest: Manifest, key: str) -> str | None:
    """The shard of a sample that passed the rules of the pack; None if pack did not take it.

    Shards follow the order of the keys, so this reads the first header of a few. Where pack skipped
    samples, had a cap or made splits, it also reads every header of the one that it found.
    Raises UserError when one of them is missing or damaged.
    """
    parts: dict[str, list[str]] = {}
    for shard in manifest.shards:
        parts.setdefault(shard.name.rpartition("/")[0], []).append(shard.name)
    totals = manifest.totals
    certain = len(parts) == 1 and not totals.skipped and not totals.over_cap
    for names in parts.values():
        name = _last_from(shards, names, key)
        if name is not None and (certain or key in _keys(shards, name)):
            return name
    return None


def _last_from(shards: Folder, names: list[str], key: str) -> str | None:
    """The last shard that begins with `key` or before it."""
    before, after = 0, len(names)
    while before < after:
        middle = (before + after) // 2
        if next(_keys(shards, names[middle]), "") <= key:
            before = middle + 1
        else:
            after = middle
    return names[before - 1] if before else None


def _keys(shards: Folder, name: str) -> Iterator[str]:
    """The key of every member of a shard, in its order."""
    try:
        with shards.open(name) as file:
            for member in TarReader(file):
                yield member.name.partition(".")[0]
    except (OSError, tarfile.TarError) as wrong:
        raise UserError(
            f"{shards.path(name)} cannot be read: {wrong}; `harmoview verify {shards.url}` "
            "says what is wrong with the shards"
        ) from wrong
