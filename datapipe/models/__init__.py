"""Where the cached model and data files are, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

from datapipe.errors import UserError
from datapipe.models.catalogue import CATALOGUE, Model

State = Literal["present", "missing", "damaged"]


def models_folder() -> Path:
    """Where fetched files live: $HARMOVIEW_HOME/models, or models in the user's cache folder."""
    if home := os.environ.get("HARMOVIEW_HOME"):
        return Path(home) / "models"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "harmoview" / "models"


def model(name: str) -> Model:
    """The catalogue's entry of that name. Raises KeyError."""
    return {entry.name: entry for entry in CATALOGUE}[name]


def model_path(name: str) -> Path:
    """The cached file or folder, its hash checked. Raises UserError when missing or damaged."""
    entry = model(name)
    path = models_folder() / entry.path
    if (found := state(entry)) != "present":
        ask = f" {name}" if entry.optional else ""
        raise UserError(
            f"{path} ({entry.purpose}) is {found}: run `harmoview models fetch{ask}` on this "
            "machine, or let HARMOVIEW_HOME name a folder that holds models/"
        )
    return path


def state(entry: Model) -> State:
    """Whether the cached copy is there and whole; reads every byte of it."""
    path = models_folder() / entry.path
    if not path.exists():
        return "missing"
    return "present" if digest(path) == entry.sha256 else "damaged"


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its sorted `sha256  name` lines (as sha256sum's)."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = (f"{digest(path / name)}  {name}\n" for name in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
