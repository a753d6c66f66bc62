"""An encoded folder, open for reading: its samples by number, each read by its range of bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Shard
from datapipe.stores import with_retries
from datapipe.tar import TarReader
from harmoview.encode.manifest import EncodedManifest, load_encoded, read_index
from harmoview.encode.shard import NO_TEXT, text_file

HASHERS = 4
"""Shards that are hashed at the same time."""
CHUNK = 8 << 20
"""Bytes that are hashed at a time."""
TRIES = 20
"""Samples that are tried in place of a damaged one; as many damaged in a row are no accident."""
TEXTS = 64
"""Embeddings of captions that a worker keeps, since captions repeat."""


class DamagedSample(Exception):
    """A sample's bytes are not those that were written, or cannot be read."""


@dataclass(frozen=True)
class EncodedSample:
    """One sample of the folder: I identities, V slots for views."""

    key: str
    video: Tensor
    """[C, F, h, w], normalised latents."""
    references: Tensor
    """[I, V, C, h, w]; zeros in absent slots."""
    present: Tensor
    """[I, V], bool."""
    features: Tensor | None
    """[I, N, D], of the frontal references; None where they were not encoded."""
    text: Tensor
    """[tokens, D]."""


class EncodedShards:
    """Finished folders of encoded shards, read as one, their samples one after the other."""

    def __init__(self, *urls: str) -> None:
        """Opens folders. Raises UserError where one is not finished, or is encoded otherwise."""
        self.folders = [Folder(url) for url in urls]
        self.manifests: list[EncodedManifest] = [load_encoded(folder) for folder in self.folders]
        self._text = lru_cache(maxsize=TEXTS)(self._load_text)
        for folder, manifest in zip(self.folders[1:], self.manifests[1:], strict=True):
            _check_alike(self.folder, self.manifest, folder, manifest)

    @property
    def folder(self) -> Folder:
        """The first folder."""
        return self.folders[0]

    @property
    def manifest(self) -> EncodedManifest:
        """The manifest of the first folder; all agree in what a model must know."""
        return self.manifests[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the cache behind: a worker opens the folders again, by their names."""
        return {"urls": [folder.url for folder in self.folders]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["urls"])  # type: ignore[misc]

    @cached_property
    def index(self) -> pa.Table:
        """One row a sample; a sample's number is its row. See `harmoview.encode.manifest`.

        The column `folder` says in which of the folders it is.
        """
        tables = []
        for number, (folder, manifest) in enumerate(zip(self.folders, self.manifests, strict=True)):
            table = read_index(folder, manifest.shards)
            numbers = pa.array(np.full(len(table), number, np.int32))
            tables.append(table.append_column("folder", numbers).replace_schema_metadata())
        return pa.concat_tables(tables)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of the index; nulls are NaN."""
        values: NDArray[Any] = self.index.column(name).to_numpy()
        return values

    @cached_property
    def keys(self) -> list[str]:
        """The samples' keys by number."""
        found: list[str] = self.index.column("key").to_pylist()
        return found

    def check_sizes(self) -> None:
        """Check the shards. Raises UserError where one is missing or has not its length."""
        for folder, shard in self.shards:
            path = folder.path(shard.name)
            if not folder.exists(shard.name):
                raise UserError(f"{path} is missing: encode into a new folder")
            if (size := folder.size(shard.name)) != shard.bytes:
                raise UserError(f"{path} has {size:,} bytes, not {shard.bytes:,}: {_REMEDY}")

    @property
    def shards(self) -> list[tuple[Folder, Shard]]:
        """All shards with their folders."""
        both = zip(self.folders, self.manifests, strict=True)
        return [(folder, shard) for folder, manifest in both for shard in manifest.shards]

    def check_hashes(self, shards: Sequence[tuple[Folder, Shard]]) -> None:
        """Read shards whole. Raises UserError where one has not the hash of the manifest."""

        def check(which: tuple[Folder, Shard]) -> None:
            folder, shard = which
            sha256 = hashlib.sha256()
            with folder.open(shard.name) as file:
                while chunk := file.read(CHUNK):
                    sha256.update(chunk)
            if sha256.hexdigest() != shard.sha256:
                raise UserError(
                    f"{folder.path(shard.name)} has another hash than its manifest: {_REMEDY}"
                )

        with ThreadPoolExecutor(HASHERS, "hash") as pool:
            list(pool.map(check, shards))

    def read(self, number: int) -> EncodedSample:
        """Read a sample by its number. Raises DamagedSample where its bytes have changed."""
        row = self.index.slice(number, 1).to_pylist()[0]
        try:
            tensors = load(self._member(row, ".safetensors"))
            present, packed, video = (tensors[n] for n in ("present", "references", "video"))
        except (tarfile.TarError, SafetensorError, KeyError) as wrong:
            raise DamagedSample(f"{row['key']} in {row['shard']}: {wrong}") from wrong
        references = packed.new_zeros(*present.shape, *packed.shape[1:])
        references[present] = packed
        return EncodedSample(
            row["key"], video, references, present, tensors.get("features"),
            self._text(row["folder"], row["caption"]),
        )  # fmt: skip

    @cached_property
    def example(self) -> EncodedSample:
        """The first sample that can be read. Raises UserError where the first ones cannot."""
        for number in range(min(TRIES, len(self.keys))):
            try:
                return self.read(number)
            except DamagedSample:
                continue
        raise UserError(f"{self.folder.url}: none of its first samples can be read: {_REMEDY}")

    def caption(self, number: int) -> str:
        """Return a sample's caption in words. Raises DamagedSample as `read` does."""
        row = self.index.slice(number, 1).to_pylist()[0]
        try:
            return str(json.loads(self._member(row, ".json"))["caption_text"])
        except (tarfile.TarError, ValueError, KeyError) as wrong:
            raise DamagedSample(f"{row['key']} in {row['shard']}: {wrong}") from wrong

    def no_text(self) -> Tensor:
        """Return the embedding [tokens, D] of the empty caption."""
        return self._text(0, NO_TEXT)

    def _member(self, row: dict[str, Any], ending: str) -> bytes:
        """Read a member of a sample. Raises DamagedSample where the sample's bytes have changed.

        Raises tarfile.TarError or KeyError where they are no sample.
        """
        folder = self.folders[row["folder"]]
        path, start = folder.path(row["shard"]), row["offset"]
        end = start + row["size"]
        try:
            data = with_retries(folder.url, folder.fs.cat_file, path, start=start, end=end)
        except FileNotFoundError as missing:
            raise UserError(f"{path} is gone: encode into a new folder") from missing
        if zlib.crc32(data) != row["crc32"]:
            raise DamagedSample(f"{row['key']} in {row['shard']} has changed since it was encoded")
        reader = TarReader(io.BytesIO(data))
        for member in reader:
            if member.name.endswith(ending):
                return reader.read()
        raise KeyError(ending)

    def _load_text(self, number: int, caption: str) -> Tensor:
        folder = self.folders[number]
        try:
            tensor: Tensor = load(folder.read(text_file(caption)))["text"]
        except FileNotFoundError as missing:
            raise UserError(
                f"{folder.path(text_file(caption))} is missing: encode into a new folder"
            ) from missing
        return tensor


_ALIKE = ("reference_size", "vit_layer", "vit_size", "text_length")
"""Settings that all folders of a training must have been encoded with."""


def _check_alike(
    first: Folder, manifest: EncodedManifest, other: Folder, another: EncodedManifest
) -> None:
    """Raises UserError where one model cannot learn from both."""
    pairs = {name: (getattr(manifest.settings, name), getattr(another.settings, name))
             for name in _ALIKE}  # fmt: skip
    if manifest.settings.features and another.settings.features:
        pairs["vision tower"] = (manifest.tower, another.tower)
    if differing := [f"{name} {a} and {b}" for name, (a, b) in pairs.items() if a != b]:
        raise UserError(
            f"{first.url} and {other.url} were encoded with different settings and cannot be "
            f"trained on together: {', '.join(differing)}"
        )


_REMEDY = "it is damaged; encode into a new folder"


def padded(texts: Sequence[Tensor], length: int) -> Tensor:
    """Pad texts [tokens, D] to [B, length, D] with zeros, to which Wan is used to attend."""
    whole = texts[0].new_zeros(len(texts), length, texts[0].shape[-1])
    for row, text in zip(whole, texts, strict=True):
        row[: len(text)] = text
    return whole
