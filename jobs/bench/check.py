"""`harmoview bench check`: everything that is wrong with a suite, by name."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from datapipe.errors import UserError
from datapipe.faces import FACES, face_analyzer
from datapipe.files import Folder
from harmoview.bench.check import check
from harmoview.bench.suite import seal
from jobs.cli import command
from jobs.console.output import busy


@dataclass(frozen=True)
class CheckSettings:
    """List what is wrong with a suite; exit status 1 where something keeps it from being used.

    Looks at every picture: face, yaw, likeness to the person's reference, and to the other person
    of a case.
    """

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")]
    """The suite's folder."""
    seal: bool = False
    """Where there are no errors, write the hashes of pictures and suite: it can be used then."""
    faces: FACES = "light"
    """Which face models look."""
    faces_folder: Path | None = None
    """buffalo_l's model pack; the default is ~/.insightface/models/buffalo_l."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where buffalo_l runs."""
    json: bool = False
    """Print the list as JSON."""
    quiet: bool = False
    """Show no progress."""


def execute(settings: CheckSettings) -> int:
    """Look, list, seal. Raises UserError for a suite that has no head to seal."""
    faces = face_analyzer(settings.faces, device=settings.device, folder=settings.faces_folder)
    faces.setup()
    folder = Folder(settings.suite)
    with busy("looking at the pictures", quiet=settings.quiet):
        problems = check(folder, faces)
    if settings.seal:  # that it is not sealed, or was changed, is what sealing mends
        problems = [p for p in problems if "sealed" not in p.what and "sealing" not in p.what]
    errors = sum(problem.level == "error" for problem in problems)
    if settings.json:
        print(json.dumps([asdict(problem) for problem in problems], indent=1))
    else:
        from jobs.console.bench import print_problems

        print_problems(problems)
    if errors:
        return 1
    if settings.seal:
        try:
            print(f"sealed: suite {seal(folder)[:12]}")
        except FileNotFoundError as gone:
            raise UserError(f"{settings.suite}: {gone}") from gone
    return 0


main = command(__name__, CheckSettings, execute)
