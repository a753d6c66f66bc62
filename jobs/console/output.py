"""Files that a command writes beside its run: pictures, tables.

Text from a corpus (keys, captions, tracebacks) on its way to a terminal.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from datapipe.errors import UserError
from datapipe.files import Folder

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that steer a terminal or reorder text instead of showing something."""
_JOINERS = "\u200c\u200d"
"""Of these, what Persian words and composed emoji are written with; they steer nothing."""


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every control character written out, as `\\x1b`; no escape sequence is left.

    One line, unless `lines` asks to keep its line ends (of a traceback). For rich, wrap the result
    in `rich.text.Text`: a plain string is read as markup there.
    """
    kept = _JOINERS + "\n" * lines
    return "".join(
        letter
        if letter in kept or unicodedata.category(letter) not in _UNSEEN
        else _written(letter)
        for letter in text.expandtabs(4)
    )


def _written(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def write(path: Path, data: bytes) -> None:
    """Put a file where the user asked for it. Raises UserError when it cannot be written there."""
    try:
        Folder(path.resolve().parent).put(path.name, data)
    except OSError as wrong:
        raise UserError(f"cannot write {path}: {wrong.strerror}") from wrong
