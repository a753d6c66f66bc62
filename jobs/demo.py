"""The main job on a small corpus made on the spot: what `make demo` runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datapipe.files import Folder
from dataset.inspect.stats import stats_of
from dataset.judged import judged_run
from dataset.run import run_rules
from jobs import demo_training, stats, subjects, synthesize
from jobs.cli import command
from jobs.demo_training import step

BLUR = 0.005
"""Sigma that blurs the soft clip, as a share of its height: sharp enough for a reference, too soft
for most views."""


@dataclass(frozen=True)
class DemoSettings:
    """Make a small corpus of head-turn clips, run the main job on it, and train on the shards.

    Besides the clips of one person there are one of two people, one of nobody, one out of focus and
    a file that is cut off.
    """

    out: Path = Path("demo")
    """Folder for the corpus, the run and the pictures."""
    count: int = 6
    """Clips of one person."""


def execute(settings: DemoSettings) -> int:
    """Run the commands that a user would type, one after the other."""
    corpus, run = settings.out / "corpus", settings.out / "run"
    sheet, report = settings.out / "sheet.jpg", settings.out / "report.html"
    made = step(
        subjects.main,
        "subjects",
        *("--out", corpus, "--count", settings.count, "--two-person", 1, "--faceless", 1),
        *("--seconds", 3, "--fps", 16, "--size", 448),
    )
    if made:
        return made
    first, second, *_ = sorted(corpus.glob("subject-*.mp4"))
    (corpus / "corrupt.mp4").write_bytes(first.read_bytes()[:60_000])
    soft_copy(second, corpus / "out-of-focus.mp4")
    done = step(synthesize.main, "synthesize", corpus, "--out", run)
    if done:
        return done
    folder = Folder(run)
    rules = run_rules(folder, None)
    stats.write_sheet(folder, rules, sheet, samples=24)
    with judged_run(folder, rules) as judged:
        stats.write_report(judged, stats_of(judged), report)
    trained = demo_training.main([str(run / "shards"), "--out", str(settings.out / "training")])
    if trained:
        return trained
    print(
        f"\nLook at {sheet}: every view made, green where it was accepted, red with the reason "
        "where not.\nRed with `pose` at ±60 is mostly the estimator: 3DDFA reads rendered heads "
        "some 5 degrees\ntoo wide there, single ones 10, which is what the rules allow "
        f"(docs/filters.md).\nOpen {report} in a browser: the run in figures, with thresholds to "
        "move.\n"
        f"The shards are in {run}/shards, the scores in {run}/views.\n"
        "On your own videos:\n\n  .venv/bin/harmoview synthesize YOUR_VIDEOS --out my-run\n"
    )
    return 0


def soft_copy(clip: Path, out: Path) -> None:
    """Write the clip as a camera out of focus would have taken it."""
    import av
    import cv2

    from lora_engine.subjects.clip import encode

    with av.open(str(clip)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        fps = round(stream.average_rate)
    height, width = frames[0].shape[:2]
    blurred = (cv2.GaussianBlur(frame, (0, 0), BLUR * height) for frame in frames)
    out.write_bytes(encode(blurred, (width, height), fps))


main = command(__name__, DemoSettings, execute)
