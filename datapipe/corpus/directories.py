"""The directories of a folder, local or remote, one after the other, with their `metadata.csv`."""

from __future__ import annotations

import json
import os
import posixpath
import sqlite3
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from datapipe.corpus import captions
from datapipe.corpus.captions import SUFFIXES, Captions
from datapipe.corpus.names import HIDDEN, VIDEOS, PassedOver, folded, suffix_of, well_formed
from datapipe.corpus.rows import Columns, rows
from datapipe.errors import UserError
from datapipe.files import Place, is_about_the_path
from datapipe.stores import denied

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""In order of preference."""
_FILE = "file_name"


class Metadata:
    """Captions by a file's path below the folder of the table.

    The table is read when the first of them is asked for, into a temporary file: memory does not
    grow with it. A row for each of several captions of a file is as good as a list in one row.
    """

    def __init__(
        self, place: Place, relative: str, field: str | None, above: Metadata | None
    ) -> None:
        """`relative` is the folder's path below the corpus root; `above` knows what this does not.

        Raises UserError when the table has no column `file_name`, or cannot be read.
        """
        self.relative, self.above = relative, above
        self._place = place
        self._field = field
        names = captions.FIELDS if field is None else (field,)
        self._columns = Columns((_FILE,), names)
        self._lock = threading.Lock()
        self._table: sqlite3.Connection | None = None
        self._problem = ""
        next(rows(place, self._columns), None)

    def is_at(self, place: Place) -> bool:
        return self._place.path == place.path

    def captions(self, path: str) -> Captions:
        """Those of a file, by its path below the corpus root."""
        found = self._own(path.removeprefix(self.relative))
        if found is not None:
            return found
        above = self.above.captions(path) if self.above is not None else Captions()
        return above if above.texts or not self._problem else Captions(problem=self._problem)

    def _own(self, name: str) -> Captions | None:
        wanted = folded(name)
        with self._lock:  # the pieces of a store's listing are made in threads
            if self._table is None:
                self._table = self._read()
            query = "SELECT name, texts, problem FROM captions WHERE folded = ? LIMIT ?"
            found = self._table.execute(query, (wanted, captions.MAX_CAPTIONS)).fetchall()
        exact = [row for row in found if row[0] == name]
        if not exact and len({row[0] for row in found}) > 1:
            return None  # several files that differ in their letter case only, and none is this
        matching = exact or found
        texts = tuple(text for _, listed, _ in matching for text in json.loads(listed))
        problem = next((problem for *_, problem in matching if problem), "")
        if not matching:
            return None
        return Captions(texts[: captions.MAX_CAPTIONS], "" if texts else problem)

    def _read(self) -> sqlite3.Connection:
        table = sqlite3.connect("", check_same_thread=False)  # a file of its own that goes with it
        table.execute("CREATE TABLE captions (folded, name, texts, problem)")
        table.executemany("INSERT INTO captions VALUES (?, ?, ?, ?)", self._entries())
        table.execute("CREATE INDEX by_name ON captions (folded)")
        return table

    def _entries(self) -> Iterator[tuple[str, str, str, str]]:
        url = self._place.url
        try:
            for row in rows(self._place, self._columns):
                path = row.values.get("path")
                if row.problem or not isinstance(path, str):
                    problem = row.problem or f"{row.where} has no {_FILE}"
                    self._problem = self._problem or f"{url}: {problem}"
                    continue
                name = posixpath.normpath(well_formed(path).replace("\\", "/"))
                found = captions.from_fields(row.values, self._field)
                problem = f"{url}: {row.where}: {found.problem}" if found.problem else ""
                yield folded(name), name, json.dumps(found.texts), problem
        except UserError as broken:  # what came before is known
            self._problem = str(broken)


@dataclass
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
    hidden: int = 0
    """Files and folders whose names start with a dot."""
    metadata: Metadata | None = None
    """Of this directory, or of the nearest one above that has any."""
    unusable: set[str] = field(default_factory=set)
    """Tables named like metadata that are none."""

    def holds(self, name: str) -> bool:
        at = bisect_left(self.names, name)
        return at < len(self.names) and self.names[at] == name and name not in self.problems

    def caption_file(self, video: str, suffix: str) -> str | None:
        """The file with the video's caption: of `x.mp4` it is `x.txt`, else `x.mp4.txt`.

        By its exact name, else by the folded one.
        """
        owners = (video.rpartition(".")[0], video)
        for owner in owners:
            if self.holds(owner + suffix):
                return owner + suffix
        for owner in owners:
            wanted = folded(owner + suffix)
            for name in (wanted, *self._unusual.get(wanted, [])):
                other = name.rpartition(".")[0]
                if self.holds(name) and (other == owner or not self._owns(other)):
                    return name
        return None

    def has_video_for(self, caption_file: str) -> bool:
        """Whether a caption file belongs to any video."""
        owner = caption_file.rpartition(".")[0]
        wanted = folded(owner)
        if self._owns(owner) or self._owns(wanted):
            return True
        if suffix_of(wanted) in VIDEOS and wanted in self._unusual:
            return True
        return any(wanted + suffix in self._unusual for suffix in VIDEOS)

    def _owns(self, owner: str) -> bool:
        """Whether there is a video of that name, with its suffix or without."""
        return (suffix_of(owner) in VIDEOS and self.holds(owner)) or self._has_video(owner)

    def _has_video(self, stem: str) -> bool:
        at = bisect_left(self.names, f"{stem}.")
        while at < len(self.names) and self.names[at].startswith(f"{stem}."):
            if self.names[at][len(stem) :].lower() in VIDEOS:
                return True
            at += 1
        return False

    @cached_property
    def _unusual(self) -> dict[str, list[str]]:
        """The names that are not in their folded form, by that form."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            if (other := folded(name)) != name:
                found.setdefault(other, []).append(name)
        return found

    def passed_over(self) -> PassedOver:
        """What is neither a video nor a tar nor says something about one."""
        found = PassedOver()
        if self.hidden:
            found[HIDDEN] = self.hidden
        for name in self.names:
            suffix = suffix_of(name)
            if suffix in VIDEOS or suffix == ".tar":
                continue
            if suffix in SUFFIXES and self.has_video_for(name):
                continue
            if name in self.unusable:
                found[f"unusable {name}"] += 1
            elif self.metadata is None or not self.metadata.is_at(self.place.join(name)):
                found.add(name)
        return found


