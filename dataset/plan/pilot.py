"""The videos of a pilot: drawn uniformly over a whole listing, and kept with the run."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.drive import Remaining
from datapipe.record import Sample, Source, Stopped
from datapipe.stage import Stage

FORMAT = 2
NAME = "pilot/pilot.json"
TOLD_EVERY = 10_000


@dataclass(frozen=True)
class Pilot:
    """What was listed, and what was drawn from it."""

    seed: int
    videos: int
    """In the whole listing."""
    samples: tuple[Sample, ...]
    """Those with the smallest hashes, in their order: a smaller pilot is the beginning of it."""

    @property
    def keys(self) -> list[str]:
        return [sample.key for sample in self.samples]

    def first(self, samples: int) -> Pilot:
        return replace(self, samples=self.samples[:samples])


def draw(listing: Iterable[Sample], samples: int, seed: int, show: Callable[[int], None]) -> Pilot:
    """The `samples` keys with the smallest hash, which is a uniform draw without replacement.

    It depends on the keys and the seed alone, not on the order of the listing, and holds no more
    than it returns. `show` is told now and then how many videos were listed.
    """
    chosen: list[tuple[int, str, Sample]] = []
    videos = 0
    for sample in listing:
        videos += 1
        entry = (-_hash(seed, sample.key), sample.key, sample)
        if len(chosen) < samples:
            heapq.heappush(chosen, entry)
        elif entry[0] > chosen[0][0]:
            heapq.heapreplace(chosen, entry)
        if videos % TOLD_EVERY == 0:
            show(videos)
    show(videos)
    return Pilot(seed, videos, tuple(entry[-1] for entry in sorted(chosen, reverse=True)))


def _hash(seed: int, key: str) -> int:
    digest = hashlib.blake2b(f"pilot/{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def save_pilot(run: Folder, pilot: Pilot) -> None:
    """Beside the run's tables, so that the corpus need not be listed again."""
    rows = [
        {
            "key": sample.key,
            "caption": sample.caption,
            "captions": sample.captions,
            "caption_problem": sample.caption_problem,
            "source": asdict(sample.source),
            "stopped": sample.stopped and asdict(sample.stopped),
        }
        for sample in pilot.samples
    ]
    data = {"format": FORMAT, "seed": pilot.seed, "videos": pilot.videos, "samples": rows}
    run.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def load_pilot(run: Folder, samples: int, seed: int) -> Pilot | None:
    """The pilot of that seed and size; None where the corpus has to be listed for it.

    Raises UserError when pilot.json is damaged.
    """
    if not run.exists(NAME):
        return None
    try:
        data = json.loads(run.read(NAME))
        found = Pilot(data["seed"], data["videos"], tuple(map(_sample, data["samples"])))
        known = data["format"] == FORMAT and found.seed == seed
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(
            f"{run.path(NAME)} is damaged: {wrong!r}; delete it, and the corpus is listed again"
        ) from wrong
    enough = len(found.samples) >= min(samples, found.videos)
    return found.first(samples) if known and enough else None


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        key=row["key"],
        source=Source(**row["source"]),
        caption=row["caption"],
        captions=tuple(row["captions"]),
        caption_problem=row["caption_problem"],
        stopped=row["stopped"] and Stopped(**row["stopped"]),
    )


@dataclass(frozen=True)
class PilotRemaining(Remaining):
    """What is left to do of a pilot."""

    chosen: tuple[Sample, ...] = ()
    """What there is instead of the corpus."""

    def listed(self, captioned: Callable[[str], bool]) -> Iterator[Sample]:
        return iter(self.chosen)


class TimedStage:
    """A stage that notes which samples tell nothing of its pace.

    The first of each worker pays for compiled code and cold caches, and one whose candidate was
    stored before a driver was killed costs nothing.
    """

    def __init__(self, stage: Stage, run: Folder) -> None:
        self.stage, self.run = stage, run
        self.name = stage.name
        self.resources = replace(stage.resources, threads=1)
        """One sample at a time, or it would count the others' time on the GPU as its own."""
        self._begun = False

    def setup(self) -> None:
        self.stage.setup()

    def __call__(self, sample: Sample) -> Sample:
        if not self._begun:
            self._note(sample)
        self._begun = True
        done = self.stage(sample)
        stored = {"prepare": done.candidate, "synthesize": sample.candidate}
        if stored.get(self.name):
            self._note(sample)
        return done

    def _note(self, sample: Sample) -> None:
        self.run.put(f"pilot/untimed/{self.name}/{sample.key}", b"")


def untimed(run: Folder, stage: str) -> frozenset[str]:
    """The keys that `TimedStage` noted."""
    names = run.names(f"pilot/untimed/{stage}/*")
    return frozenset(name.rsplit("/", 1)[1] for name in names)
