"""Keeping a note of Ray's core, which concerns no user, out of the terminal."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
_NOTE = re.compile(rb"\[[^]]* E \d+ \d+\] core_worker\.cc:\d+: Actor .* has constructor arguments")
_WAIT = 1.0
"""Seconds to wait for what is still in the pipe; a child process may hold it open."""


@contextmanager
def without_notes() -> Iterator[None]:
    """Within the block, a note that Ray writes about every pool goes to the log, as level info.

    Ray's core calls it an error and writes it to file descriptor 2: a worker could not be started
    again if its arguments were lost. Ray Data, which makes the workers, holds them as long as it
    runs, so they are not. All else that is written there is passed on.
    """
    terminal = os.dup(STDERR)
    reader, writer = os.pipe()
    os.dup2(writer, STDERR)
    os.close(writer)
    passing = threading.Thread(target=_pass_on, args=(reader, terminal), daemon=True)
    passing.start()
    own = sys.stderr
    if _is_stderr(own):  # stays a terminal, for bars
        sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, encoding=own.encoding)
    try:
        yield
    finally:
        os.dup2(terminal, STDERR)
        if sys.stderr is not own and _is_stderr(own):
            sys.stderr.close()
            sys.stderr = own
        passing.join(_WAIT)


def _is_stderr(stream: object) -> bool:
    """Whether it writes to the descriptor, and not to a notebook or a test."""
    try:
        return stream is not None and getattr(stream, "fileno", io.StringIO().fileno)() == STDERR
    except (io.UnsupportedOperation, ValueError):
        return False


def _pass_on(reader: int, terminal: int) -> None:
    with open(reader, "rb") as lines, open(terminal, "wb", buffering=0) as out:
        for line in lines:
            if _NOTE.match(line):
                logging.getLogger("ray").info(line.decode(errors="replace").rstrip())
            else:
                out.write(line)
