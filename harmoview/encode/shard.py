"""One packed shard in, one encoded shard out: a unit of work that is done once or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safetensors.torch import save
from torch import Tensor

from datapipe import tar
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.names import reference_name, view_name
from datapipe.pack.shards import Shard
from datapipe.pictures import decode_jpeg
from datapipe.prepare.video import Decoder, DecoderDied, DecodeTimeout
from datapipe.record import Image
from harmoview.encode.clip import read_clip
from harmoview.encode.encoder import Encoder
from harmoview.encode.manifest import write_index

SCORES = ("sharpness", "aesthetic", "identity_cosine")
log = logging.getLogger(__name__)


def encode_shard(source: Folder, shard: Shard, out: Folder, encoder: Encoder) -> Shard:
    """Encode every sample of a packed shard; samples that cannot be are skipped and counted.

    Raises UserError where the packed shard is not what its manifest says.
    """
    rows: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    with Decoder() as decoder, out.create(shard.name) as file:
        writer = FragmentWriter(file)
        for key, members in samples(source, shard):
            try:
                tensors, row = encode_sample(key, members, encoder, decoder, out)
            except (BadSample, DecoderDied, DecodeTimeout) as bad:
                reason = bad.reason if isinstance(bad, BadSample) else "decoder_died"
                skipped[reason] += 1
                log.warning("%s in %s is skipped: %s", key, shard.name, bad)
                continue
            described = {**row, "caption_text": members["txt"].decode()}
            offset, size, crc32 = writer.add(
                {
                    f"{key}.safetensors": save(tensors),
                    f"{key}.json": json.dumps(described, ensure_ascii=False).encode(),
                }
            )
            rows.append({**row, "key": key, "shard": shard.name, "offset": offset, "size": size,
                         "crc32": crc32})  # fmt: skip
        done = Shard(shard.name, *writer.finish(), len(rows))
    about = {"source": shard.sha256, "settings": encoder.settings.hash(), "skipped": skipped}
    write_index(out, done, rows, about)
    return done


def samples(source: Folder, shard: Shard) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a packed shard, members by their name without the key.

    Raises UserError at the end where the bytes that were read have another hash.
    """
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with source.open(shard.name) as file:
        stream = HashingReader(file)
        try:
            found = tar_file_expander([{"url": shard.name, "stream": stream}])
            for sample in group_by_keys(found):
                members = {n: data for n, data in sample.items() if not n.startswith("__")}
                yield sample["__key__"], members
        except tarfile.TarError as broken:
            raise UserError(_damaged(source, shard)) from broken
        if stream.finish() != shard.sha256:
            raise UserError(_damaged(source, shard))


def _damaged(source: Folder, shard: Shard) -> str:
    return (
        f"{source.path(shard.name)} is not the file that its manifest lists: "
        "see `harmoview verify`, then pack again"
    )


def encode_sample(
    key: str, members: Mapping[str, bytes], encoder: Encoder, decoder: Decoder, out: Folder
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a sample and its row of the index, as far as it is known here.

    Raises BadSample, DecoderDied, DecodeTimeout.
    """
    description = json.loads(members["json"])
    identities = description["identities"]
    suffix, clip = _clip(members)
    with tempfile.TemporaryDirectory(prefix="harmoview-") as folder:
        path = Path(folder) / f"clip.{suffix}"
        path.write_bytes(clip)
        bucket, frames = read_clip(decoder, path, encoder.buckets, encoder.fps)
    pictures = encoder.pictures([_views(members, identity) for identity in identities])
    tensors = {
        "video": encoder.video(frames),
        "references": pictures.latents[pictures.present].contiguous(),
        "present": pictures.present,
    }
    if pictures.features is not None:
        tensors["features"] = pictures.features.contiguous()
    row = {
        "caption": put_text(out, encoder, members["txt"].decode()),
        "frames": bucket.frames,
        "height": bucket.height,
        "width": bucket.width,
        "identities": len(identities),
        "views": int(pictures.present.sum(dim=1).min()),
        **{name: _lowest(identities, name) for name in SCORES},
    }
    return tensors, row


def put_text(out: Folder, encoder: Encoder, caption: str) -> str:
    """Encode a caption unless it is there already; the hash that names it."""
    name = hashlib.sha256(caption.encode()).hexdigest()
    if not out.exists(text_file(name)):
        out.put(text_file(name), save({"text": encoder.text(caption)}))
    return name


def text_file(caption: str) -> str:
    """Where the embedding of a caption with that hash is."""
    return f"text/{caption[:2]}/{caption}.safetensors"


NO_TEXT = hashlib.sha256(b"").hexdigest()
"""The hash of the empty caption, which guidance is trained with."""


def _clip(members: Mapping[str, bytes]) -> tuple[str, bytes]:
    suffixes = [n for n in members if "." not in n and n not in ("txt", "json")]
    return suffixes[0], members[suffixes[0]]


def _views(members: Mapping[str, bytes], identity: Mapping[str, Any]) -> dict[int, Image]:
    """Pictures by yaw; the frontal one is the real reference, as in `harmoview generate`."""
    index = identity["identity"]
    names = {yaw: view_name(index, yaw) for yaw in identity["yaws"]}
    names[0] = reference_name(index)
    try:
        return {yaw: decode_jpeg(members[name]) for yaw, name in sorted(names.items())}
    except (KeyError, ValueError) as wrong:
        raise BadSample("unreadable", f"a picture of identity {index}: {wrong}") from wrong


def _lowest(identities: list[Mapping[str, Any]], name: str) -> float | None:
    """The lowest mean over an identity's views; None where it was measured on none."""
    means = []
    for identity in identities:
        values = [view["scores"][name] for view in identity["views"].values()]
        measured = [value for value in values if value is not None]
        if measured:
            means.append(sum(measured) / len(measured))
    return min(means) if len(means) == len(identities) else None


class FragmentWriter:
    """A tar written sample by sample, each a run of bytes that is a tar of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._position = 0

    def add(self, members: Mapping[str, bytes]) -> tuple[int, int, int]:
        """Append a sample; its offset, size and CRC-32: a check at every read must cost little."""
        buffer = io.BytesIO()
        fragment = tar.open_writer(buffer)
        for name, data in members.items():
            tar.add(fragment, name, data)
        data = buffer.getvalue()  # without the closing blocks: the fragment is never closed
        offset = self._position
        self._write(data)
        return offset, len(data), zlib.crc32(data)

    def finish(self) -> tuple[str, int]:
        """Close the tar; its SHA-256 and size."""
        end = self._position + 2 * tarfile.BLOCKSIZE
        whole = -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        self._write(bytes(whole - self._position))
        return self._sha256.hexdigest(), self._position

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._position += len(data)


class HashingReader:
    """Hashes what is read through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._sha256.update(data)
        return data

    def finish(self) -> str:
        """Read on to the end; the SHA-256 of everything."""
        while self.read(1 << 20):
            pass
        return self._sha256.hexdigest()
