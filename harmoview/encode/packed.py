"""The samples of a packed shard: checked, taken apart, decoded and cropped for the models."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
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
from harmoview.encode.settings import Bucket, choose_bucket
from harmoview.model.layout import ReferenceLayout
from harmoview.model.references import Views, check_identities

CHUNK = 4 << 20
"""Bytes that are hashed at a time."""
SLACK = 1e-6
"""Seconds by which sums of times may be off."""
Members = Mapping[str, bytes]
"""The members of a sample, by their names without the key."""


@dataclass(frozen=True)
class Prepared:
    """A decoded sample: all that the models need, made without them."""

    caption: str
    description: Mapping[str, Any]
    """The sample's JSON, as pack wrote it."""
    bucket: Bucket
    frames: NDArray[np.uint8]
    """[F, H, W, 3] RGB, of the bucket's size."""
    identities: Sequence[Views]
    scores: Mapping[str, float | None]
    """For each of `SCORES`, the lowest mean of an identity; None where one was not measured."""


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
                sample: dict[str, bytes] = {}
                for member in members:
                    name = member.name.partition(".")[2]
                    if name in sample:
                        raise tarfile.ReadError(f"{member.name!r} is there twice")
                    sample[name] = reader.read()
                yield key, sample
        except tarfile.ReadError as broken:
            raise UserError(f"{path} is no WebDataset shard: {broken}") from broken


def prepare(
    key: str, members: Members, decoder: Decoder, frames: ClipReader, layout: ReferenceLayout
) -> Prepared:
    """Decode a sample for the models.

    Raises BadSample where it is not what pack writes or its clip does not do, and DecoderDied or
    DecodeTimeout where its clip cannot be decoded without harm.
    """
    if not key or "/" in key or key.startswith(".") or not key.isprintable():
        raise BadSample("unreadable", "its key is not one that pack gives")
    try:
        description = json.loads(members["json"])
        identities = description["identities"]
        caption = members["txt"].decode()
        pictures = [_views(members, identity) for identity in identities]
        check_identities(pictures, layout)
        scores = {name: _lowest(identities, name) for name in SCORES}
        suffix, clip = next((n, d) for n, d in members.items() if "." not in n and n not in _TEXTS)
    except (KeyError, ValueError, TypeError, AttributeError, StopIteration) as wrong:
        raise BadSample("unreadable", f"not a packed sample: {wrong!r}") from wrong
    with tempfile.TemporaryDirectory(prefix="harmoview-") as folder:
        path = Path(folder) / f"clip.{suffix}"
        path.write_bytes(clip)
        bucket, found = frames.read(decoder, path)
    return Prepared(caption, description, bucket, found, pictures, scores)


_TEXTS = ("txt", "json")
"""Members of a sample that are neither its clip nor a picture."""


def _views(members: Members, identity: Mapping[str, Any]) -> dict[int, Image]:
    """Decode pictures by yaw; at 0 the real reference, as `harmoview generate` takes it."""
    index = int(identity["identity"])
    names = {int(yaw): view_name(index, int(yaw)) for yaw in identity["yaws"]}
    names[0] = reference_name(index)
    return {yaw: decode_jpeg(members[name]) for yaw, name in sorted(names.items())}


def _lowest(identities: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the lowest of the identities' means; None where one has no measured view."""
    means = []
    for identity in identities:
        values = [view["scores"][name] for view in identity["views"].values()]
        measured = [float(value) for value in values if value is not None]
        if measured:
            means.append(sum(measured) / len(measured))
    return min(means) if len(means) == len(identities) else None


@dataclass(frozen=True)
class ClipReader:
    """Reads the middle of a clip at the recipe's rate, cropped to a bucket."""

    buckets: Sequence[Bucket]
    fps: float
    enlarged: float
    """How many times a clip may be enlarged to fill its bucket."""

    def read(self, decoder: Decoder, path: Path) -> tuple[Bucket, NDArray[np.uint8]]:
        """Return the bucket of a video, and its middle as RGB frames [F, H, W, 3].

        Raises BadSample where the video cannot be decoded, lacks frames, is shorter than every
        bucket or much smaller than its own; DecoderDied and DecodeTimeout as `Decoder` does.
        """
        info = decoder.probe(path)
        # from the first frame to the last; how long the last one is shown does not matter
        span = float(info.times[-1]) + SLACK
        bucket = choose_bucket(self.buckets, info.height, info.width, span, self.fps)
        if bucket is None:
            shortest = min(b.frames for b in self.buckets)
            raise BadSample(
                "too_short",
                f"{info.frames} frames at {info.fps:g} a second; the shortest bucket has "
                f"{shortest} at {self.fps:g}",
            )
        if cover(info.height, info.width, bucket) > self.enlarged:
            raise BadSample(
                "too_small",
                f"{info.width}x{info.height} would be enlarged more than {self.enlarged:g} times",
            )
        wanted = frame_indices(info, bucket.frames, self.fps)
        found = {frame.index: frame.image for frame in decoder.frames(path, wanted)}
        if missing := sorted(set(wanted) - found.keys()):
            detail = f"{len(missing)} of {len(set(wanted))} frames are damaged: {missing[:5]} …"
            raise BadSample("damaged", detail)
        fitted = {index: fit(image, bucket) for index, image in found.items()}
        return bucket, np.stack([fitted[index] for index in wanted])


def frame_indices(info: VideoInfo, frames: int, fps: float) -> list[int]:
    """Return the source frames shown at `frames` moments at `fps`, around the video's middle.

    The first moment is that of a source frame. Were it between two, a clip at the model's own rate
    would give some frames twice and miss others. Files round their times, so a frame counts as
    shown from half a usual step before its own time on.
    """
    moments = np.arange(frames) / fps
    first = info.at(max(0.0, (float(info.times[-1]) - float(moments[-1])) / 2) + SLACK)
    usual = float(np.median(np.diff(info.times))) if info.frames > 1 else 0.0
    early = min(usual, 1 / fps) / 2 + SLACK
    return [info.at(float(info.times[first] + moment) + early) for moment in moments]


def cover(height: int, width: int, bucket: Bucket) -> float:
    """Return how many times a picture must be enlarged to cover the bucket."""
    return max(bucket.height / height, bucket.width / width)


def fit(picture: Image, bucket: Bucket) -> Image:
    """Scale a picture to cover the bucket, and cut the middle: nothing is distorted or invented."""
    own_height, own_width = picture.shape[:2]
    scale = cover(own_height, own_width, bucket)
    height = max(bucket.height, round(own_height * scale))
    width = max(bucket.width, round(own_width * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (width, height), interpolation=how)
    top, left = (height - bucket.height) // 2, (width - bucket.width) // 2
    middle = resized[top : top + bucket.height, left : left + bucket.width]
    return np.ascontiguousarray(middle, dtype=np.uint8)
