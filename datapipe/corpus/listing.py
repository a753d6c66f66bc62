"""`corpus`: find out what a path or URL is, and stream its samples; manifests are read here."""

from __future__ import annotations

import hashlib
import posixpath
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import call
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import braceexpand
import numpy as np

from datapipe.concurrent import read_ahead
from datapipe.corpus import captions
from datapipe.corpus.captions import Captions
from datapipe.corpus.directories import parquet_files
from datapipe.corpus.folder import FolderListing, Tar, tar_samples
from datapipe.corpus.names import (
    COMPRESSED_MANIFESTS,
    COMPRESSED_TARS,
    MANIFESTS,
    VIDEOS,
    PassedOver,
    row_key,
    shared_row_key,
    suffix_of,
    well_formed,
)
from datapipe.corpus.rows import Columns, Row, rows
from datapipe.errors import UserError
from datapipe.files import Place, local_path, user_place
from datapipe.record import Sample, Source

PATHS = ("path", "file_name")
"""Names of the column with the videos' paths; the second is the hub's."""


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """A table of videos, in one file or in several parts."""

    base: Place
    """The folder that relative paths are seen from."""
    parts: tuple[Place, ...]
    field: str | None = None
    """The column of the captions; None looks for the usual ones."""

    def check(self) -> None:
        """Raises UserError when this is no manifest."""
        next(self._rows(() if self.field is None else (self.field,)), None)

    def samples(self) -> Iterator[Sample]:
        """A sample for every row, in order. Reads the rows twice: first for keys given twice."""
        shared = self._shared_keys()
        seen = Counter[str]()
        wanted = captions.FIELDS if self.field is None else (self.field,)
        for part, row in self._rows(("key", *wanted)):
            path, given = _path_and_key(row)
            key = row_key(given, path)
            if _digest(key) in shared:
                first = shared_row_key(given, path, 0)
                key = shared_row_key(given, path, seen[first])
                seen[first] += 1
            yield self._sample(part, row, path, key)

    def _rows(self, others: tuple[str, ...] = ("key",)) -> Iterator[tuple[Place, Row]]:
        columns = Columns(PATHS, others, self.field if self.field in others else None)
        for part in self.parts:
            yield from ((part, row) for row in rows(part, columns))

    def _shared_keys(self) -> frozenset[int]:
        """Digests of the keys of more than one row, in 8 bytes a row.

        Two keys that meet in 8 bytes only get a hash they would not have needed.
        """
        found = (_path_and_key(row) for _, row in self._rows())
        digests = array("Q", (_digest(row_key(given, path)) for path, given in found))
        if not digests:
            return frozenset()
        ordered = np.frombuffer(digests, np.uint64)
        ordered.sort()
        return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())

    def _sample(self, part: Place, row: Row, path: str, key: str) -> Sample:
        missing = not _string(row.values.get("path"))
        if problem := row.problem or (f"{row.where} has no path" if missing else ""):
            source = Source(part.url, suffix_of(part.name))
            detail = f"{part.url}: {problem}"
            return Sample(key, source).stop("rejected", "unreadable", detail)
        place = _resolve(self.base, path)
        suffix = _suffix(place)
        found = captions.from_fields(row.values, self.field)
        if found.problem:
            found = Captions(problem=f"{part.url}: {row.where}: {found.problem}")
        sample = found.on(Sample(key, Source(place, suffix)))
        if suffix in VIDEOS:
            return sample
        wanted = ", ".join(VIDEOS)
        return sample.stop("rejected", "unreadable", f"{path!r} does not end with {wanted}")


def _digest(key: str) -> int:
    """Of the key as a file system that ignores case sees it."""
    return int.from_bytes(hashlib.blake2b(key.lower().encode(), digest_size=8).digest(), "big")


def _path_and_key(row: Row) -> tuple[str, str | None]:
    """What the key follows from; a row without a path goes by its place in the table."""
    path = _string(row.values.get("path"))
    return (path, _string(row.values.get("key")) or None) if path else (row.where, None)


