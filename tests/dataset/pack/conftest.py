"""The run that tests of pack start from."""

import pytest

from tests.datapipe.runs import TinyRun, good
from tests.dataset.pack.packs import BAD


@pytest.fixture
def tiny(tmp_path):
    """Seven samples out of order: whole, partly bad, wholly bad, two people, not candidates."""
    run = TinyRun(tmp_path)
    run.add("walk-b", [{-90: good(-90, sharpness=0.0), 90: good(90, detected=False)}])
    run.add("walk-a", [{}, {30: good(30, measured_yaw=55.0)}], caption="zwei Köpfe")
    run.reject("noface")
    run.add("walk-e", caption="")
    run.add("walk-c", [BAD])
    run.reject("broken", "error", "exception")
    run.add("walk-d", [BAD, {}])
    return run
