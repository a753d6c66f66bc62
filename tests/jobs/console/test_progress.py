"""Progress as lines, and a job's log made of them."""

import io
from collections import Counter
from contextlib import redirect_stdout

from hypothesis import given
from hypothesis import strategies as st

from jobs.console.progress import describe, parse
from jobs.submit import JobLog

COUNTS = st.dictionaries(
    st.sampled_from(["candidate", "error", "left out", "too_small"]), st.integers(1, 10**9)
)


@given(st.sampled_from(["synthesize", "pack"]), COUNTS, st.none() | st.integers(0, 10**9))
def test_a_line_of_progress_says_all(title, counts, total):
    """What a line was made from is read back from it."""
    assert parse(describe(title, Counter(counts), total)) == (title, Counter(counts), total)


@given(st.text())
def test_other_lines_are_no_progress(text):
    """A line that progress did not write is not taken for progress."""
    found = parse(text)
    assert found is None or describe(*found) == text.rstrip("\r")


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=5), st.integers(1, 7))
def test_a_log_told_again_is_written_once(text, breaks, size):
    """However often the connection breaks, each character of the log appears once, in order."""
    log = JobLog()
    with redirect_stdout(io.StringIO()) as written:
        for end in [*breaks, len(text)]:
            log.rewind()
            part = text[:end]
            for start in range(0, len(part), size):
                log.write(part[start : start + size])
        log.close()
    assert written.getvalue() == text
