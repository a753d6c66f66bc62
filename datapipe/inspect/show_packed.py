"""In which shard a packed sample is."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pack.manifest import Manifest


def shard_of(shards: Folder, manifest: Manifest, key: str) -> str | None:
    """The shard of a sample that passed the rules of the pack; None if pack did not take it.

    Shards follow the order of the keys, so this reads the first header of a few. Only where pack
    skipped samples, had a cap or made splits, it reads every header of the one, to see.
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
    """Of every member of a shard, in its order."""
    try:
        with shards.open(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                yield member.name.split(".", 1)[0]
    except (OSError, tarfile.TarError) as wrong:
        raise UserError(
            f"{shards.path(name)} cannot be read: {wrong}; `harmoview verify {shards.url}` "
            "says what is wrong with the shards"
        ) from wrong
