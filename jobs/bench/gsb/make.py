"""`harmoview bench gsb make`: packages of videos for raters, who do not know whose they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from datapipe.concurrent import cores
from datapipe.errors import check_range
from datapipe.files import Folder
from harmoview.bench.gsb.make import StudySettings, make_study
from harmoview.bench.run import open_bench
from jobs.cli import command
from jobs.console.output import progress

Axis = Literal["overall", "identity", "motion", "naturalness", "prompt"]


@dataclass(frozen=True)
class GsbMakeSettings:
    """Write a blind study: one method's videos beside each other method's, cut into sessions.

    Each folder package-ROUND-NN is for one rater: index.html opens from disk. key.json and
    plan.json stay with you. Nobody may get packages of two rounds.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run."""
    base: str
    """The method that is compared with the others."""
    out: str
    """The study's folder."""
    opponents: tuple[str, ...] = ()
    """The others; all of the run by default."""
    raters: int = 3
    """Votes on every pair, each by another person."""
    session: int = 60
    """Most items of a package."""
    axes: tuple[Axis, ...] = ("overall",)
    """What is asked about each pair."""
    codec: Literal["h264", "vp9"] = "h264"
    """vp9 is for browsers without H.264."""
    keep_native: bool = False
    """Keep the videos' own size and rate, which may tell methods apart; plan.json records it."""
    seed: int = 0
    """Sides, order and names are drawn by it."""
    suite: str | None = None
    """The suite, where it has moved."""
    workers: int | None = None
    """Processes that encode; the default is one per CPU."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "raters", least=1, most=26)
        check_range(self, "session", least=5, most=500)
        check_range(self, "workers", least=1)
        if not self.axes or len(set(self.axes)) < len(self.axes):
            raise ValueError(f"--axes must differ and be at least one, not {self.axes}")


def execute(settings: GsbMakeSettings) -> None:
    """Plan, encode, write."""
    run = open_bench(settings.run, settings.suite)
    wanted = StudySettings(
        base=settings.base,
        opponents=settings.opponents,
        raters=settings.raters,
        session=settings.session,
        axes=settings.axes,
        codec=settings.codec,
        keep_native=settings.keep_native,
        seed=settings.seed,
    )
    with progress("videos", quiet=settings.quiet) as show:
        made = make_study(
            run,
            Folder(settings.out),
            wanted,
            settings.workers or cores(),
            lambda done, of: show(Counter(encoded=done), of),
        )
    for opponent, count in made.pairs.items():
        alone = made.alone[opponent]
        without = f", {alone} videos of {settings.base} have no counterpart" if alone else ""
        print(f"{settings.base} against {opponent}: {count} pairs{without}")
    print(f"{len(made.packages)} packages in {settings.out}: {', '.join(made.packages[:6])}"
          f"{' …' if len(made.packages) > 6 else ''}")  # fmt: skip
    print("give each to one rater, nobody packages of two rounds; keep key.json and plan.json")


main = command(__name__, GsbMakeSettings, execute)
