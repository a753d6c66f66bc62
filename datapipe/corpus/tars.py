"""Tars of videos in the manner of WebDataset: what is inside, from the headers alone."""

from __future__ import annotations

import struct
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from datapipe.corpus import captions
from datapipe.corpus.keys import file_key, member_key
from datapipe.files import Place, is_about_the_path
from datapipe.record import Sample, Source

_MAX_HEADER = 64 * 1024  # an honest extended header holds one path; a forged one, gigabytes
_BLOCK = 64 * 1024  # a request: the end of a video, its caption, the next video's header
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")  # gzip, bz2, xz, zstd
_CUT = "the tar ends within it"
_FAULTS = (  # what tarfile raises on forged headers, found by feeding it random ones
    tarfile.TarError,
    ValueError,
    IndexError,
    OverflowError,
    RecursionError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Tar:
    """A tar of the corpus, and its path below the corpus root, which the keys are made of."""

    place: Place
    relative: str


@dataclass(frozen=True, slots=True)
class _Video:
    name: str
    offset: int
    size: int
    problem: str


class _Headers:
    """The file as tarfile sees it: no read larger than a header, no step outside."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.tell = file.tell

    def seek(self, position: int) -> int:
        if not 0 <= position <= self._size:
            raise tarfile.ReadError("a header points outside the tar")
        return self._file.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"an extended header claims {size} bytes")
        return self._file.read(size)


class _Contents:
    """What the headers of one tar tell; small, because a tar is: its videos stay unread."""

    def __init__(self) -> None:
        self.videos: list[_Video] = []
        self.captions: dict[str, str] = {}
        self.problem = ""

    def scan(self, file: IO[bytes]) -> None:
        size = file.seek(0, 2)
        file.seek(0)
        headers = _Headers(file, size)
        try:
            with tarfile.open(fileobj=headers, mode="r:") as tar:  # type: ignore[call-overload]
                while (member := tar.next()) is not None:
                    tar.members.clear()  # it would keep them all
                    if member.size < 0 or tar.offset <= member.offset:
                        raise tarfile.ReadError("a header claims a negative size")
                    self._take(file, member, size)
                end = tar.offset
        except _FAULTS as fault:
            self._stop(fault)
            return
        file.seek(end)
        if any(file.read(tarfile.BLOCKSIZE)):  # tarfile takes a broken header for the end
            self.problem = f"damaged at byte {end}; entries after it are not listed"

    def _take(self, file: IO[bytes], member: tarfile.TarInfo, tar_size: int) -> None:
        name = member.name.removeprefix("./")
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if member.isdir() or path.name.startswith("."):
            return
        cut = member.offset_data + member.size > tar_size
        if suffix in captions.VIDEOS:
            problem = _CUT if cut else _not_plain(member)
            there = max(0, min(member.size, tar_size - member.offset_data))  # a forged one is huge
            self.videos.append(_Video(name, member.offset_data, there, problem))
        elif suffix in captions.SUFFIXES and member.isreg() and not cut:
            file.seek(member.offset_data)
            data = file.read(captions.bytes_to_read(suffix, member.size))
            self.captions[name] = captions.decode(suffix, data)

    def _stop(self, fault: Exception) -> None:
        if not (self.videos and self.videos[-1].problem == _CUT):  # that row tells it already
            self.problem = f"damaged: {fault}; entries after that are not listed"

    def caption(self, video: str) -> str:
        """Beside `a/b.c.mp4`: `a/b.c.txt`, or `a/b.txt`, for WebDataset ends a key at a dot."""
        folder, slash, name = video.rpartition("/")
        for stem in (name.rpartition(".")[0], name.partition(".")[0]):
            for suffix in captions.SUFFIXES:
                found = self.captions.get(f"{folder}{slash}{stem}{suffix}")
                if found is not None:
                    return found
        return ""


def tar_samples(tar: Tar) -> Iterator[Sample]:
    """The videos of a tar, in its order. The headers are read before this returns.

    A damaged tar gives what comes before the damage, and a rejected row that tells of it.
    """
    contents = _Contents()
    try:
        with tar.place.open(_BLOCK) as file:
            contents.scan(file)
            file.seek(0)
            if contents.problem and file.read(4).startswith(_COMPRESSED):
                contents.problem = "compressed; decompress it, so that videos can be read in place"
    except OSError as fault:
        gone = isinstance(fault, FileNotFoundError)  # between the listing and now
        if not gone and (tar.place.fs is not None or not is_about_the_path(fault)):
            raise
        contents.problem = f"cannot be opened: {fault.strerror or fault}"
    return _samples(tar, contents)


def _samples(tar: Tar, contents: _Contents) -> Iterator[Sample]:
    url, seen = tar.place.url, Counter[str]()
    for video in contents.videos:
        name = captions.well_formed(video.name)
        suffix = PurePosixPath(video.name).suffix.lower()
        source = Source(url, suffix, name, video.offset, video.size)
        key = member_key(tar.relative, video.name, seen[video.name])
        seen[video.name] += 1
        sample = Sample(key, source, contents.caption(video.name))
        if video.problem:
            detail = f"{source}: {video.problem}"
            sample = sample.stop("rejected", "unreadable", detail)
        yield sample
    if contents.problem:
        sample = Sample(file_key(tar.relative), Source(url, ".tar"))
        yield sample.stop("rejected", "unreadable", f"{url}: {contents.problem}")


def _not_plain(member: tarfile.TarInfo) -> str:
    """Why the member's bytes do not lie in the tar as they are; "" where they do."""
    if member.issym() or member.islnk():
        return "it is a link"
    if not member.isreg():
        return "it is not a regular file"
    return "it is stored as a sparse file" if member.issparse() else ""
