"""The samples of a packed shard: checked, taken apart, decoded and cropped for the models."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg, reference_name, view_name
from datapipe.record import Image
from datapipe.shards import Shard
from datapipe.tar import TarReader
from datapipe.video.decoder import Decoder, VideoInfo
from harmoview.encode.manifest import SCORES
from harmoview.encode.settings import Bucket
from harmoview.encode.windows import SLACK, Crop, TrainWindow, best_bucket, train_windows
from harmoview.model.layout import ReferenceLayout
from harmoview.model.references import Views, check_identities

CHUNK = 4 << 20
"""Bytes that are hashed at a time."""


@dataclass(frozen=True)
class ClipSpan:
    """Where a clip is in its shard: one of an hour need not fit into memory."""

    shard: Path
    begin: int
    size: int

    def copy(self, to: Path) -> None:
        """Write the clip to a file of its own."""
        with self.shard.open("rb") as source, to.open("wb") as file:
            source.seek(self.begin)
            left = self.size
            while left and (chunk := source.read(min(CHUNK, left))):
                left -= file.write(chunk)


Members = Mapping[str, bytes | ClipSpan]
"""The members of a sample, by their names without the key; clips stay where they are."""


@dataclass(frozen=True)
class Packed:
    """A packed sample, taken apart: all but its clip's frames."""

    caption: str
    clip: ClipSpan
    suffix: str
    identities: Sequence[Views]
    scores: Sequence[Mapping[str, float | None]]
    """For each identity the mean of each of `SCORES`; None where no view was measured."""
    windows: Sequence[TrainWindow]
    """The best first."""


@dataclass(frozen=True)
class Prepared:
    """A span of a decoded sample: all that the models need, made without them."""

    caption: str
    window: TrainWindow
    bucket: Bucket
    crop: Crop
    frames: NDArray[np.uint8]
    """[F, H, W, 3] RGB, of the bucket's size."""
    identities: Sequence[Views]
    """Those that are seen in the span."""
    scores: Mapping[str, float | None]
    """For each of `SCORES`, the lowest of the identities; None where one was not measured."""


@contextmanager
def checked(source: Folder, shard: Shard) -> Iterator[Path]:
    """Provide a packed shard as a local file, after its hash has been compared.

    A shard on an object store is fetched whole, so that no connection need last while the models
    work. Raises UserError where it is not the file that the manifest lists.
    """
    local = source.local
    with tempfile.TemporaryDirectory(prefix="harmoview-") as folder:
        path = Path(source.path(shard.name)) if local is not None else Path(folder) / "shard.tar"
        try:
            if local is None:
                source.fetch(shard.name, path)
            sha256 = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    sha256.update(chunk)
        except FileNotFoundError as missing:
            raise UserError(f"{source.path(shard.name)} is missing: pack again") from missing
        if sha256.hexdigest() != shard.sha256:
            raise UserError(
                f"{source.path(shard.name)} is not the file that its manifest lists: "
                "see `harmoview verify`, then pack again"
            )
        yield path


def samples(path: Path) -> Iterator[tuple[str, Members]]:
    """Read the keys and members of a shard. Raises UserError where it is no tar of samples."""
    with path.open("rb") as file:
        reader = TarReader(file)
        try:
            for key, members in groupby(reader, lambda member: member.name.partition(".")[0]):
                sample: dict[str, bytes | ClipSpan] = {}
                for member in members:
                    name = member.name.partition(".")[2]
                    if name in sample:
                        raise tarfile.ReadError(f"{member.name!r} is there twice")
                    whole = "." in name or name in _TEXTS
                    span = ClipSpan(path, member.begin, member.size)
                    sample[name] = reader.read() if whole else span
                yield key, sample
        except tarfile.ReadError as broken:
            raise UserError(f"{path} is no WebDataset shard: {broken}") from broken


def unpack(key: str, members: Members, layout: ReferenceLayout) -> Packed:
    """Take a sample apart. Raises BadSample where it is not what pack writes."""
    if not key or "/" in key or key.startswith(".") or not key.isprintable():
        raise BadSample("unreadable", "its key is not one that pack gives")
    try:
        identities = json.loads(_bytes(members, "json"))["identities"]
        pictures = [_views(members, identity) for identity in identities]
        check_identities(pictures, layout)
        suffix, clip = next((n, d) for n, d in members.items() if isinstance(d, ClipSpan))
        return Packed(
            _bytes(members, "txt").decode(),
            clip,
            suffix,
            pictures,
            [{name: _mean(identity, name) for name in SCORES} for identity in identities],
            train_windows(identities),
        )
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as wrong:
        raise BadSample("unreadable", f"not a packed sample: {wrong!r}") from wrong


