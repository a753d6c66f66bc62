"""The manifest of a folder of shards: written last, so it vouches for all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pack.shards import Shard

NAME = "manifest.json"
PACKING = "packing.json"
"""Present while shards have no manifest: marks the folder as one that pack may clear."""
KIND = "harmoview-shards"
FORMAT = 1
LARGEST = 256 << 20
"""Bytes of a manifest; a million shards need about 150 MB."""


@dataclass(frozen=True)
class Totals:
    """What is in the shards, and what became of the other candidates."""

    candidates: int = 0
    """Of the run; samples + left out + skipped."""
    samples: int = 0
    identities: int = 0
    views: Mapping[str, int] = field(default_factory=dict)
    """By yaw, as text: JSON has no other keys."""
    bytes: int = 0
    left_out: int = 0
    """Candidates without an identity that passes the rules."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Candidates that passed and could not be packed, by reason."""


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    run: Mapping[str, Any]
    """Settings hash, seed and scorers of the run that was packed."""
    rules: Mapping[str, Any]
    limits: Mapping[str, int]
    totals: Totals
    shards: tuple[Shard, ...]

    def write(self, folder: Folder) -> None:
        data = {"kind": KIND, "format": FORMAT, **asdict(self)}
        folder.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def load_manifest(folder: Folder) -> Manifest:
    """Raises FileNotFoundError, and UserError when manifest.json is not one of ours or damaged."""
    path = folder.path(NAME)
    if folder.fs.size(path) > LARGEST:
        raise UserError(
            f"{path} is over {LARGEST >> 20} MB; it was not written by `harmoview pack`"
        )
    try:
        data = json.loads(folder.read(NAME))
        if (kind := data.pop("kind")) != KIND:
            raise ValueError(f"kind {kind!r} is not {KIND!r}")
        if (found := data.pop("format")) != FORMAT:
            raise UserError(f"{path} is of format {found}; this version reads {FORMAT}")
        totals = Totals(**data.pop("totals"))
        shards = tuple(Shard(**shard) for shard in data.pop("shards"))
        return Manifest(**data, totals=totals, shards=shards)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise UserError(
            f"{path} is not a manifest of shards: {wrong!r}; `harmoview pack RUN` writes one"
        ) from wrong
