"""`harmoview bench add`: videos of any other model into a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from harmoview.bench.add import add_videos
from harmoview.bench.run import open_bench
from jobs.cli import command
from jobs.console.bench import print_listed


@dataclass(frozen=True)
class AddSettings:
    """Copy a folder of videos into a run, each by the case it shows.

    Files are named CASE.mp4 (seed 0) or CASE.sN.mp4; or map.csv in the folder has the columns
    file, case and seed. Files that belong to no case are listed, and nothing is copied then.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run; begun here if need be."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """The videos."""
    method: str
    """The model's name in files and tables: small letters, digits, - and _."""
    suite: str | None = None
    """The suite, where the run is new or the suite has moved."""
    partial: bool = False
    """Copy the others even though some files are unknown."""


def execute(settings: AddSettings) -> int:
    """Copy and list."""
    run = open_bench(settings.run, settings.suite)
    done = add_videos(run, settings.method, settings.folder, partial=settings.partial)
    print_listed("unknown", done.unknown)
    print_listed(f"cases without a video of {settings.method}", done.missing)
    print(f"{len(done.added)} videos added, {len(done.unchanged)} there already")
    if done.unknown and not settings.partial:
        print("nothing was copied: rename the unknown files, or allow them with --partial")
        return 1
    return 0


main = command(__name__, AddSettings, execute)
