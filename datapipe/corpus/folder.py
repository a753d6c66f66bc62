"""A folder of videos and tars: each video with what the files around it say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from datapipe.corpus import captions
from datapipe.corpus.captions import JSON, TEXT, Captions, best
from datapipe.corpus.directories import Directory, directories
from datapipe.corpus.keys import file_key
from datapipe.corpus.names import VIDEOS, PassedOver, suffix_of, well_formed
from datapipe.corpus.tars import Tar, tar_samples
from datapipe.files import Place, is_about_the_path
from datapipe.record import Sample, Source

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