def parquet_files(root: Place) -> tuple[Place, ...]:
    """The Parquet files below a folder, in order."""
    return tuple(
        directory.place.join(name)
        for directory in (_local(root) if root.fs is None else _remote(root))
        for name in directory.names
        if suffix_of(name) == ".parquet" and name not in directory.problems
    )


def directories(root: Place, caption_field: str | None) -> Iterator[Directory]:
    """Each with the metadata that tell of its files."""
    above: Metadata | None = None
    for directory in _local(root) if root.fs is None else _remote(root):
        while above is not None and not directory.relative.startswith(above.relative):
            above = above.above
        for name in filter(directory.holds, METADATA):
            try:
                place = directory.place.join(name)
                above = Metadata(place, directory.relative, caption_field, above)
                break
            except UserError:
                directory.unusable.add(name)
        directory.metadata = above
        yield directory


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
                files, folders, problems, hidden = _sorted_out(entries)
        except OSError as fault:
            if not is_about_the_path(fault):
                raise
            if not relative:
                raise UserError(f"{place.url}: {fault.strerror}. Make it readable") from fault
            problem = f"the folder cannot be listed: {fault.strerror}"
            yield Directory(place, relative, problems={"": problem})
            continue
        yield Directory(place, relative, files, problems=problems, hidden=hidden)
        below = above | {identity}
        todo.extend((f"{relative}{name}/", below) for name in reversed(folders))


def _sorted_out(
    entries: Iterable[os.DirEntry[str]],
) -> tuple[list[str], list[str], dict[str, str], int]:
    """Files, folders, what is wrong with unreadable files, and how many entries are hidden."""
    files, folders, problems, hidden = [], [], {}, 0
    for entry in entries:
        if entry.name.startswith("."):
            hidden += 1
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
        if well_formed(entry.name) != entry.name:
            problem = "the file's name is not UTF-8; rename it"
        files.append(entry.name)
        if problem:
            problems[entry.name] = problem
    return sorted(files), sorted(folders), problems, hidden


def _remote(root: Place) -> Iterator[Directory]:
    todo = [""]
    while todo:
        relative = todo.pop()
        place = _below(root, relative)
        if "//" in place.path and "://" not in place.path:
            yield from _flat(root, place)
            continue
        sizes, folders, hidden = {}, [], 0
        for info in _ask(place, root.fs.ls, detail=True):
            path = str(info["name"])
            name = path.rstrip("/").rpartition("/")[2]
            if path.rstrip("/") == place.path.rstrip("/"):  # a store may list a folder in itself
                if path.endswith("/") and info["type"] == "directory":  # or mean an empty name
                    folders.append("")
            elif name.startswith("."):
                hidden += 1
            elif info["type"] == "directory":
                folders.append(name)
            else:
                sizes[name] = int(info["size"])
        yield Directory(place, relative, sorted(sizes), sizes, hidden=hidden)
        todo.extend(f"{relative}{name}/" for name in sorted(folders, reverse=True))


def _flat(root: Place, place: Place) -> Iterator[Directory]:
    """Everything below a path such as `a//`, which fsspec lists by its prefix only.

    That is one answer, held whole.
    """
    above, _, rest = place.path.partition("//")
    prefix = f"/{rest}" if rest.endswith("/") or not rest else f"/{rest}/"
    listed = _ask(Place(root.fs, above), root.fs.find, prefix=prefix, detail=True)
    start = len(root.path.rstrip("/")) + 1
    sizes: dict[str, dict[str, int]] = {}
    hidden = Counter[str]()
    for path, info in listed.items():
        folder, slash, name = str(path)[start:].rpartition("/")
        if any(part.startswith(".") for part in (*folder.split("/"), name)):
            hidden[folder + slash] += 1
        elif name:
            sizes.setdefault(folder + slash, {})[name] = int(info["size"])
    for relative in sorted({*sizes, *hidden}):
        files = sizes.get(relative, {})
        where = _below(root, relative)
        yield Directory(where, relative, sorted(files), files, hidden=hidden[relative])


def _below(root: Place, relative: str) -> Place:
    """A folder below the root; a name on the way to it may be empty."""
    return Place(root.fs, f"{root.path.rstrip('/')}/{relative}") if relative else root


def _ask(place: Place, ask: Callable[..., Any], **named: Any) -> Any:
    try:
        return place.ask(ask, **named)
    except PermissionError as fault:
        raise denied(place.url, fault) from fault
