"""`harmoview subjects`: virtual subjects turning their heads, with the exact pose per frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datapipe.errors import check_range
from datapipe.faces import FACES
from jobs.cli import command

if TYPE_CHECKING:
    from lora_engine.subjects.write import ClipTask


@dataclass(frozen=True)
class SubjectsSettings:
    """Render clips of invented people who turn their heads from profile to profile.

    Each clip is an H.264 .mp4 with its caption in a .txt and the truth in a .json: yaw, pitch and
    roll of every frame, the pixels of eyes, nose tip and mouth corners, and the face's box. Run
    again, it makes only the clips that are missing.
    """

    out: str
    """The folder for the clips; local or on an object store."""
    count: int
    """Clips of one person, each another person: subject-000000.mp4 and so on."""
    two_person: int = 0
    """Extra clips of two people side by side, who appear in no other clip: pair-000000.mp4."""
    faceless: int = 0
    """Extra clips of a place without people: empty-000000.mp4."""
    seed: int = 0
    """The same seed gives the same people and the same bytes."""
    distinct: float | None = None
    """Draw the people until no two have a larger cosine by --faces; .5 tells all of them apart.
    They vary more than without: features, brows, beards, age, glasses."""
    faces: FACES = "light"
    """The recogniser that --distinct asks."""
    seconds: float = 4.0
    """Length of each clip."""
    fps: int = 24
    """Frames a second."""
    size: int = 512
    """Height in pixels, even; clips of one person are square."""
    workers: int | None = None
    """Processes that render; the default is one per CPU."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "count", "two_person", "faceless", least=0)
        check_range(self, "workers", least=1)
        check_range(self, "size", least=64, most=2048)
        check_range(self, "fps", least=1, most=120)
        check_range(self, "seconds", least=0.5, most=600)
        check_range(self, "distinct", above=0, under=1)
        if self.count + self.two_person + self.faceless == 0:
            raise ValueError("nothing to make: --count, --two-person and --faceless are all 0")
        if self.size % 2:
            raise ValueError(f"--size must be even, not {self.size}")


def execute(settings: SubjectsSettings) -> None:
    """Make the missing clips in several processes."""
    from datapipe.concurrent import cores
    from datapipe.files import Folder
    from datapipe.models import model_path
    from jobs.console.output import progress
    from lora_engine.subjects.clip import ClipFormat
    from lora_engine.subjects.write import missing, tasks, write_clips

    for name in ("mpfb2", "face-landmarker", "portraits", "yunet", "3ddfa", "sface"):
        model_path(name)  # says what is missing before any worker starts
    wanted = tasks(settings.count, settings.two_person, settings.faceless, settings.seed)
    todo = missing(Folder(settings.out), wanted)
    if todo and settings.distinct is not None:
        chosen = {task.name: task for task in _told_apart(settings, wanted)}
        todo = [chosen[task.name] for task in todo]
    kind = ClipFormat(settings.seconds, settings.fps, settings.size)
    counts = Counter({"there before": len(wanted) - len(todo)})
    with progress("clips", quiet=settings.quiet) as show:
        show(counts, len(wanted))
        for _ in write_clips(settings.out, todo, kind, settings.workers or cores()):
            counts["made"] += 1
            show(counts, len(wanted))
    there = f", {counts['there before']} there before" if counts["there before"] else ""
    print(f"{counts['made']} clips made{there}: {settings.out}")


def _told_apart(settings: SubjectsSettings, wanted: Sequence[ClipTask]) -> list[ClipTask]:
    from datapipe.faces import face_analyzer
    from jobs.console.output import progress
    from lora_engine.subjects.write import apart

    faces = face_analyzer(settings.faces)
    faces.setup()
    with progress("people", quiet=settings.quiet) as show:

        def told(draws: int) -> None:
            show(Counter(drawn=draws), None)

        return apart(wanted, faces, settings.seed, settings.distinct or 0.5, told)


main = command(__name__, SubjectsSettings, execute)
