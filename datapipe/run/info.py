"""A run folder: the settings it was made with, and its current scoring."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
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
    gpus: Mapping[str, float] = field(default_factory=dict)
    """What a worker of each stage held when the run began."""
    format: int = FORMAT

    @property
    def settings_hash(self) -> str:
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def library_versions(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """The versions that made something, for its provenance.

    A submitted job may run from files alone, without harmoview's metadata.
    """
    names = {name: version(name) for name in ("harmoview", *libraries) if _installed(name)}
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
