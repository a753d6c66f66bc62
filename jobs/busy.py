"""What work of one step, which cannot be counted, shows while it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager

from rich.console import Console


def busy(doing: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Within the block a terminal says what is being done, on stderr; a log is told nothing."""
    return Console(stderr=True, quiet=quiet).status(doing)
