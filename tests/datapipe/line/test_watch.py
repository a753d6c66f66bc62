"""A worker whose sample hangs or eats memory ends itself, says why, and leaves a trace."""

import signal
import subprocess
import sys

import pytest

from datapipe.line.worker import SampleBounds

PROGRAM = """
import ctypes, sys, time
from datapipe.line import worker as watch
watch.GRACE = 0.5
def tell(keys, reason):
    print(*keys, reason, flush=True)
def hang():
    time.sleep(60)
def hang_with_the_lock():
    ctypes.PyDLL(None).pause()
def eat():
    eaten = []
    while True:
        eaten.append(b"1" * 2**24)
        time.sleep(0.01)
def nothing():
    pass
guard = watch.Watchdog(watch.SampleBounds(float(sys.argv[3]), float(sys.argv[2])), tell)
for key in ("quick", "slow"):
    with guard.over(key):
        (nothing if key == "quick" else globals()[sys.argv[1]])()
time.sleep(1.5)  # longer than a sample may take: none is at work
"""


def run(what, gigabytes=50, seconds=1):
    command = [sys.executable, "-c", PROGRAM, what, str(gigabytes), str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_hang_ends_the_process_with_the_key_and_what_it_was_doing():
    """By SIGKILL; the samples before it are not blamed."""
    done = run("hang")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "slow timed_out\n"
    assert "in hang" in done.stderr


def test_a_hang_that_holds_pythons_lock_ends_the_process_too():
    """No Python code runs any more, so that nobody is told; the log has the trace."""
    done = run("hang_with_the_lock")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "in hang_with_the_lock" in done.stderr


def test_a_process_that_holds_too_much_ends():
    """Before it takes its neighbours along."""
    done = run("eat", gigabytes=0.3, seconds=50)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "slow out_of_memory\n"


def test_a_process_between_samples_is_left_alone():
    """However long it waits for the next."""
    assert run("nothing").returncode == 0


@pytest.mark.parametrize("name", ["seconds", "gigabytes"])
def test_bounds_must_be_positive(name):
    """Nothing would ever be done within none."""
    with pytest.raises(ValueError, match=name):
        SampleBounds(**{name: 0})
