"""Files that a command writes beside its run: pictures, tables."""

from __future__ import annotations

from pathlib import Path

from datapipe.errors import UserError
from datapipe.files import Folder


def write(path: Path, data: bytes) -> None:
    """Put a file where the user asked for it. Raises UserError when it cannot be written there."""
    try:
        Folder(path.resolve().parent).put(path.name, data)
    except OSError as wrong:
        raise UserError(f"cannot write {path}: {wrong.strerror}") from wrong
