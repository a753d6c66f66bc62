"""A folder of encoded shards: its manifest, which is written last, and its index of samples."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Shard
from harmoview.encode.settings import EncodeSettings

NAME = "manifest.json"
KIND = "harmoview-encoded"
"""What tells the manifest of encoded shards from that of packed ones."""
FORMAT = 2
"""Format 1 had one sample a clip, without windows."""
SKIPPED = "skipped.jsonl"
"""Holds a line for each sample that was left out: key, reason, detail."""
READERS = 16
"""Indices that are read at the same time."""

SCORES = ("sharpness", "aesthetic", "identity_cosine")
"""The scores of a view that are kept, by which the curated phase chooses."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("clip", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("crop", pa.list_(pa.int32(), 4)),
        ("caption", pa.string()),
        ("frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("identities", pa.int8()),
        ("views", pa.int8()),
        *((score, pa.float64()) for score in SCORES),
    ]
)
"""One row a sample. The tar members of a sample are `size` bytes of its shard from `offset` on, and
`crc32` is their checksum; `clip` is the key of the packed sample, `start` and `end` (seconds) the
span in which its people are seen, out of whose middle the frames are, and `crop` (left, top, right,
bottom in pixels) what is shown of them; `caption` names its text embedding; `views` is the smallest
number of views of an identity, counting the frontal reference; a score is the lowest mean of an
identity."""


def window_key(clip: str, start: float) -> str:
    """Return the key of an encoded sample: no packed one has an @ in its key."""
    return f"{clip}@{round(start * 1000):07d}"


def clip_of(key: str) -> str:
    """Return the key of the clip that an encoded sample is part of.

    One that was packed a second time, with other references, has +other behind it.
    """
    return key.partition("@")[0].partition("+")[0]


def span_of(key: str) -> str:
    """Return the key that an encoded sample has with the references of its own clip."""
    _, at, start = key.partition("@")
    return f"{clip_of(key)}{at}{start}"


@dataclass(frozen=True)
class Skipped:
    """A packed sample that was left out."""

    key: str
    reason: str
    detail: str


@dataclass(frozen=True)
class EncodedManifest:
    """The content of manifest.json."""

    source: Mapping[str, Any]
    """SHA-256 of the packed shards' `manifest`, and how many `samples` it counts."""
    settings: EncodeSettings
    shards: tuple[Shard, ...]
    skipped: Mapping[str, int]
    """How many samples were left out, by reason."""
    tower: str | None = None
    """The fingerprint of the vision tower; None where features are left out."""

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    def write(self, folder: Folder) -> None:
        """Put the manifest into a folder whose shards and indices are whole."""
        data = {
            "kind": KIND,
            "format": FORMAT,
            "source": dict(self.source),
            "settings": self.settings.described(),
            "tower": self.tower,
            "totals": {"samples": self.samples, "skipped": dict(self.skipped)},
            "shards": [asdict(shard) for shard in self.shards],
        }
        folder.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def kind_of(folder: Folder) -> str | None:
    """Return the kind of a folder's shards; None where no manifest tells."""
    if not folder.exists(NAME):
        return None
    try:
        kind = json.loads(folder.read(NAME)).get("kind")
    except (ValueError, AttributeError):
        return None
    return kind if isinstance(kind, str) else None


def load_encoded(folder: Folder) -> EncodedManifest:
    """Read the manifest of encoded shards. Raises UserError where none is, or it is damaged."""
    path = folder.path(NAME)
    if not folder.exists(NAME):
        raise UserError(
            f"{folder.url} has no {NAME}: it is not a folder of encoded shards, or "
            "`harmoview encode` has not finished; run it again, it continues"
        )
    try:
        data = json.loads(folder.read(NAME))
        if data["kind"] != KIND or data["format"] != FORMAT:
            raise ValueError(f"kind {data['kind']!r}, format {data['format']!r}")
        return EncodedManifest(
            data["source"],
            EncodeSettings.of(data["settings"]),
            tuple(Shard(**shard) for shard in data["shards"]),
            data["totals"]["skipped"],
            data["tower"],
        )
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(
            f"{path} is not a manifest of encoded shards: {wrong!r}; `harmoview encode` writes one"
        ) from wrong


def index_name(shard: str) -> str:
    """Return the file name of the index beside a shard."""
    return f"{shard.removesuffix('.tar')}.parquet"


def write_index(
    folder: Folder,
    shard: Shard,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    skipped: Sequence[Skipped] = (),
) -> None:
    """Write the index of one shard, whose presence says that the shard is whole.

    `rows` are as `SCHEMA` says, `about` is what `read_about` gives back.
    """
    metadata = {
        "shard": json.dumps(asdict(shard)),
        "about": json.dumps({**about, "skipped": [asdict(one) for one in skipped]}),
    }
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata(metadata))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    folder.put(index_name(shard.name), buffer.getvalue())


def read_about(folder: Folder, name: str) -> tuple[Shard, dict[str, Any]] | None:
    """Return a shard and what was written about it; None where it is not finished.

    The latter are `source`, the SHA-256 of the packed shard, the hash of its `settings`, the
    fingerprint of the `tower`, and the list `skipped`.
    """
    if not folder.exists(index_name(name)):
        return None
    metadata = pq.read_schema(io.BytesIO(folder.read(index_name(name)))).metadata
    return Shard(**json.loads(metadata[b"shard"])), json.loads(metadata[b"about"])


def read_index(folder: Folder, shards: Sequence[Shard]) -> pa.Table:
    """Read the rows of all samples, in the order of `shards`.

    Raises UserError where an index is missing or is not that of its shard.
    """

    def read(shard: Shard) -> pa.Table:
        name = index_name(shard.name)
        try:
            table = pq.read_table(io.BytesIO(folder.read(name)))
        except (FileNotFoundError, pa.ArrowInvalid) as wrong:
            raise UserError(
                f"{folder.path(name)} is missing or damaged: delete {NAME}, {shard.name} and "
                f"{name}, then run `harmoview encode` again"
            ) from wrong
        if len(table) != shard.samples:
            raise UserError(f"{folder.path(name)} lists {len(table)} samples, not {shard.samples}")
        return table.replace_schema_metadata(None)

    with ThreadPoolExecutor(READERS, "index") as pool:
        return pa.concat_tables([SCHEMA.empty_table(), *pool.map(read, shards)])
