"""`harmoview bench make`: a suite of virtual people, of a run's people, or a frame to fill in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from datapipe.errors import UserError, check_range
from datapipe.faces import face_analyzer
from datapipe.files import Folder
from harmoview.bench.frame import make_frame
from harmoview.bench.from_run import RunSuite, make_from_run
from jobs.cli import command
from jobs.console.output import busy


@dataclass(frozen=True)
class BenchMakeSettings:
    """Make a suite: cases to generate videos of, and the people that they show.

    With --virtual, invented people with exact references, and everything sealed and ready. With
    --from RUN, people of a run's packed shards, captions as prompts. With neither, files to fill in
    with people and prompts of one's own; `harmoview bench check` says what they lack.
    """

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")]
    """The folder to make."""
    virtual: bool = False
    """Invent the people."""
    from_: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """A run of `harmoview synthesize` whose packed people become the suite's."""
    cases: int = 12
    """How many cases; from a run at most so many."""
    people: int = 8
    """Virtual: how many people the cases share."""
    seed: int = 0
    """The same seed gives the same suite."""
    distinct: float = 0.5
    """Virtual: largest cosine between the frontal references of two people."""
    frames: int = 33
    """Virtual: frames of each video, at 16 a second."""
    kind: Literal["real", "synthetic"] = "real"
    """From a run: what its people are."""
    licence: str = ""
    """From a run: the licence of its pictures; check wants one."""
    consent: str | None = None
    """From a run: how its people agreed to this use; check wants it for real people."""
    creator: str = ""
    """From a run: who made its pictures."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if self.virtual and self.from_ is not None:
            raise ValueError("--virtual and --from exclude each other")
        check_range(self, "cases", least=1)
        check_range(self, "people", least=2)
        check_range(self, "distinct", above=0, under=1)
        check_range(self, "frames", least=5, most=1025)


def execute(settings: BenchMakeSettings) -> None:
    """Make it, and say what is next."""
    folder = Folder(settings.suite)
    if settings.virtual:
        _virtual(settings, folder)
    elif settings.from_ is not None:
        _from_run(settings, folder, settings.from_)
    else:
        make_frame(folder)
        print(f"{settings.suite}: README.txt there says what to fill in")


def _virtual(settings: BenchMakeSettings, folder: Folder) -> None:
    from harmoview.bench.virtual.make import VirtualSuite, make_virtual

    wanted = VirtualSuite(
        cases=settings.cases,
        people=settings.people,
        seed=settings.seed,
        distinct=settings.distinct,
        frames=settings.frames,
    )
    faces = face_analyzer("light")
    faces.setup()
    with busy("inventing people who can be told apart", quiet=settings.quiet) as status:

        def told(what: str) -> None:
            if update := getattr(status, "update", None):
                update(what)

        sha256 = make_virtual(folder, wanted, faces, told)
    print(f"{settings.suite}: {wanted.cases} cases, {wanted.people} people, suite {sha256[:12]}")


def _from_run(settings: BenchMakeSettings, folder: Folder, run: str) -> None:
    shards = Folder(run).folder("shards")
    if not shards.exists("manifest.json"):
        raise UserError(f"{run} has no packed shards: `harmoview pack {run}` makes them")
    wanted = RunSuite(
        cases=settings.cases,
        seed=settings.seed,
        kind=settings.kind,
        licence=settings.licence,
        creator=settings.creator,
        consent=settings.consent,
    )
    with busy("reading the shards", quiet=settings.quiet):
        made, unfit = make_from_run(folder, shards, wanted)
    print(f"{settings.suite}: {made} cases; {unfit} samples lack a view or a caption of their own")
    print(f"`harmoview bench check {settings.suite}` says what is still missing")


main = command(__name__, BenchMakeSettings, execute)