class ClipFile:
    """The clip of one sample after the other as a file, written once for all windows of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of: Packed | None = None
        self._path = folder
        self._numbers = count()  # a decoder takes the same path for the same video

    def path(self, packed: Packed) -> Path:
        """Where the clip of a sample is; that of the sample before is gone."""
        if packed is not self._of:
            if self._of is not None:
                self._path.unlink()
            self._path = self._folder / f"{next(self._numbers)}.{packed.suffix}"
            packed.clip.copy(self._path)
            self._of = packed
        return self._path


def prepare(
    packed: Packed, window: TrainWindow, clip: Path, decoder: Decoder, frames: ClipReader
) -> Prepared:
    """Decode a span of a sample, whose clip is a file, for the models.

    Raises BadSample where its clip does not do, and DecoderDied or DecodeTimeout where it cannot be
    decoded without harm.
    """
    bucket, crop, found = frames.read(decoder, clip, window)
    scores = [packed.scores[place] for place in window.identities]
    return Prepared(
        packed.caption,
        window,
        bucket,
        crop,
        found,
        [packed.identities[place] for place in window.identities],
        {name: _lowest([one[name] for one in scores]) for name in SCORES},
    )


_TEXTS = ("txt", "json")
"""Members of a sample that are neither its clip nor a picture."""


def _bytes(members: Members, name: str) -> bytes:
    data = members[name]
    if isinstance(data, ClipSpan):
        raise TypeError(f"{name} is a clip")
    return data


def _views(members: Members, identity: Mapping[str, Any]) -> dict[int, Image]:
    """Decode pictures by yaw; at 0 the real reference, as `harmoview generate` takes it."""
    index = int(identity["identity"])
    names = {int(yaw): view_name(index, int(yaw)) for yaw in identity["yaws"]}
    names[0] = reference_name(index)
    return {yaw: decode_jpeg(_bytes(members, name)) for yaw, name in sorted(names.items())}


def _mean(identity: Mapping[str, Any], name: str) -> float | None:
    """Return an identity's mean score; None where no view was measured."""
    values = [view["scores"][name] for view in identity["views"].values()]
    measured = [float(value) for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None


def _lowest(means: Sequence[float | None]) -> float | None:
    measured = [mean for mean in means if mean is not None]
    return min(measured) if len(measured) == len(means) else None


@dataclass(frozen=True)
class ClipReader:
    """Reads the middle of a span of a clip at the recipe's rate, cropped to a bucket."""

    buckets: Sequence[Bucket]
    fps: float
    enlarged: float
    """How many times a clip may be enlarged to fill its bucket."""

    def read(
        self, decoder: Decoder, path: Path, window: TrainWindow
    ) -> tuple[Bucket, Crop, NDArray[np.uint8]]:
        """Return the bucket of a span, its crop, and its middle as RGB frames [F, H, W, 3].

        Raises BadSample where the video cannot be decoded, lacks frames, or the span is shorter
        than every bucket that would not cut a head, or much smaller than its own; DecoderDied and
        DecodeTimeout as `Decoder` does.
        """
        info = decoder.probe(path)
        found = best_bucket(self.buckets, window, info, self.fps)
        if found is None:
            shortest = min(b.frames for b in self.buckets)
            raise BadSample(
                "too_short",
                f"seen from {window.start:g} to {window.end:g} s; the shortest bucket has "
                f"{shortest} frames at {self.fps:g} a second, or it would cut a head",
            )
        bucket, crop = found
        if cover(crop[3] - crop[1], crop[2] - crop[0], bucket) > self.enlarged:
            raise BadSample(
                "too_small",
                f"{crop[2] - crop[0]}x{crop[3] - crop[1]} of {info.width}x{info.height} would be "
                f"enlarged more than {self.enlarged:g} times",
            )
        wanted = frame_indices(info, bucket.frames, self.fps, window.frames(info))
        frames = {frame.index: frame.image for frame in decoder.frames(path, wanted)}
        if missing := sorted(set(wanted) - frames.keys()):
            detail = f"{len(missing)} of {len(set(wanted))} frames are damaged: {missing[:5]} …"
            raise BadSample("damaged", detail)
        fitted = {index: fit(image, bucket, crop) for index, image in frames.items()}
        return bucket, crop, np.stack([fitted[index] for index in wanted])


def frame_indices(info: VideoInfo, frames: int, fps: float, within: tuple[int, int]) -> list[int]:
    """Return the source frames shown at `frames` moments at `fps`, around the middle of a span.

    `within` are the first and the last frame of the span; no other is taken. The first moment is
    that of a source frame. Were it between two, a clip at the model's own rate would give some
    frames twice and miss others. Files round their times, so a frame counts as shown from half a
    usual step before its own time on.
    """
    moments = np.arange(frames) / fps
    begin, end = (float(info.times[frame]) for frame in within)
    first = info.at(max(begin, (begin + end - float(moments[-1])) / 2) + SLACK)
    usual = float(np.median(np.diff(info.times))) if info.frames > 1 else 0.0
    early = min(usual, 1 / fps) / 2 + SLACK
    shown = (info.at(float(info.times[first] + moment) + early) for moment in moments)
    return [min(frame, within[1]) for frame in shown]


def cover(height: int, width: int, bucket: Bucket) -> float:
    """Return how many times a picture must be enlarged to cover the bucket."""
    return max(bucket.height / height, bucket.width / width)


def fit(picture: Image, bucket: Bucket, crop: Crop) -> Image:
    """Cut a crop of the bucket's shape out of a picture and scale it to the bucket's size.

    Nothing is invented; what rounding has left over the shape is cut off.
    """
    left, top, right, bottom = crop
    scale = cover(bottom - top, right - left, bucket)
    height = max(bucket.height, round((bottom - top) * scale))
    width = max(bucket.width, round((right - left) * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture[top:bottom, left:right], (width, height), interpolation=how)
    y, x = (height - bucket.height) // 2, (width - bucket.width) // 2
    middle = resized[y : y + bucket.height, x : x + bucket.width]
    return np.ascontiguousarray(middle, dtype=np.uint8)
