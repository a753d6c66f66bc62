"""A run folder: the settings it was made with, its current scoring, and who may write to it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder

FORMAT = 1
_LIBRARIES = ("decord", "insightface", "numpy", "onnxruntime", "opencv-python", "pyarrow", "ray")


@dataclass(frozen=True)
class Scoring:
    """Which scorers made the current views table."""

    generation: int = 0
    """Names the files of the views and references tables that count."""
    scorers: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: names and hashes."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """aesthetic_scorer, recogniser and pose_estimator, as in the views table."""


@dataclass(frozen=True)
class RunInfo:
    """The content of run.json."""

    corpus: str
    seed: int
    settings: Mapping[str, Any]
    """Everything that shapes a candidate, models by hash."""
    scoring: Scoring
    rescoring: Scoring | None = None
    """A scoring under way; it becomes `scoring` when every candidate is covered."""
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def settings_hash(self) -> str:
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """The versions that made a run, for its provenance."""
    names = {name: version(name) for name in ("harmoview", *_LIBRARIES) if _installed(name)}
    return {"python": platform.python_version(), **names}


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def load_info(run: Folder) -> RunInfo:
    """Read run.json. Raises UserError when the folder is not a run, or is of another format."""
    try:
        data = json.loads(run.read("run.json"))
        found = data.pop("format")
        if found != FORMAT:
            raise UserError(f"{run.url} is a run of format {found}; this version reads {FORMAT}")
        scoring, rescoring = Scoring(**data.pop("scoring")), data.pop("rescoring")
        return RunInfo(
            **data, scoring=scoring, rescoring=Scoring(**rescoring) if rescoring else None
        )
    except FileNotFoundError as missing:
        raise UserError(
            f"{run.url} is not a run folder: it has no run.json; "
            "`harmoview synthesize CORPUS --out RUN` makes one"
        ) from missing
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(f"{run.path('run.json')} is damaged: {wrong}") from wrong


def save_info(run: Folder, info: RunInfo) -> None:
    run.put("run.json", json.dumps(asdict(info), indent=1, sort_keys=True).encode())


def open_run(run: Folder, wanted: RunInfo) -> RunInfo:
    """Start a run, or continue one made with the same settings.

    Raises UserError naming each setting that differs.
    """
    if not run.exists("run.json"):
        save_info(run, wanted)
        return wanted
    found = load_info(run)
    here, there = _flat(_essence(wanted)), _flat(_essence(found))
    differ = sorted(name for name in here | there if here.get(name) != there.get(name))
    if differ:
        lines = [
            f"  {name}: the run has {there.get(name, 'nothing')!s:.80}, "
            f"asked for {here.get(name, 'nothing')!s:.80}"
            for name in differ
        ]
        advice = "give another --out, or the settings the run was made with"
        if all(name.startswith("scorers.") for name in differ):
            advice = "continue with the run's own scorers, then `harmoview score RUN` for others"
        raise UserError(
            "\n".join([f"{run.url} was made with other settings:", *lines, f"To mend: {advice}."])
        )
    return replace(found, versions=wanted.versions)


def _essence(info: RunInfo) -> dict[str, Any]:
    """What must agree for a run to be continued."""
    settings = json.loads(json.dumps(info.settings))
    scorers = json.loads(json.dumps(info.scoring.scorers))
    return {"corpus": info.corpus, "seed": info.seed, **settings, "scorers": scorers}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = value
    return out


@contextmanager
def locked(run: Folder) -> Iterator[None]:
    """Hold the run for writing; the kernel lets go when the process ends, however it ends.

    Raises UserError when another process holds it or the folder cannot be written.
    """
    folder = run.local
    if folder is None:
        yield
        return
    file = _lock_file(folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 200, 0).decode(errors="replace").strip()
        os.close(file)
        raise UserError(
            f"{folder} is in use by {holder or 'another process'}; "
            "wait for it, or stop it, then run this again"
        ) from None
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(file)


def _lock_file(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as wrong:
        raise UserError(
            f"cannot write to {folder}: {wrong.strerror}; choose another --out"
        ) from wrong
