"""One process at a time writes to a folder, and a dead one leaves it free."""

import json
import os
import subprocess
import sys
import time

import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.lock import STALE, locked


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
    """The message says who holds the run."""
    refused = pytest.raises(UserError, match=f"process {os.getpid()}")
    with locked(Folder(tmp_path)), refused, locked(Folder(tmp_path)):
        pass


HOLD = """
import sys, time
from datapipe.files import Folder
from datapipe.run.lock import locked
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
def bucket(s3_bucket, tmp_path):
    return Folder(f"{s3_bucket}/{tmp_path.name}")


def test_a_second_process_is_refused_on_an_object_store_too(bucket):
    """And the folder is free again afterwards."""
    refused = pytest.raises(UserError, match=f"process {os.getpid()}")
    with locked(bucket), refused, locked(bucket):
        pass
    with locked(bucket):
        assert bucket.exists(".lock.json")
    assert not bucket.exists(".lock.json")


def test_a_lock_without_signs_of_life_counts_no_more(bucket):
    """Its holder was killed, on this host or another."""
    bucket.put(".lock.json", json.dumps({"holder": "x", "beat": time.time() - STALE - 1}).encode())
    with locked(bucket):
        pass
