"""A folder of videos and tars: each video with what the files or members around it say of it."""

from __future__ import annotations

import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, TypeAlias

from datapipe.corpus import captions
from datapipe.corpus.captions import JSON, TEXT, Captions, best
from datapipe.corpus.directories import Directory, directories
from datapipe.corpus.names import (
    HIDDEN,
    VIDEOS,
    PassedOver,
    file_key,
    folded,
    member_key,
    suffix_of,
    well_formed,
)
from datapipe.files import Place, is_about_the_path
from datapipe.record import Sample, Source
from datapipe.tar import Entry, TarReader

_BLOCK = 64 * 1024
"""Bytes of a request: the end of a video, its caption, the next video's header."""
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")  # gzip, bz2, xz, zstd
_CUT, _NO_FILE = "the tar ends within it", "it is not a regular file"
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_FAULTS = {
    tarfile.SYMTYPE: "it is a link",
    tarfile.LNKTYPE: "it is a link",
    tarfile.GNUTYPE_SPARSE: "it is stored as a sparse file",
}
"""Why a member's bytes do not lie in the tar as they are, by its kind."""


@dataclass(frozen=True, slots=True)
class Tar:
    """A tar of the corpus, and its path below the corpus root, which the keys are made of."""

    place: Place
    relative: str


@dataclass(slots=True)
class _Text:
    """A caption file; `used` by a video."""

    found: Captions
    used: bool = False


@dataclass(frozen=True, slots=True)
class _Video:
    name: str
    offset: int
    size: int
    problem: str
    beside: dict[str, _Text]
    """The caption files of its group, by their names."""


class _Contents:
    """What the headers of one file tell; small, because a tar is: its videos stay unread.

    Members are grouped as WebDataset does, by the name up to its first dot. A name that comes again
    begins a new group: each of several videos of one name has the captions that it stands with.
    """

    def __init__(self, caption_field: str | None) -> None:
        self.videos: list[_Video] = []
        self.passed_over = PassedOver()
        self.problem = ""
        self._caption_field = caption_field
        self._groups: dict[str, tuple[set[str], dict[str, _Text]]] = {}
        self._texts: dict[str, deque[_Text]] = {}

    def scan(self, file: IO[bytes]) -> None:
        """Read all headers, and the caption files."""
        size, tars = file.seek(0, 2), 0
        reader = TarReader(file)
        try:
            for member in reader.of_any_kind():
                if member.tar > tars:  # one file that is made of several: each has its own groups
                    self._groups.clear()
                    tars = member.tar
                if member.kind != tarfile.DIRTYPE:
                    self._take(reader, member, size)
        except tarfile.ReadError as fault:
            if not (self.videos and self.videos[-1].problem == _CUT):  # that row tells it already
                why = str(fault).removeprefix("damaged ")
                self.problem = f"damaged: {why}; entries after that are not listed"

    def _take(self, reader: TarReader, member: Entry, tar_size: int) -> None:
        name = member.name.removeprefix("./")
        suffix = suffix_of(name)
        there = max(0, min(member.size, tar_size - member.begin))  # a forged size is huge
        if name.rpartition("/")[2].startswith("."):
            self.passed_over[HIDDEN] += 1
        elif suffix in VIDEOS:
            problem = "" if member.kind in _PLAIN else _FAULTS.get(member.kind, _NO_FILE)
            problem = _CUT if there < member.size else problem
            self.videos.append(_Video(name, member.begin, there, problem, self._group(name)))
        elif suffix in captions.SUFFIXES and member.kind in _PLAIN and there == member.size:
            data = reader.read(captions.bytes_to_read(suffix, member.size))
            found = captions.from_file(name, data, member.size, self._caption_field)
            text = self._group(name)[name] = _Text(found)
            self._texts.setdefault(folded(name), deque()).append(text)
        else:
            self.passed_over.add(name)

    def _group(self, name: str) -> dict[str, _Text]:
        """The caption files of the group that a member joins."""
        folder, slash, base = name.rpartition("/")
        group = f"{folder}{slash}{base.partition('.')[0]}"
        names, texts = self._groups.setdefault(group, (set(), {}))
        if name in names:
            names, texts = self._groups[group] = (set(), {})
        names.add(name)
        return texts

    def captioned(self) -> list[tuple[_Video, Captions]]:
        """Each video with its captions: from its group, else what no group has use for."""
        beside = [[video.beside.get(name) for name in self._names(video)] for video in self.videos]
        found = [[text for text in texts if text is not None] for texts in beside]
        for text in (text for texts in found for text in texts):
            text.used = True
        for video, texts in zip(self.videos, found, strict=True):
            if not texts:
                texts += self._unused(video)
        for name, left in self._texts.items():
            for _ in filter(lambda text: not text.used, left):
                self.passed_over.add(name)
        alike = (best(text.found for text in texts) for texts in found)
        return list(zip(self.videos, alike, strict=True))

    def _names(self, video: _Video) -> list[str]:
        """Beside `a/b.c.mp4`: `a/b.c.txt`; `a/b.txt`, for WebDataset ends a key at its first dot;
        `a/b.c.mp4.txt`.
        """
        folder, slash, name = video.name.rpartition("/")
        stems = dict.fromkeys((name.rpartition(".")[0], name.partition(".")[0], name))
        suffixes = (TEXT, JSON) if self._caption_field is None else (JSON, TEXT)
        return [f"{folder}{slash}{stem}{suffix}" for stem in stems for suffix in suffixes]

    def _unused(self, video: _Video) -> Iterator[_Text]:
        for name in self._names(video):
            texts = self._texts.get(folded(name), deque())
            while texts and texts[0].used:  # as many as videos where all have one name
                texts.popleft()
            if texts:
                texts[0].used = True
                yield texts[0]


