"""A folder of videos and tars, searched one directory at a time."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from datapipe.corpus import captions
from datapipe.corpus.keys import file_key
from datapipe.corpus.tars import Tar, tar_samples
from datapipe.errors import UserError
from datapipe.files import Place, is_about_the_path
from datapipe.record import Sample, Source
from datapipe.stores import denied

_BATCH = 256  # videos whose captions are asked of an object store at once


@dataclass(frozen=True, slots=True)
class Directory:
    """The files of one directory, names only: a flat folder may hold millions."""

    place: Place
    relative: str
    """Path below the corpus root, "" or ending with a slash."""
    names: list[str] = field(default_factory=list)
    """Sorted."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes, where the listing tells (an object store's does)."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a name is no readable file; "" is the directory itself."""

    def holds(self, name: str) -> bool:
        at = bisect_left(self.names, name)
        return at < len(self.names) and self.names[at] == name and name not in self.problems

    def caption_file(self, video: str) -> str | None:
        stem = video.rpartition(".")[0]
        return next((stem + end for end in captions.SUFFIXES if self.holds(stem + end)), None)


def folder_work(
    root: Place, captioned: Callable[[str], bool]
) -> Iterator[Callable[[], Iterator[Sample]]]:
    """The folder's samples in pieces, in a fixed order; each piece is ready when it is called.

    Caption files are read for the keys that are `captioned`.
    """
    for directory in _local(root) if root.fs is None else _remote(root):
        yield from _work(directory, partial(_videos, directory, captioned))


def _work(
    directory: Directory, videos: Callable[[list[str]], Iterator[Sample]]
) -> Iterator[Callable[[], Iterator[Sample]]]:
    if "" in directory.problems:
        yield partial(_unlisted, directory)
    batch: list[str] = []
    for name in directory.names:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in captions.VIDEOS:
            batch.append(name)
        elif suffix == ".tar":
            tar = Tar(directory.place.join(name), directory.relative + name)
            yield partial(tar_samples, tar)
        if len(batch) == _BATCH:
            yield partial(videos, batch)
            batch = []
    if batch:
        yield partial(videos, batch)


def _unlisted(directory: Directory) -> Iterator[Sample]:
    url = directory.place.url
    sample = Sample(file_key(directory.relative), Source(url, ""))
    yield sample.stop("rejected", "unreadable", f"{url}: {directory.problems['']}")


def _videos(
    directory: Directory, captioned: Callable[[str], bool], names: list[str]
) -> Iterator[Sample]:
    keys = {name: file_key(directory.relative + name) for name in names}
    files = {name: directory.caption_file(name) for name in names if captioned(keys[name])}
    read = _read_local if directory.place.fs is None else _read_remote
    texts = read(directory, [file for file in files.values() if file])
    return (
        _video(directory, name, keys[name], texts.get(files.get(name) or "", "")) for name in names
    )


def _video(directory: Directory, name: str, key: str, caption: str | PermissionError) -> Sample:
    url = captions.well_formed(directory.place.join(name).url)
    suffix = PurePosixPath(name).suffix.lower()
    source = Source(url, suffix, size=directory.sizes.get(name))
    if isinstance(caption, PermissionError):
        detail = f"{url}: its caption may not be read: {caption}"
        return Sample(key, source).stop("error", "caption_denied", detail)
    sample = Sample(key, source, caption)
    problem = directory.problems.get(name)
    return sample.stop("rejected", "unreadable", f"{url}: {problem}") if problem else sample


_Texts: TypeAlias = dict[str, str | PermissionError]
"""Captions by file name, or why a store refuses one: with the right granted it is worth a retry."""


def _read_local(directory: Directory, names: Iterable[str]) -> _Texts:
    texts: _Texts = {}
    for name in names:
        suffix = PurePosixPath(name).suffix
        try:
            with directory.place.join(name).open() as file:
                data = file.read(captions.bytes_to_read(suffix, None))
        except OSError as fault:
            if not is_about_the_path(fault):
                raise
            continue  # a video is worth having without its caption
        texts[name] = captions.decode(suffix, data)
    return texts


def _read_remote(directory: Directory, names: list[str]) -> _Texts:
    """All at once: an object store answers one request in the time of many."""
    wanted = {name: _bytes_to_read(directory, name) for name in names}
    wanted = {name: size for name, size in wanted.items() if size}
    fs = directory.place.fs
    paths = [directory.place.join(name).path for name in wanted]
    answers = fs.cat_ranges(paths, [0] * len(paths), list(wanted.values()), on_error="return")
    texts: _Texts = {}
    for (name, size), answer in zip(wanted.items(), answers, strict=True):
        try:
            if isinstance(answer, BaseException):  # by itself, and with patience
                answer = directory.place.join(name).ask(fs.cat_file, start=0, end=size)
        except FileNotFoundError:
            continue
        except PermissionError as fault:
            texts[name] = fault
        else:
            texts[name] = captions.decode(PurePosixPath(name).suffix, answer)
    return texts


def _bytes_to_read(directory: Directory, name: str) -> int:
    return captions.bytes_to_read(PurePosixPath(name).suffix, directory.sizes.get(name))


def _local(root: Place) -> Iterator[Directory]:
    """Depth first by hand: a recursion would end at a thousand levels."""
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while todo:
        relative, above = todo.pop()
        place = root.join(relative) if relative else root
        try:
            here = Path(place.path).stat()
            identity = (here.st_dev, here.st_ino)
            if identity in above:  # a link to a folder that holds it
                continue
            with os.scandir(place.path) as entries:
                files, folders, problems = _sorted_out(entries)
        except OSError as fault:
            if not is_about_the_path(fault):
                raise
            if not relative:
                raise UserError(f"{place.url}: {fault.strerror}. Make it readable") from fault
            problem = f"the folder cannot be listed: {fault.strerror}"
            yield Directory(place, relative, problems={"": problem})
            continue
        yield Directory(place, relative, files, problems=problems)
        below = above | {identity}
        todo.extend((f"{relative}{name}/", below) for name in reversed(folders))


def _sorted_out(
    entries: Iterable[os.DirEntry[str]],
) -> tuple[list[str], list[str], dict[str, str]]:
    """Files, folders, and what is wrong with those files that cannot be read."""
    files, folders, problems = [], [], {}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        problem = ""
        try:
            if entry.is_dir():
                folders.append(entry.name)
                continue
            if not entry.is_file():
                problem = "a broken link" if entry.is_symlink() else "not a regular file"
        except OSError as fault:  # a link to itself, or into a folder that may not be entered
            if not is_about_the_path(fault):
                raise
            problem = f"cannot be read: {fault.strerror}"
        if captions.well_formed(entry.name) != entry.name:
            problem = "the file's name is not UTF-8; rename it"
        files.append(entry.name)
        if problem:
            problems[entry.name] = problem
    return sorted(files), sorted(folders), problems


def _remote(root: Place) -> Iterator[Directory]:
    todo = [""]
    while todo:
        relative = todo.pop()
        place = root.join(relative) if relative else root
        sizes, folders = {}, []
        for info in _entries(root, place):
            path = str(info["name"]).rstrip("/")
            name = path.rpartition("/")[2]
            if path == place.path.rstrip("/") or name.startswith("."):
                continue  # a store may list a folder in itself
            if info["type"] == "directory":
                folders.append(name)
            else:
                sizes[name] = int(info["size"])
        yield Directory(place, relative, sorted(sizes), sizes)
        todo.extend(f"{relative}{name}/" for name in sorted(folders, reverse=True))


def _entries(root: Place, place: Place) -> Iterable[Mapping[str, Any]]:
    try:
        listed: Iterable[Mapping[str, Any]] = place.ask(root.fs.ls, detail=True)
    except PermissionError as fault:
        raise denied(place.url, fault) from fault
    return listed
