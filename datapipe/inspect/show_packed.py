"""In which shard a packed sample is."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pack.manifest import Manifest


def shard_of(shards: Folder, manifest: Manifest, key: str) -> str | None:
    """The shard of a sample that passed the rules of the pack; None if pack had to skip it.

    Shards follow the order of the keys, so this reads the first header of a few. Only where pack
    skipped samples it reads every header of the one, to see.
    Raises UserError when one of them is missing or damaged.
    """
    names = [shard.name for shard in manifest.shards]
    before, after = 0, len(names)
    while before < after:
        middle = (before + after) // 2
        if next(_keys(shards, names[middle]), "") <= key:
            before = middle + 1
        else:
            after = middle
    if not before:
        return None
    name = names[before - 1]
    return name if not manifest.totals.skipped or key in _keys(shards, name) else None


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
