"""Progress as lines, and a job's log made of them."""

import io
import subprocess
import sys
import time
from collections import Counter
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from jobs.console.progress import counted, describe, parse
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


END_WHILE_COUNTING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from jobs.console.progress import counted

def listing():
    pool = ThreadPoolExecutor(1)
    while True:
        pool.submit(time.sleep, 0.01).result()
        yield from [1] * int(sys.argv[1])

with counted(listing, quiet=False):
    time.sleep(0.1)
    sys.exit("the user's mistake")
"""


@pytest.mark.parametrize("found", [0, 1])
def test_a_command_that_ends_while_its_corpus_is_counted_says_no_more_than_why(found):
    """Python takes the threads of the listing away under it."""
    command = [sys.executable, "-c", END_WHILE_COUNTING, str(found)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "the user's mistake\n")


def test_the_total_is_told_when_it_is_known_and_nothing_is_counted_in_silence():
    """Until then, and where the corpus cannot be listed, there is none."""

    def broken():
        yield 1
        raise UserError("no such folder")

    asked = []
    with (
        counted(lambda: asked.append(1) or [], quiet=True) as silent,
        counted(broken, quiet=False) as none,
    ):
        with counted(lambda: iter(range(7)), quiet=False) as total:
            while total() is None:
                time.sleep(0.01)
            assert total() == 7
        assert (silent(), none()) == (None, None)
    assert not asked
