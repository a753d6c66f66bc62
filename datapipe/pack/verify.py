"""Verify: shards against their manifest, reading each once and trusting neither."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pack.manifest import (
    CARD,
    NAME,
    PACKING,
    REPORT,
    Manifest,
    SplitsManifest,
    load_parts,
    load_splits,
)
from datapipe.pack.verify_shard import Counted, Mismatch, ShardCheck

_SHARD = re.compile(r"\d{6,}\.tar")

Show = Callable[[int, int], None]
"""Told how many of how many bytes are read."""


def verify(folder: Folder, show: Show) -> Iterator[Mismatch]:
    """Everything that is wrong with a folder of shards, or of splits, as it is found.

    Raises UserError when there is no readable manifest.
    """
    try:
        splits = load_splits(folder)
        manifests = list(load_parts(folder).values())
    except FileNotFoundError as missing:
        raise UserError(
            f"{folder.url} has no {NAME}: it is not a folder of shards, or `harmoview pack` did "
            "not finish; pack again"
        ) from missing
    check = _Verify(manifests, show)
    if splits is None:
        yield from check.beside(folder, manifests[0].files)
        yield from check.shards(folder, manifests[0])
    else:
        yield from check.beside(folder, splits.files)
        yield from check.splits(folder, splits)


class _Verify:
    """One pass over everything that the manifests name."""

    def __init__(self, manifests: Sequence[Manifest], show: Show) -> None:
        self._manifests, self._show = manifests, show
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

    def splits(self, folder: Folder, splits: SplitsManifest) -> Iterator[Mismatch]:
        """Each split like a folder of shards; and no sample in two of them."""
        for name in sorted(set(folder.names("*")) - {NAME, PACKING, CARD, REPORT, *splits.splits}):
            yield Mismatch(name, "is not in the manifest")
        parts = zip(splits.splits.items(), self._manifests, strict=True)
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
        counted = Counted()
        last = ""
        for shard in manifest.shards:
            if not _SHARD.fullmatch(shard.name):
                yield Mismatch(NAME, f"{shard.name!r} is not a shard's name")
                continue
            if shard.name not in present:
                yield Mismatch(shard.name, "is missing")
                continue
            check = ShardCheck(shard, last)
            yield from check.run(folder)
            yield from self._in_two(shard.name, check.keys, others)
            last = check.key
            counted.add(check)
            self._read += shard.bytes
            self._show(self._read, self._whole)
        yield from counted.against(manifest)

    def _in_two(self, name: str, keys: list[str], others: frozenset[str]) -> Iterator[Mismatch]:
        if twice := others.intersection(keys):
            named = f"{min(twice)[:200]!r}" + (f" and {len(twice) - 1} more" * (len(twice) > 1))
            yield Mismatch(name, f"holds {named}, which another split holds too")
        if len(self._manifests) > 1:
            self._keys.update(keys)