def _string(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value.isascii():
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return well_formed(str(value))


def _suffix(path: str) -> str:
    url = path.startswith(("http://", "https://"))
    return suffix_of(urlsplit(path).path if url else path)


def _resolve(base: Place, path: str) -> str:
    """An absolute path or URL as it is, else what it is seen from the base."""
    if (local := local_path(path)) is not None:
        return local
    if "://" in path or path.startswith("/"):
        return path
    place = base.join(path)
    if place.fs is None:
        return place.path  # ".." is the kernel's to resolve
    return Place(place.fs, posixpath.normpath(place.path)).url


_AHEAD = 16
"""Pieces that are listed at the same time where each request waits for a network."""

_Entries: TypeAlias = Iterator[Sample | PassedOver]
_Work: TypeAlias = Iterable[Callable[[], _Entries]]

_FORMS = (
    "Give a folder of videos or tars, a .tar, a pattern such as 'shards/{000000..000127}.tar', "
    "or a .parquet, .jsonl or .csv manifest with a column 'path'"
)


@dataclass(frozen=True)
class Corpus:
    """A source of samples. Each iteration lists it anew, in the same order."""

    url: str
    form: Literal["folder", "tars", "manifest"]
    root: Place
    """The folder, the manifest, or the folder below which the tars lie."""
    tars: tuple[Tar, ...] = ()
    caption_field: str | None = None
    """Where captions stand in JSON and in tables; None looks for the usual names."""

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def samples(
        self,
        captioned: Callable[[str], bool] = lambda key: True,
        passed_over: PassedOver | None = None,
    ) -> Iterator[Sample]:
        """The videos, each with its key; those that cannot be listed are already stopped.

        A caption that is a file of its own is read only where its key is `captioned`: on an object
        store that is a request. The others come with the listing. What is listed and is part of no
        sample is counted in `passed_over`, as far as the listing has come.

        Raises UserError at the end when there was no sample, and whatever a file system raises that
        does not answer.
        """
        counted = PassedOver() if passed_over is None else passed_over
        empty = True
        for entry in self._listed(captioned):
            if isinstance(entry, PassedOver):
                counted.update(entry)
            else:
                empty = False
                yield entry
        if empty and self.form == "folder" and (parts := parquet_files(self.root)):
            counted.pop(".parquet", None)
            yield from self._of_parts(parts)
        elif empty:
            raise UserError(f"{self.url}: no video in it. {self._hint(counted)}")

    def _listed(self, captioned: Callable[[str], bool]) -> _Entries:
        if self.form == "manifest":
            return CorpusManifest(self.root.parent, (self.root,), self.caption_field).samples()
        if self.form == "folder":
            return _run(FolderListing(self.root, captioned, self.caption_field).pieces(), self.root)
        work = (partial(tar_samples, tar, self.caption_field) for tar in self.tars)
        return _run(work, self.root)

    def _of_parts(self, parts: tuple[Place, ...]) -> Iterator[Sample]:
        """A folder of nothing but Parquet files is a table in parts.

        One that is named like a file, as Spark does, stands for a file of that name.
        """
        named = self.root.name.lower().endswith(".parquet")
        table = CorpusManifest(self.root.parent if named else self.root, parts, self.caption_field)
        first = next(samples := table.samples(), None)
        if first is None:
            raise UserError(f"{self.url}: no video in it. The manifest has no rows")
        yield first
        yield from samples

    def _hint(self, passed_over: PassedOver) -> str:
        if self.form == "manifest":
            return "The manifest has no rows"
        kinds = ", ".join(VIDEOS)
        there = f". There are: {passed_over}" if passed_over else ""
        if self.form == "tars":
            return f"Videos in a tar are members that end with {kinds}{there}"
        looked_for = f"Looked for {kinds} and .tar, also in its folders"
        return f"{looked_for}; compressed tars are not read{there}"


def corpus(url: str | Path, caption_field: str | None = None) -> Corpus:
    """The corpus at a path or fsspec URL; `caption_field` is where JSON and tables have captions.

    Raises UserError when it is none.
    """
    url = str(url)
    place = user_place(url)
    kind = _kind(url, place)
    if kind == "folder":
        return Corpus(url, "folder", place, caption_field=caption_field)
    if kind == "file":
        return _file(url, place, caption_field)
    if "{" in url:
        return _pattern(url, caption_field)
    raise UserError(f"{url}: no such file or folder. {_FORMS}")


def _kind(url: str, place: Place) -> Literal["folder", "file", "nothing"]:
    """Look for the first time: what fails here is the address, the credentials or the network."""
    try:
        if place.is_dir():
            return "folder"
        return "file" if place.is_file() else "nothing"
    except UserError:
        raise
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UserError(f"{url}: {reason}. Check the address and the right to read it") from fault
    except Exception as fault:
        if place.fs is None:
            raise
        # Each store has errors of its own; they share no class.
        problem = f"{type(fault).__name__}: {fault}"
        raise UserError(f"{url}: {problem}. Check credentials, endpoint and network") from fault


def _file(url: str, place: Place, caption_field: str | None) -> Corpus:
    name = place.name.lower()
    if name.endswith(MANIFESTS):
        CorpusManifest(place.parent, (place,), caption_field).check()
        return Corpus(url, "manifest", place, caption_field=caption_field)
    if name.endswith(".tar"):
        return Corpus(url, "tars", place.parent, (Tar(place, place.name),), caption_field)
    if name.endswith(COMPRESSED_TARS + COMPRESSED_MANIFESTS):
        raise UserError(f"{url}: compressed. Decompress it, so that it can be read in place")
    if name.endswith(VIDEOS):
        raise UserError(f"{url}: a single video. Put it in a folder and give the folder")
    raise UserError(f"{url}: not a corpus. {_FORMS}")


def _pattern(url: str, caption_field: str | None) -> Corpus:
    """Tars by a brace pattern; their root is the folder before the first brace."""
    try:
        urls = list(dict.fromkeys(braceexpand.braceexpand(url)))
    except ValueError as fault:
        raise UserError(f"{url}: a brace is not closed") from fault
    if not all(name.lower().endswith(".tar") for name in urls):
        raise UserError(f"{url}: a brace pattern stands for .tar files. {_FORMS}")
    root = user_place(posixpath.dirname(url.partition("{")[0]) or ".")
    places = [user_place(name) for name in urls]
    _need_all(url, places)
    start = len(root.path.rstrip("/")) + 1
    tars = tuple(Tar(place, place.path[start:]) for place in places)
    return Corpus(url, "tars", root, tars, caption_field)


def _need_all(url: str, places: list[Place]) -> None:
    """One listing for each folder, not one request for each tar."""
    present: set[str] = set()
    for folder in {place.parent for place in places}:
        present.update(folder.file_paths())
    missing = [place.url for place in places if place.path not in present]
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{url}: {len(missing)} of {len(places)} tars do not exist: {some}. Mend the pattern"
        )


def _run(work: _Work, root: Place) -> _Entries:
    """The pieces' samples in order; of an object store several pieces are listed ahead."""
    if root.fs is None:
        for piece in work:
            yield from piece()
        return
    for _, listed in read_ahead(call, work, _AHEAD, _AHEAD - 1):
        yield from listed.result()
