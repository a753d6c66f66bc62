"""Work beside the caller: in order, only so far ahead, and nothing fails in silence."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.concurrent import in_processes, read_ahead
from datapipe.errors import UserError


@given(count=st.integers(0, 30), threads=st.integers(1, 4), ahead=st.integers(1, 9))
def test_every_item_comes_in_order_with_its_result(count, threads, ahead):
    """However many threads there are."""
    found = [(item, made.result()) for item, made in read_ahead(str, range(count), threads, ahead)]
    assert found == [(item, str(item)) for item in range(count)]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_item_is_taken_further_ahead(ahead):
    """Of an endless listing only as much is taken as is asked for."""
    taken = []
    items = (taken.append(item) or item for item in range(100))
    for item, _ in read_ahead(str, items, 1, ahead):
        assert len(taken) <= item + 1 + ahead
        if item == 5:
            break


def test_an_item_that_fails_does_not_hide_those_after_it():
    """The caller decides whether to go on."""
    failed = [
        item for item, made in read_ahead(lambda x: 1 / (x - 1), range(4), 2) if made.exception()
    ]
    assert failed == [1]


def test_work_that_has_not_begun_is_dropped_when_the_caller_stops():
    """Only what a thread has in hand is finished."""
    begun, go = [], threading.Event()

    def work(item):
        begun.append(item)
        go.wait(30)

    for _ in read_ahead(work, range(50), 1, 20):
        threading.Timer(0.1, go.set).start()
        break
    assert len(begun) < 10


def doubler(fault=None):
    """A worker that tells its process; it fails on item 3 as asked."""
    if fault == "start":
        raise UserError("no model")
    calls = []

    def double(item):
        calls.append(item)
        if fault == "die" and item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * item, os.getpid(), len(calls)

    return double


def test_processes_give_what_one_process_gives():
    """In order; each process has started once, however many items it does."""
    found = list(in_processes(doubler, range(6), 2))
    assert [item for item, _, _ in found] == [
        item for item, _, _ in in_processes(doubler, range(6), 1)
    ]
    most = {process: calls for _, process, calls in found}
    assert sum(most.values()) == 6
    assert os.getpid() not in most


@pytest.mark.parametrize(("fault", "said"), [("die", "--workers"), ("start", "no model")])
def test_a_process_that_dies_or_cannot_start_is_a_users_error(fault, said):
    """And not a hang."""
    with pytest.raises(UserError, match=said):
        list(in_processes(partial(doubler, fault), range(6), 2))


def test_the_processes_end_with_the_one_that_started_them():
    """Also where that one is killed, and can end nothing."""
    program = (
        "import os; from datapipe.concurrent import process_pool\n"
        "if __name__ == '__main__':\n"
        "    print(process_pool(1, print, '').submit(os.getpid).result(), flush=True)\n"
        "    input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as caller:
        lines = iter(caller.stdout.readline, "")
        child = next(int(line) for line in lines if line.strip().isdigit())
        caller.kill()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)
