"""The main job on a small corpus made on the spot: what `make demo` runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import entry, stats, subjects, synthesize


@dataclass(frozen=True)
class Settings:
    """Make a small corpus of head-turn clips and run the main job on it."""

    out: Path = Path("demo")
    """Folder for the corpus, the run and the pictures."""
    count: int = 6
    """Clips of one person; there is also one of two people, one of nobody and a corrupt file."""


def execute(settings: Settings) -> int:
    """The commands a user would type, one after the other."""
    corpus, run = settings.out / "corpus", settings.out / "run"
    sheet = settings.out / "sheet.jpg"
    made = _step(
        subjects.main,
        "subjects",
        *("--out", corpus, "--count", settings.count, "--two-person", 1, "--faceless", 1),
        *("--seconds", 4, "--size", 512),
    )
    if made:
        return made
    whole = sorted(corpus.glob("*.mp4"))[0].read_bytes()
    (corpus / "corrupt.mp4").write_bytes(whole[: len(whole) // 3])
    done = _step(synthesize.main, "synthesize", corpus, "--out", run)
    done = done or _step(stats.main, "stats", run, "--sheet", sheet)
    if done:
        return done
    print(
        f"\nLook at {sheet}: every view made, green where it was accepted, red with the reason "
        f"where not.\nThe shards are in {run}/shards, the scores in {run}/views.\n"
        "On your own videos:\n\n  .venv/bin/harmoview synthesize YOUR_VIDEOS --out my-run\n"
    )
    return 0


def _step(command: Callable[[Sequence[str]], int], name: str, *arguments: object) -> int:
    words = [str(word) for word in arguments]
    print(f"\n$ harmoview {name} {shlex.join(words)}", flush=True)
    return command(words)


def main(argv: Sequence[str] | None = None) -> int:
    return entry.run(Settings, execute, argv, "demo")


if __name__ == "__main__":
    sys.exit(main())
