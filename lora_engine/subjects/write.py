"""Writing many clips on all cores; a clip that is already there is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from datapipe.concurrent import in_processes
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder
from lora_engine.subjects.clip import ClipFormat, as_json, empty_clip, portrait_clip
from lora_engine.subjects.distinct import distinct_people
from lora_engine.subjects.gallery import Gallery


@dataclass(frozen=True)
class ClipTask:
    """One clip to be made: its name, who is in it, and its seed."""

    name: str
    people: tuple[str, ...]
    seed: int
    chosen: tuple[int, ...] = ()
    """Seeds of the people, where they were drawn to be told apart."""


def tasks(count: int, pairs: int, empty: int, seed: int) -> list[ClipTask]:
    """List all clips; the people of two-person clips appear in no other clip."""
    named: list[tuple[str, tuple[str, ...]]] = []
    for name in (f"subject-{index:06d}" for index in range(count)):
        named.append((name, (name,)))
    for name in (f"pair-{index:06d}" for index in range(pairs)):
        named.append((name, (f"{name}-left", f"{name}-right")))
    named += [(f"empty-{index:06d}", ()) for index in range(empty)]
    return [ClipTask(name, people, _seed(seed, name)) for name, people in named]


def apart(
    wanted: Sequence[ClipTask],
    faces: FaceAnalyzer,
    seed: int,
    most: float,
    told: Callable[[int], None] = lambda draws: None,
) -> list[ClipTask]:
    """The same clips with people of whom no two have a cosine over `most`.

    `faces` is set up; `told` hears how many people were drawn. Raises UserError where so many
    people cannot be told apart.
    """
    drawn = distinct_people(_gallery(), faces, seed, most, told)
    return [replace(task, chosen=tuple(next(drawn).seed for _ in task.people)) for task in wanted]


def missing(folder: Folder, wanted: Sequence[ClipTask]) -> list[ClipTask]:
    """List the clips that are not there yet; the video, written last, stands for all files."""
    there = set(folder.names("*.mp4"))
    return [task for task in wanted if f"{task.name}.mp4" not in there]


def write_clips(
    out: str, todo: Sequence[ClipTask], kind: ClipFormat, workers: int
) -> Iterator[str]:
    """Make the clips, and yield the name of each when it is written.

    One worker works in this process. Raises UserError where a data file is missing or a worker
    process was killed.
    """
    start = partial(partial, write_clip, out, kind)
    yield from in_processes(start, todo, min(workers, len(todo)), ahead=len(todo))


def write_clip(out: str, kind: ClipFormat, task: ClipTask) -> str:
    """Make one clip with its caption and truth; the same task gives the same bytes."""
    if task.people:
        clip = portrait_clip(_gallery(), task.people, kind, task.seed, task.chosen)
    else:
        clip = empty_clip(kind, task.seed)
    folder = Folder(out)
    folder.put(f"{task.name}.json", as_json(clip.truth).encode())
    folder.put(f"{task.name}.txt", clip.caption.encode())
    folder.put(f"{task.name}.mp4", clip.video)
    return task.name


@cache
def _gallery() -> Gallery:
    return Gallery()


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()) >> 1
