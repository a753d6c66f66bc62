"""Progress as lines, and a job's log made of them."""

import io
from collections import Counter
from contextlib import redirect_stdout

from hypothesis import given
from hypothesis import strategies as st

from jobs.console import output
from jobs.console.output import describe, parse
from jobs.submit import JobLog
from training.options import stage

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


def test_a_log_is_told_of_a_training_each_half_minute(capsys, monkeypatch):
    """Without a terminal, a line says the step, the words about it, its seconds and what is left;
    not at every step, but at the last; none where it is to be quiet."""
    for quiet, seconds, steps in [(False, 0.0, [5, 6, 7]), (False, 30.0, [7]), (True, 0.0, [])]:
        monkeypatch.setattr(output, "STEP_SECONDS", seconds)
        with output.steps("train", quiet=quiet) as told:
            for done in (5, 6, 7):
                told(done, 7, "loss 0.5")
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(", ")[0] for line in lines] == [f"[train] step {n} of 7" for n in steps]
        assert all("loss 0.5" in line and "s a step" in line for line in lines)


def test_a_log_names_the_stages_of_a_training(capsys):
    """A line for each as it begins, while its steps are shown; quiet tells none."""
    for quiet in (False, True):
        with output.steps("train", quiet=quiet):
            stage("loading the model")
        stage("nobody is shown this")
        assert capsys.readouterr().err == "[train] loading the model\n" * (not quiet)
