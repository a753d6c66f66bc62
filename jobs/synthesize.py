"""`harmoview synthesize`: the main job, from a video corpus to seven-view WebDataset shards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from datapipe.claim import locked
from datapipe.corpus.captions import FIELDS
from datapipe.errors import check_range
from datapipe.files import Folder
from datapipe.line.drive import Remaining, drive, recorder
from datapipe.run.info import FIRST, Survey, check_run, open_run
from dataset.inspect.stats import run_stats
from dataset.pack.pack import ShardLimits, pack
from dataset.run import Run, rules_for
from filters.rules import Rules
from jobs.arguments import arguments, values
from jobs.arguments import build as settings_of
from jobs.cli import command
from jobs.console.output import busy, plain, progress
from jobs.console.stats import print_packed, print_stats
from jobs.options.line import (
    FLAT,
    ClusterSettings,
    LineSettings,
    aesthetic,
    build,
    run_folder,
    start,
)
from jobs.settings_file import options_of, words_of


@dataclass(frozen=True)
class SynthesizeSettings:
    """Cut references from a video corpus, synthesise their views, score them, write shards.

    Run it again on the same --out to continue a run that was stopped.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """A folder of videos, tars of videos (path, folder or brace pattern), or a .parquet, .jsonl
    or .csv manifest; local or on an object store (s3://, gs://)."""
    out: str
    """The run folder."""
    line: Annotated[LineSettings, FLAT] = field(default_factory=LineSettings)
    cluster: Annotated[ClusterSettings, FLAT] = field(default_factory=ClusterSettings)
    limit: int | None = None
    """Only the first so many videos of the corpus."""
    retry_errors: bool = False
    """Do the samples again that ended in an error before."""
    rules: str | None = None
    """Rules file for the shards; the default rules come with the package."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        check_range(self, "limit", least=1)


def execute(settings: SynthesizeSettings) -> None:
    """Run the line over what is left to do, then pack and show the statistics."""
    run, corpus = run_folder(settings.out, settings.corpus)
    with locked(run):
        stages, wanted = build(settings.line, corpus, run, settings.rules)
        wanted = replace(wanted, options=options_of(settings))
        info = check_run(run, wanted)
        rules = rules_for(info, settings.rules)  # a mistake in them is told before the work
        into = recorder(run, info, retry_errors=settings.retry_errors)
        remaining = Remaining(
            corpus,
            run.url,
            into.ledger.segments,
            settings.limit,
            caption_field=settings.line.caption_field,
        )
        with (
            surveyed(remaining, run) as total,
            progress("synthesize", quiet=settings.quiet) as show,
        ):
            line = start(settings.cluster, stages, run.url)
            open_run(run, wanted)  # not before: what fails until here binds no folder
            if not settings.quiet:
                print(aesthetic(settings.line.score)[1])
            drive(line, remaining, into, lambda counts: show(counts, total()))
    _pack(run, rules, quiet=settings.quiet)
    if not settings.quiet and (share := line.gpu_share()) is not None:
        print(f"GPUs were at work in {share:.0%} of the time that workers held them.")


def synthesize(corpus: str | Path, out: str | Path, **options: Any) -> Run:
    """What `harmoview synthesize` does, from Python; the finished run.

    `options` are the command's by their long names with _ for -, such as `limit=100`, `local=True`,
    `yaws=(-30, 0, 30)`; options with dots go in nested mappings: `prepare={"min_frames": 12}`.
    Progress and tables are shown only with `quiet=False`; what a user should know of the corpus is
    told on stderr in any case. Raises ValueError for options that do not exist or do not fit, and
    UserError as the command tells it.
    """
    known = arguments(SynthesizeSettings)
    given = words_of({"quiet": True, **options, "corpus": str(corpus), "out": str(out)}, known)
    execute(settings_of(SynthesizeSettings, values(given, known), known))
    return Run(out)


def _pack(run: Folder, rules: Rules, *, quiet: bool) -> None:
    """As `harmoview pack` and `harmoview stats` would with their defaults."""
    out = run.folder("shards")
    with locked(out), progress("pack", quiet=quiet) as show:
        manifest = pack(run, out, rules, ShardLimits(), show)
    if not quiet:
        print_packed(manifest, out.url)
        with busy("judging the scores", quiet=quiet):
            stats = run_stats(run, rules)
        print_stats(stats)


main = command(__name__, SynthesizeSettings, execute, first=("engine", "limit", "rules", "local"))


Total = Callable[[], int | None]
"""How many samples there are; None while they are counted."""


@contextmanager
def surveyed(remaining: Remaining, run: Folder) -> Iterator[Total]:
    """Lists the corpus in the background, so that the work need not wait for the total.

    The block begins when the listing has shown enough to know that there are videos and whether
    they have captions; what a user should know of them, and of what is passed over, is told on
    stderr. The listing is waited for at the end of the block, and then recorded with the run.

    Raises UserError where the corpus cannot be listed or holds no video; what goes wrong later is
    told by the work itself.
    """
    survey, left, total = Survey(), 0, None
    shown, over, failures = threading.Event(), threading.Event(), list[Exception]()

    def look() -> None:
        nonlocal left, total
        try:
            for is_left in remaining.surveyed(survey):
                left += is_left
                if survey.videos >= FIRST:
                    shown.set()
                if over.is_set():
                    return
            total = left
            survey.save(run)
        except Exception as failure:  # noqa: BLE001 - raised where the thread is waited for
            failures.append(failure)
        finally:
            shown.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    shown.wait()
    if failures:
        raise failures[0]
    told_all = survey.complete
    _tell_captions(survey)
    _tell_passed_over(survey)
    try:
        yield lambda: total
        thread.join()
    finally:
        over.set()
    if not told_all:
        _tell_passed_over(survey)


def _tell_captions(survey: Survey) -> None:
    if 2 * survey.empty > survey.looked_at:
        why = f" ({plain(survey.problem)})" if survey.problem else ""
        fields = ", ".join(FIELDS)
        print(
            f"no caption: {survey.empty:,} of the first {survey.looked_at:,} videos{why}. Captions "
            f"are read from x.txt, x.json and tables, there from {fields} or --caption-field; "
            "docs/corpus.md tells more",
            file=sys.stderr,
        )


def _tell_passed_over(survey: Survey) -> None:
    if survey.passed_over:
        so_far = "" if survey.complete else " so far"
        print(f"passed over{so_far}: {survey.passed_over}", file=sys.stderr)
