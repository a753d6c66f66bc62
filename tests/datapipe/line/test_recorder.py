"""A run in which errors are the rule stops and says so."""

import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.drive import ERRORS_SEEN, Recorder
from datapipe.record import Sample, Source
from datapipe.run.tables import Ledger


def feed(recorder, count, every):
    for number in range(count):
        sample = Sample(f"k{number}", Source("x.mp4", ".mp4"))
        broken = number % every == every - 1
        reason = (
            ("error", "exception", "Traceback\nOSError: gone")
            if broken
            else (
                "rejected",
                "no_face",
                "none",
            )
        )
        recorder.add(sample.stop(*reason))


def test_too_many_errors_stop_the_run_with_a_summary(tmp_path):
    """One in four, once fifty samples are seen; what was done is recorded first."""
    recorder = Recorder(Ledger(Folder(tmp_path)), {}, 0)
    told = r"(?s)12 of the last 50 .*12 × OSError: gone.*--retry-errors"
    with pytest.raises(UserError, match=told):
        feed(recorder, 500, 4)
    assert sum(map(len, Ledger(Folder(tmp_path)).recorded_keys())) == ERRORS_SEEN


def test_a_run_that_breaks_after_going_well_stops_soon(tmp_path):
    """The share is that of the last samples, not of all."""
    recorder = Recorder(Ledger(Folder(tmp_path)), {}, 0)
    feed(recorder, 5000, 6000)
    with pytest.raises(UserError, match="of the last 500"):
        feed(recorder, 200, 1)


def test_a_few_errors_stop_nothing(tmp_path):
    """One in five is the bound, and it is not over it."""
    recorder = Recorder(Ledger(Folder(tmp_path)), {}, 0)
    feed(recorder, 500, 5)
    recorder.flush()
    assert recorder.outcomes["error"] == 100
    assert sum(map(len, Ledger(Folder(tmp_path)).recorded_keys())) == 500