def tar_samples(tar: Tar, caption_field: str | None = None) -> Iterator[Sample | PassedOver]:
    """The videos of a tar, in its order. The headers are read before this returns.

    A damaged tar gives what comes before the damage, and a rejected row that tells of it.
    """
    contents = _Contents(caption_field)
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


def _samples(tar: Tar, contents: _Contents) -> Iterator[Sample | PassedOver]:
    url, seen = tar.place.url, Counter[str]()
    captioned = contents.captioned()
    yield contents.passed_over
    for video, found in captioned:
        name = well_formed(video.name)
        source = Source(url, suffix_of(video.name), name, video.offset, video.size)
        key = member_key(tar.relative, video.name, seen[video.name])
        seen[video.name] += 1
        sample = found.on(Sample(key, source))
        if video.problem:
            detail = f"{source}: {video.problem}"
            sample = sample.stop("rejected", "unreadable", detail)
        yield sample
    if contents.problem:
        sample = Sample(file_key(tar.relative), Source(url, ".tar"))
        yield sample.stop("rejected", "unreadable", f"{url}: {contents.problem}")


_BATCH = 256
"""Videos whose captions are asked of an object store at once."""

_Found: TypeAlias = dict[str, Captions | PermissionError]
"""By the name of a file, or why a store refuses it: with the right granted it is worth a retry."""


