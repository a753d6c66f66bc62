"""`harmoview subjects`: virtual subjects turning their heads, with the exact pose per frame."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cli import command


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
    seconds: float = 4.0
    """Length of each clip."""
    fps: int = 24
    """Frames per second."""
    size: int = 512
    """Height in pixels; clips of one person are square."""
    workers: int | None = None
    """Processes; the default is one per CPU."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        for name in ("count", "two_person", "faceless"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} must not be negative")
        if self.count + self.two_person + self.faceless == 0:
            raise ValueError("nothing to make: --count, --two-person and --faceless are all 0")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers}")
        if self.size % 2 or not 64 <= self.size <= 2048:
            raise ValueError(f"--size must be even and within 64 and 2048, not {self.size}")
        if not 1 <= self.fps <= 120:
            raise ValueError(f"--fps must be within 1 and 120, not {self.fps}")
        if not 0.5 <= self.seconds <= 600:
            raise ValueError(f"--seconds must be within 0.5 and 600, not {self.seconds}")


def execute(settings: SubjectsSettings) -> None:
    """Make the missing clips on all cores."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from datapipe.concurrent import cores
    from datapipe.files import Folder
    from datapipe.models import model_path
    from lora_engine.subjects.clip import ClipFormat
    from lora_engine.subjects.write import missing, tasks, write_clips

    for name in ("mpfb2", "face-landmarker", "portraits", "yunet", "3ddfa", "sface"):
        model_path(name)  # says what is missing before any worker starts
    wanted = tasks(settings.count, settings.two_person, settings.faceless, settings.seed)
    todo = missing(Folder(settings.out), wanted)
    kind = ClipFormat(settings.seconds, settings.fps, settings.size)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=settings.quiet) as bar:
        task = bar.add_task("clips", total=len(wanted), completed=len(wanted) - len(todo))
        for _ in write_clips(settings.out, todo, kind, settings.workers or cores()):
            bar.advance(task)
    kept = len(wanted) - len(todo)
    print(f"{len(todo)} clips made, {kept} kept from before: {settings.out}")


main = command(__name__, SubjectsSettings, execute)
