"""Keeping a note of Ray's core, which concerns no user, out of the terminal."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STDERR = 2
_NOTE = r"\[[^]]* E \d+ \d+\] core_worker\.cc:\d+: Actor .* has constructor arguments"
_PASS_ON = """
import re, sys
note, out = re.compile(sys.argv[1].encode()), open(1, "wb", buffering=0)
for line in sys.stdin.buffer:
    if not note.match(line):
        out.write(line)
"""
_WAIT = 1.0
"""Seconds to wait for what is still in the pipe; a child process may hold it open."""


@contextmanager
def without_notes() -> Iterator[None]:
    """Within the block, a note that Ray writes about every pool is left out, but at level info.

    Ray's core calls it an error and writes it to file descriptor 2: a worker could not be started
    again if its arguments were lost. Ray Data, which makes the workers, holds them as long as it
    runs, so they are not. All else that is written there is passed on, by a process of its own, so
    that the last words of this one are too.
    """
    if logging.getLogger(__name__).isEnabledFor(logging.INFO):
        yield
        return
    terminal, (reader, writer) = os.dup(STDERR), os.pipe()
    passing = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PASS_ON, _NOTE],
        stdin=reader, stdout=terminal, start_new_session=True,  # Ctrl-C is not for it
    )  # fmt: skip
    os.close(reader)
    os.dup2(writer, STDERR)
    os.close(writer)
    own, direct = sys.stderr, None
    if _is_stderr(own):  # stays a terminal, for bars
        direct = os.fdopen(
            os.dup(terminal), "w", buffering=1, encoding=own.encoding, errors="backslashreplace"
        )
        sys.stderr = direct
    try:
        yield
    finally:
        os.dup2(terminal, STDERR)
        os.close(terminal)
        if direct is not None:
            if sys.stderr is direct:  # a bar that has ended puts its own back
                sys.stderr = own
            direct.close()
        with suppress(subprocess.TimeoutExpired):
            passing.wait(_WAIT)


def _is_stderr(stream: object) -> bool:
    """Whether it writes to the descriptor, and not to a notebook or a test."""
    try:
        return stream is not None and getattr(stream, "fileno", io.StringIO().fileno)() == STDERR
    except (io.UnsupportedOperation, ValueError):
        return False
