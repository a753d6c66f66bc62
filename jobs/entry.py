"""How every command starts: arguments, errors, exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from datapipe.errors import UserError
from jobs.terminal import plain

Settings = TypeVar("Settings")


def run(
    settings: type[Settings],
    execute: Callable[[Settings], int | None],
    argv: Sequence[str] | None,
    prog: str,
) -> int:
    """Parse `argv` into `settings` and execute; exit status 0 done, 1 failed, 2 wrong arguments.

    A user's mistake ends in one message on stderr; an unexpected error keeps its traceback.
    """
    import tyro  # a third of a second that `harmoview --help` need not pay

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    flags = (tyro.conf.FlagCreatePairsOff,)
    try:
        try:
            parsed = tyro.cli(settings, args=argv, prog=f"harmoview {prog}", config=flags)
        except SystemExit as end:  # --help (0) or arguments that do not parse (2)
            return end.code if isinstance(end.code, int) else 2
        except ValueError as wrong:  # a settings class refused a value
            print(f"harmoview {prog}: {wrong}", file=sys.stderr)
            return 2
        return execute(parsed) or 0
    except UserError as wrong:  # may quote keys and paths of a corpus
        print(f"harmoview {prog}: {plain(str(wrong), lines=True)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough: `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"harmoview {prog}: interrupted", file=sys.stderr)
        return 130
