"""`corpus`: find out what a path or URL is, and stream its samples."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import braceexpand

from datapipe.corpus import captions
from datapipe.corpus.folder import folder_work
from datapipe.corpus.manifest import check_manifest, manifest_samples
from datapipe.corpus.tars import Tar, tar_samples
from datapipe.errors import UserError
from datapipe.files import Place, user_place
from datapipe.record import Sample

_AHEAD = 16  # pieces listed at the same time where each request waits for a network

_Work: TypeAlias = Iterable[Callable[[], Iterator[Sample]]]

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

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def samples(self, captioned: Callable[[str], bool] = lambda key: True) -> Iterator[Sample]:
        """The videos, each with its key; those that cannot be listed are already stopped.

        A caption that is a file of its own is read only where its key is `captioned`: on an object
        store that is a request. The others come with the listing. Raises UserError at the end when
        there was none, and whatever a file system raises that does not answer.
        """
        empty = True
        for sample in self._listed(captioned):
            empty = False
            yield sample
        if empty:
            raise UserError(f"{self.url}: no video in it. {_hint(self)}")

    def _listed(self, captioned: Callable[[str], bool]) -> Iterator[Sample]:
        if self.form == "manifest":
            return manifest_samples(self.root)
        if self.form == "folder":
            return _run(folder_work(self.root, captioned), self.root)
        return _run((partial(tar_samples, tar) for tar in self.tars), self.root)


def corpus(url: str) -> Corpus:
    """The corpus at a path or fsspec URL. Raises UserError when it is none."""
    place = user_place(url)
    kind = _kind(url, place)
    if kind == "folder":
        return Corpus(url, "folder", place)
    if kind == "file":
        return _file(url, place)
    if "{" in url:
        return _pattern(url)
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


def _file(url: str, place: Place) -> Corpus:
    name = place.name.lower()
    if name.endswith(captions.MANIFESTS):
        check_manifest(place)
        return Corpus(url, "manifest", place)
    if name.endswith(".tar"):
        return Corpus(url, "tars", place.parent, (Tar(place, place.name),))
    if name.endswith(captions.COMPRESSED_TARS + captions.COMPRESSED_MANIFESTS):
        raise UserError(f"{url}: compressed. Decompress it, so that it can be read in place")
    if name.endswith(captions.VIDEOS):
        raise UserError(f"{url}: a single video. Put it in a folder and give the folder")
    raise UserError(f"{url}: not a corpus. {_FORMS}")


def _pattern(url: str) -> Corpus:
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
    return Corpus(url, "tars", root, tuple(Tar(place, place.path[start:]) for place in places))


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


def _run(work: _Work, root: Place) -> Iterator[Sample]:
    """The pieces' samples in order; of an object store several pieces are listed ahead."""
    if root.fs is None:
        for piece in work:
            yield from piece()
        return
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="corpus")
    try:
        ahead: deque[Future[Iterator[Sample]]] = deque()
        for piece in work:
            ahead.append(pool.submit(piece))
            if len(ahead) == _AHEAD:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:  # also when the caller stops early
        pool.shutdown(cancel_futures=True)


def _hint(found: Corpus) -> str:
    if found.form == "manifest":
        return "The manifest has no rows"
    kinds = ", ".join(captions.VIDEOS)
    if found.form == "tars":
        return f"Videos in a tar are members that end with {kinds}"
    return f"Looked for {kinds} and .tar, also in its folders; compressed tars are not read"
