"""One process at a time writes to a folder, and a dead one leaves it free."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from datapipe import claim
from datapipe.claim import STALE, locked
from datapipe.errors import UserError
from datapipe.files import Folder


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    """The message says who holds the run."""
    refused = pytest.raises(UserError, match=f"process {os.getpid()}")
    with locked(Folder(tmp_path)), refused, locked(Folder(tmp_path)):
        pass


HOLD = """
import sys, time
from datapipe.files import Folder
from datapipe.claim import locked
with locked(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    """The kernel lets go of a lock with its holder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid}"), locked(Folder(tmp_path)):
            pass
        holder.kill()
    with locked(Folder(tmp_path)):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    """A file in the way of the run folder."""
    (tmp_path / "file").write_text("")
    refused = pytest.raises(UserError, match="cannot write to")
    with refused, locked(Folder(tmp_path / "file" / "run")):
        pass


@pytest.fixture
def bucket(s3_bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "SETTLE", 0.3)
    monkeypatch.setattr(claim, "LOOK", 0.1)
    return Folder(f"{s3_bucket}/{tmp_path.name}")


def others(age=0.0):
    """The lock of another process, with its last sign of life so many seconds ago."""
    return json.dumps({"holder": "x", "token": "x", "beat": time.time() - age}).encode()


def test_a_second_process_is_refused_on_an_object_store_too(bucket, monkeypatch):
    """At the first's next sign of life; and the folder is free again afterwards."""
    monkeypatch.setattr(claim, "BEAT", 0.1)
    refused = pytest.raises(UserError, match=f"process {os.getpid()}")
    with locked(bucket), refused, locked(bucket):
        pass
    with locked(bucket):
        assert bucket.exists(".lock.json")
    assert not bucket.exists(".lock.json")


def test_a_lock_without_signs_of_life_counts_no_more(bucket):
    """Its holder was killed, on this host or another."""
    bucket.put(".lock.json", others(STALE + 1))
    with locked(bucket):
        pass


def test_the_lock_of_a_holder_who_was_just_killed_is_waited_for(bucket, monkeypatch, caplog):
    """The same command, run again at once, says how long it waits, and goes on."""
    monkeypatch.setattr(claim, "STALE", 2.0)
    bucket.put(".lock.json", others())
    with locked(bucket):
        assert "is held by x; unless that gives a sign of life" in caplog.text


class Slow(Folder):
    """Its readers all read before one of them writes, and all write before one reads again."""

    def __init__(self, url, barrier):
        super().__init__(url)
        self.barrier, self.turns = barrier, 3  # two reads before the write

    def together(self):
        if self.turns:
            self.turns -= 1
            self.barrier.wait(60)

    def read(self, name):
        found = super().read(name)
        self.together()
        return found

    def put(self, name, data):
        super().put(name, data)
        self.together()


def test_of_two_who_take_over_a_dead_lock_one_gets_it(bucket):
    """However close together they come: both had read the dead one's."""
    bucket.put(".lock.json", others(STALE + 1))
    barrier, held = threading.Barrier(2), []

    def contend(name):
        with locked(Slow(bucket.url, barrier)):
            held.append(name)

    with ThreadPoolExecutor(2) as executor:
        ends = [executor.submit(contend, name) for name in "ab"]
        errors = [end.exception() for end in ends]
    assert len(held) == 1
    assert {type(error) for error in errors} == {UserError, type(None)}


def test_a_sleeper_whose_lock_was_taken_over_is_stopped_and_leaves_it(bucket, monkeypatch):
    """It neither renews nor deletes what is its successor's."""
    monkeypatch.setattr(claim, "BEAT", 0.1)
    theirs = others()

    def sleep():
        with locked(bucket):
            for _ in range(200):  # not once: it may be renewing just now, which its successor bears
                bucket.put(".lock.json", theirs)
                time.sleep(0.3)
            slept.append("to the end")

    slept = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(UserError, match="another took its lock over"):
            sleep()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not slept
    assert bucket.read(".lock.json") == theirs
