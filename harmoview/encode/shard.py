"""One packed shard in, one encoded shard out: a unit of work that is done once or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from safetensors.torch import save
from torch import Tensor

from datapipe import tar
from datapipe.concurrent import read_ahead
from datapipe.errors import BadSample
from datapipe.files import Folder
from datapipe.shards import Shard
from datapipe.video.decoder import Decoder, DecoderDied, DecodeTimeout
from harmoview.encode.manifest import Skipped, window_key, write_index
from harmoview.encode.packed import (
    ClipFile,
    Members,
    Packed,
    Prepared,
    checked,
    prepare,
    samples,
    unpack,
)
from harmoview.encode.windows import TrainWindow

if TYPE_CHECKING:  # whoever reads encoded shards needs no diffusers
    from harmoview.encode.encoder import EncodedPictures, Encoder

AHEAD = 2
"""Samples that are decoded while the models work on another one; each keeps the frames of a
window in memory."""


@dataclass(frozen=True)
class Models:
    """What encodes: the frozen models, and the folder that keeps the embeddings of captions."""

    encoder: Encoder
    out: Folder
    known: set[str]
    """Hashes of captions whose embeddings are known to be there."""

    def text(self, caption: str) -> str:
        """Encode a caption unless that is done, and return the hash that names its embedding.

        Two workers may encode it at the same time: one file is left, and either is right.
        """
        name = hashlib.sha256(caption.encode()).hexdigest()
        if name not in self.known and not self.out.exists(text_file(name)):
            self.out.put(text_file(name), save({"text": self.encoder.text(caption)}))
        self.known.add(name)
        return name


def encode_shard(source: Folder, shard: Shard, models: Models) -> Iterator[str | None]:
    """Encode a packed shard, and yield for each sample None, or why it was skipped.

    The encoded shard and its index appear before the last sample is yielded, so that whoever has
    counted all samples has the whole shard. Raises UserError where the packed shard is not what its
    manifest says.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    reasons: list[str | None] = []
    with checked(source, shard) as path, models.out.create(shard.name) as file:
        writer = FragmentWriter(file)
        for key, sample in _prepared(samples(path), models.encoder):
            for reason in reasons:  # of the one before; Ray would send into a list
                yield reason
            encoded, failure = False, Skipped(key, "no_window", NO_WINDOW)
            pictures: dict[tuple[int, ...], EncodedPictures] = {}
            for made in sample:
                if isinstance(made, Prepared):
                    encoded = True
                    row = _write(writer, key, made, models, pictures)
                    rows.append({"shard": shard.name, **row})
                elif failure.reason == "no_window":
                    failure = made
            if not encoded:
                skipped.append(failure)
            reasons = [None if encoded else failure.reason]
        done = Shard(shard.name, *writer.finish(), len(rows))
    encoder = models.encoder
    about = {
        "source": shard.sha256, "settings": encoder.settings.hash(), "tower": encoder.tower,
    }  # fmt: skip
    write_index(models.out, done, rows, about, skipped)
    for reason in reasons:
        yield reason


NO_WINDOW = "none of its identities is seen in a window that passes the rules of the pack"


def _prepared(
    found: Iterable[tuple[str, Members]], encoder: Encoder
) -> Iterator[tuple[str, Iterator[Prepared | Skipped]]]:
    """Decode the windows of samples in their order, a few ahead, so that models need not wait.

    A sample without windows has none; each must be taken before the next sample.
    """

    def one(job: tuple[str, Packed | Skipped, TrainWindow | None]) -> Prepared | Skipped | None:
        key, sample, window = job
        if isinstance(sample, Skipped):
            return sample
        if window is None:
            return None
        try:
            return prepare(sample, window, clips.path(sample), decoder, encoder.frames)
        except BadSample as bad:
            return Skipped(key, bad.reason, bad.detail)
        except (DecoderDied, DecodeTimeout) as bad:
            return Skipped(key, "decoder_died", str(bad))

    with Decoder() as decoder, tempfile.TemporaryDirectory(prefix="harmoview-") as folder:
        clips = ClipFile(Path(folder))
        jobs = read_ahead(one, _jobs(found, encoder), threads=1, ahead=AHEAD)
        for key, some in groupby(jobs, lambda pair: pair[0][0]):
            results = (made.result() for _, made in some)
            yield key, (made for made in results if made is not None)


