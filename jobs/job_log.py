"""A job's log as it arrives: text is printed once, progress is drawn as where the job runs."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from jobs.progress import Show, parse, progress


class JobLog:
    """Writes a log that may be told again from its beginning after a broken connection."""

    def __init__(self) -> None:
        self._known = 0
        self._skip = 0
        self._line = ""
        self._bars = ExitStack()
        self._title: str | None = None
        self._show: Show | None = None

    def rewind(self) -> None:
        """The log comes from its beginning now: what was written is not written again."""
        self._skip = self._known

    def write(self, text: str) -> None:
        """The next piece of the log."""
        new = text[self._skip :]
        self._skip = max(0, self._skip - len(text))
        self._known += len(new)
        if not sys.stderr.isatty():
            print(new, end="", flush=True)
            return
        *lines, self._line = (self._line + new).split("\n")
        for line in lines:
            self._tell(line)

    def close(self) -> None:
        """The last words, and no bar left."""
        self._end_bar()
        if self._line:
            print(self._line, flush=True)

    def _tell(self, line: str) -> None:
        found = parse(line)
        if found is None:
            self._end_bar()
            print(line, flush=True)
            return
        title, outcomes, total = found
        if self._show is None or title != self._title:
            self._end_bar()
            self._title, self._show = title, self._bars.enter_context(progress(title, quiet=False))
        self._show(outcomes, total)

    def _end_bar(self) -> None:
        self._bars.close()
        self._show = None
