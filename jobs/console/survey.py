"""What a listing shows of a corpus, told while the work begins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from datapipe.corpus.captions import FIELDS
from datapipe.files import Folder
from datapipe.line.drive import Remaining
from datapipe.run.info import FIRST, Survey
from jobs.console.output import plain

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