def _jobs(
    found: Iterable[tuple[str, Members]], encoder: Encoder
) -> Iterator[tuple[str, Packed | Skipped, TrainWindow | None]]:
    """What is to be decoded: the best windows of each sample; None for one without any."""
    for key, members in found:
        try:
            sample = unpack(key, members, encoder.layout)
        except BadSample as bad:
            yield key, Skipped(key, bad.reason, bad.detail), None
            continue
        windows = sample.windows[: encoder.settings.windows_per_clip]
        if not windows:
            yield key, sample, None
        for window in windows:
            yield key, sample, window


def _write(
    writer: FragmentWriter,
    key: str,
    sample: Prepared,
    models: Models,
    encoded: dict[tuple[int, ...], EncodedPictures],
) -> dict[str, Any]:
    """Encode a span of a clip, append it, and return its row of the index, without the shard.

    `encoded` are the references and views of the clip's people, as far as earlier spans named them.
    """
    named = sample.window.identities
    if named not in encoded:
        encoded[named] = models.encoder.pictures(sample.identities)
    pictures = encoded[named]
    tensors: dict[str, Tensor] = {
        "video": models.encoder.video(sample.frames),
        "references": pictures.latents[pictures.present].contiguous(),
        "present": pictures.present,
    }
    if pictures.features is not None:
        tensors["features"] = pictures.features.contiguous()
    window = sample.window
    row = {
        "clip": key,
        "start": window.start,
        "end": window.end,
        "crop": list(sample.crop),
        "caption": models.text(sample.caption),
        "frames": sample.bucket.frames,
        "height": sample.bucket.height,
        "width": sample.bucket.width,
        "identities": len(sample.identities),
        "views": int(pictures.present.sum(dim=1).min()),
        **sample.scores,
    }
    key = window_key(key, window.start)
    described = {
        **row, "window": {"start": window.start, "end": window.end},
        "named": list(window.identities), "caption_text": sample.caption,
    }  # fmt: skip
    offset, size, crc32 = writer.add(
        {
            f"{key}.safetensors": save(tensors),
            f"{key}.json": json.dumps(described, ensure_ascii=False).encode(),
        }
    )
    return {**row, "key": key, "offset": offset, "size": size, "crc32": crc32}


def text_file(caption: str) -> str:
    """Return the file of the embedding of a caption with that hash."""
    return f"text/{caption[:2]}/{caption}.safetensors"


NO_TEXT = hashlib.sha256(b"").hexdigest()
"""The hash of the empty caption, with which guidance is trained."""


class FragmentWriter:
    """Writes a tar sample by sample, each a run of bytes that is a tar of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._position = 0

    def add(self, members: Mapping[str, bytes]) -> tuple[int, int, int]:
        """Append a sample, and return its offset, its size and its CRC-32.

        A CRC, because every read checks it, which must cost little.
        """
        buffer = io.BytesIO()
        fragment = tar.open_writer(buffer)
        for name, data in members.items():
            tar.add(fragment, name, data)
        data = buffer.getvalue()  # without the closing blocks: the fragment is never closed
        offset = self._position
        self._write(data)
        return offset, len(data), zlib.crc32(data)

    def finish(self) -> tuple[str, int]:
        """Close the tar, and return its SHA-256 and its size."""
        self._write(bytes(tar.closed(self._position) - self._position))
        return self._sha256.hexdigest(), self._position

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._position += len(data)
