"""The benchmark on virtual people: what `make bench-demo` runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harmoview.bench.virtual.methods import DEFECTS
from jobs.bench import check, compare, generate, make, report, score, table
from jobs.cli import command
from jobs.demo_training import step


@dataclass(frozen=True)
class BenchDemoSettings:
    """Make a suite of virtual people, render it by methods with known defects, measure, compare.

    Ends with the tables and the report. Run again, it goes on where it was.
    """

    out: Path = Path("bench-demo")
    """Folder for the suite, the run and the report."""
    cases: int = 4
    """Every third has two people."""
    people: int = 4
    """How many people the cases share."""
    frames: int = 25
    """Of each video."""


def execute(settings: BenchDemoSettings) -> int:
    """Run the commands that a user would type, one after the other."""
    suite, run, html = (settings.out / name for name in ("suite", "run", "report"))
    made = 0 if (suite / "suite.json").exists() else step(
        make.main,
        "bench make",
        *(suite, "--virtual", "--cases", settings.cases, "--people", settings.people),
        *("--frames", settings.frames),
    )  # fmt: skip
    if made:
        return made
    run.mkdir(parents=True, exist_ok=True)
    (run / "methods.toml").write_text(_labels())
    for action, name, arguments in (
        (check.main, "bench check", [suite]),
        (generate.main, "bench generate", [suite, "--run", run, "--method", "all"]),
        (score.main, "bench score", [run, "--metrics", "hv", "opens2v_amp"]),
        (table.main, "bench table", [run]),
        (compare.main, "bench compare", [run, "truth", "cardboard"]),
        (report.main, "bench report", [run, "--html", html]),
    ):
        if status := step(action, name, *arguments):
            return status
    print(
        f"\nOpen {html}/index.html in a browser: every case, all methods side by side.\n"
        "`truth` is the suite's own people, the others have one defect each. See in the tables how "
        "the\nfrontal reference likes cardboard better than truth, and which columns see through "
        "it.\nOn your own model:\n\n"
        "  .venv/bin/harmoview bench add RUN --method NAME FOLDER_OF_VIDEOS --suite SUITE\n"
    )
    return 0


def _labels() -> str:
    """methods.toml: each method with its defect, truth first."""
    return "".join(
        f'[{name}]\nlabel = "{name}"\ngroup = "{"" if name == "truth" else "known defects"}"\n'
        for name in DEFECTS
    )


main = command(__name__, BenchDemoSettings, execute)
