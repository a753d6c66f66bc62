"""`harmoview profile`: where the time of a few samples goes, and what bounds the line."""

from __future__ import annotations

import cProfile
import math
import pstats
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datapipe.errors import UserError, check_range
from jobs.cli import command
from jobs.options.line import FLAT, LineSettings

if TYPE_CHECKING:
    from rich.table import Table

    from datapipe.line.profile import Profile
    from datapipe.record import Sample
    from datapipe.stage import Stage

FUNCTIONS = 8
"""Functions that are shown; the file has all."""
COMPUTING = 0.7
"""Share of the time below which it is worth a word that so little was spent computing."""


@dataclass(frozen=True)
class ProfileSettings:
    """Take a few samples through the line in this process, three times: to warm up, against the
    clock, and under Python's profiler. Tells seconds by stage, the costly functions, and which
    stage bounds the line on this machine or on a cluster of --cpus and --gpus.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """As for `harmoview synthesize`."""
    out: Path
    """Folder for the profiler's file, functions.pstats: for `python -m pstats` or snakeviz."""
    limit: int = 8
    """Only the first so many videos of the corpus."""
    cpus: float | None = None
    """CPUs of the cluster to reckon with; the default is what this machine has."""
    gpus: float | None = None
    """GPUs of the cluster to reckon with; the default is one, where the line needs any."""
    line: Annotated[LineSettings, FLAT] = field(default_factory=LineSettings)
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        check_range(self, "limit", least=1)
        check_range(self, "cpus", "gpus", above=0, under=math.inf)


def execute(settings: ProfileSettings) -> None:
    """Measure, print, write the file. Raises UserError."""
    from datapipe.concurrent import cores
    from datapipe.corpus import corpus as listed
    from datapipe.files import Folder
    from datapipe.line.profile import bottlenecks, needs_gpu, sentence
    from jobs.options.line import build

    corpus = Folder(settings.corpus).url
    samples = list(islice(listed(corpus, settings.line.caption_field), settings.limit))
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UserError(f"cannot write to --out {settings.out}: {wrong}") from wrong
    with tempfile.TemporaryDirectory() as scratch:
        stages, _ = build(settings.line, corpus, Folder(scratch))
        gpus = settings.gpus or float(needs_gpu(stages))
        begin = time.monotonic()
        for stage in stages:
            stage.setup()
        loaded = time.monotonic() - begin
        profile, functions = _passes(stages, samples, Path(scratch), quiet=settings.quiet)
    cpus = settings.cpus or float(cores())
    found = bottlenecks(profile, stages, cpus, gpus)
    functions.dump_stats(settings.out / "functions.pstats")
    reached = {name for name, taken in profile.taken.items() if taken.samples}
    missed = [stage.name for stage in stages if stage.name not in reached]
    bound = (
        f"No video came as far as {' and '.join(missed)}, which leaves open what bounds the line: "
        "raise --limit, or profile other videos."
        if missed
        else sentence(found)
    )
    _show(profile, bound, functions, loaded)
    print(f"\nAll functions: python -m pstats {settings.out / 'functions.pstats'}")


def _passes(
    stages: Sequence[Stage], samples: Sequence[Sample], scratch: Path, *, quiet: bool
) -> tuple[Profile, pstats.Stats]:
    """What the clock says, and the profiler; in passes of their own, since a profiler makes Python
    code look slower.
    """
    from datapipe.line.profile import Profile, passed_through
    from jobs.console.output import progress

    profile, profiler = Profile(), cProfile.Profile()
    done: Counter[str] = Counter()
    with progress("profile", quiet=quiet) as show:

        def tell(name: str) -> None:
            done[name] += 1
            show(done, None)

        for sample in passed_through(stages, samples, Profile()):
            tell("to warm up")
            if sample.outcome == "candidate":  # it has been in every stage
                break
        _delete_candidates(scratch)
        for _ in passed_through(stages, samples, profile):
            tell("timed")
        _delete_candidates(scratch)
        with profiler:
            for _ in passed_through(stages, samples, Profile()):
                tell("profiled")
    return profile, pstats.Stats(profiler)


def _delete_candidates(scratch: Path) -> None:
    """So that the next pass does not find them."""
    shutil.rmtree(scratch / "candidates", ignore_errors=True)


def _show(profile: Profile, bound: str, functions: pstats.Stats, loaded: float) -> None:
    from jobs.console.output import screen

    console = screen()
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(profile.outcomes.items()))
    console.print(f"{profile.samples} samples ({outcomes}); models loaded in {loaded:.1f} s.")
    console.print(_stages(profile))
    console.print(_functions(functions))
    console.print(bound, soft_wrap=True)
    wall = sum(taken.wall for taken in profile.taken.values())
    worked = sum(taken.cpu + taken.gpu for taken in profile.taken.values())
    if worked < COMPUTING * wall:
        console.print(
            f"The samples took {wall:.1f} s, of which this process computed {worked:.1f} s: the "
            "rest it waited, for storage or because other programs kept the machine busy.",
            soft_wrap=True,
        )


def _stages(profile: Profile) -> Table:
    from jobs.console.output import new_table

    on_gpu = any(taken.gpu for taken in profile.taken.values())
    gpu = ["GPU s"] if on_gpu else []
    table = new_table("Seconds by stage", "stage", "samples", "s a sample", "CPU s", *gpu, "share")
    whole = sum(taken.wall for taken in profile.taken.values())
    for stage, taken in profile.taken.items():
        times = (taken.wall, taken.cpu, *([taken.gpu] if on_gpu else []))
        means = (f"{seconds / max(1, taken.samples):.3f}" for seconds in times)
        table.add_row(stage, f"{taken.samples:,}", *means, f"{taken.wall / whole:.0%}")
    return table


def _functions(functions: pstats.Stats) -> Table:
    """The functions with the most seconds of their own."""
    from jobs.console.output import new_table, text

    table = new_table("Functions, by their own seconds", "function", "calls", "own s", "with calls")
    rows = functions.stats.items()  # type: ignore[attr-defined]  # which its stubs leave out
    for (file, line, name), (_, calls, own, whole, _) in sorted(rows, key=lambda r: -r[1][2])[
        :FUNCTIONS
    ]:
        place = "" if file == "~" else f"{_short(file)}:{line} "
        table.add_row(text(place + name), f"{calls:,}", f"{own:.2f}", f"{whole:.2f}")
    return table


def _short(file: str) -> str:
    """A module's place below the folder of packages."""
    parts = Path(file).parts
    after = parts.index("site-packages") + 1 if "site-packages" in parts else -2
    return str(Path(*parts[after:]))


main = command(__name__, ProfileSettings, execute, first=("limit", "engine", "base", "lora"))
