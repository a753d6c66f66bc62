"""What Ray's core writes past Python."""

import subprocess
import sys

NOTE = (
    "[2026-11-30 20:25:38,063 E 3086 3086] core_worker.cc:2465: Actor with class name: 'MapWorker' "
    "and ID: '74' has constructor arguments in the object store and max_restarts > 0."
)
OTHER = "[2026-11-30 20:25:38,063 E 3086 3086] core_worker.cc:99: The disk is full."
CODE = """
import os, sys
from datapipe.line.line import without_notes
with without_notes():
    for line in sys.argv[1:]:
        os.write(2, line.encode() + b"\\n")
    os.write(2, b"no end of line")
    print("of Python", file=sys.stderr)
os.write(2, sys.argv[1].encode() + b"\\n")
print("after", file=sys.stderr)
"""


def test_one_note_is_kept_back_and_nothing_else():
    """Only within the block, and only that note; all other lines come through, each whole."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, NOTE, OTHER], capture_output=True, text=True, check=True
    )
    lines = done.stderr.replace("no end of line", "no end of line\n").splitlines()
    assert sorted(line for line in lines if line) == sorted(
        [NOTE, OTHER, "no end of line", "of Python", "after"]
    )