@dataclass(frozen=True, slots=True)
class FolderListing:
    """One pass over a folder."""

    root: Place
    captioned: Callable[[str], bool]
    """Whether captions are read for a key."""
    caption_field: str | None

    def pieces(self) -> Iterator[Callable[[], Iterator[Sample | PassedOver]]]:
        """The samples in pieces, in a fixed order; each piece is ready when it is called."""
        for directory in directories(self.root, self.caption_field):
            yield partial(iter, (directory.passed_over(),))
            if "" in directory.problems:
                yield partial(_unlisted, directory)
            batch: list[str] = []
            for name in directory.names:
                suffix = suffix_of(name)
                if suffix in VIDEOS:
                    batch.append(name)
                elif suffix == ".tar":
                    tar = Tar(directory.place.join(name), directory.relative + name)
                    yield partial(tar_samples, tar, self.caption_field)
                if len(batch) == _BATCH:
                    yield partial(self._videos, directory, batch)
                    batch = []
            if batch:
                yield partial(self._videos, directory, batch)

    def _videos(self, directory: Directory, names: Sequence[str]) -> Iterator[Sample]:
        keys = {name: file_key(directory.relative + name) for name in names}
        found = self._captions(directory, [name for name in names if self.captioned(keys[name])])
        return (_video(directory, name, keys[name], found.get(name, Captions())) for name in names)

    def _captions(self, directory: Directory, videos: Sequence[str]) -> _Found:
        """What the files beside each video say, else the metadata.

        A field that the user named is looked for first in what has fields.
        """
        text, data = partial(self._beside, TEXT), partial(self._beside, JSON)
        found: _Found = dict.fromkeys(videos, Captions())
        named = self.caption_field is not None
        for source in (data, _in_metadata, text) if named else (text, data, _in_metadata):
            left = [video for video, so_far in found.items() if _is_empty(so_far)]
            for video, more in source(directory, left).items():
                before = found[video]
                if isinstance(more, Captions) and isinstance(before, Captions):
                    more = best((before, more))
                found[video] = more
        return found

    def _beside(self, suffix: str, directory: Directory, videos: Sequence[str]) -> _Found:
        """What the caption files of that suffix say of the videos."""
        files = {video: file for video in videos if (file := directory.caption_file(video, suffix))}
        read = self._read_local if directory.place.fs is None else self._read_remote
        found = read(directory, list(dict.fromkeys(files.values())))
        return {video: found[file] for video, file in files.items() if file in found}

    def _read_local(self, directory: Directory, names: Sequence[str]) -> _Found:
        found: _Found = {}
        for name in names:
            try:
                with directory.place.join(name).open() as file:
                    data = file.read(captions.bytes_to_read(suffix_of(name), None))
            except OSError as fault:
                if not is_about_the_path(fault):
                    raise
                found[name] = Captions(problem=f"{name} cannot be read: {fault.strerror}")
            else:
                found[name] = captions.from_file(name, data, len(data), self.caption_field)
        return found

    def _read_remote(self, directory: Directory, names: Sequence[str]) -> _Found:
        """All at once: an object store answers one request in the time of many."""
        fs, sizes = directory.place.fs, {name: directory.sizes[name] for name in names}
        wanted = {name: captions.bytes_to_read(suffix_of(name), sizes[name]) for name in names}
        paths = {name: directory.place.join(name).path for name, count in wanted.items() if count}
        counts = [wanted[name] for name in paths]
        answers = fs.cat_ranges(list(paths.values()), [0] * len(paths), counts, on_error="return")
        answered: dict[str, Any] = dict(zip(paths, answers, strict=True))
        found: _Found = {}
        for name in names:
            data = answered.get(name, b"")
            try:
                if isinstance(data, BaseException):  # by itself, and with patience
                    place = directory.place.join(name)
                    data = place.ask(fs.cat_file, start=0, end=wanted[name])
            except FileNotFoundError:
                continue
            except PermissionError as fault:
                found[name] = fault
            else:
                found[name] = captions.from_file(name, data, sizes[name], self.caption_field)
        return found


def _in_metadata(directory: Directory, videos: Sequence[str]) -> _Found:
    if directory.metadata is None:
        return {}
    return {video: directory.metadata.captions(directory.relative + video) for video in videos}


def _is_empty(found: Captions | PermissionError) -> bool:
    return isinstance(found, Captions) and not found.texts


def _unlisted(directory: Directory) -> Iterator[Sample]:
    url = directory.place.url
    sample = Sample(file_key(directory.relative), Source(url, ""))
    yield sample.stop("rejected", "unreadable", f"{url}: {directory.problems['']}")


def _video(directory: Directory, name: str, key: str, found: Captions | PermissionError) -> Sample:
    url = well_formed(directory.place.join(name).url)
    sample = Sample(key, Source(url, suffix_of(name), size=directory.sizes.get(name)))
    if isinstance(found, PermissionError):
        detail = f"{url}: its caption may not be read: {found}"
        return sample.stop("error", "caption_denied", detail)
    problem = directory.problems.get(name)
    sample = found.on(sample)
    return sample.stop("rejected", "unreadable", f"{url}: {problem}") if problem else sample
