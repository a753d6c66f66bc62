"""A run folder: the settings it was made with, its current scoring, and what its listing showed."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

from datapipe.claim import check_same
from datapipe.corpus.names import PassedOver
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Sample

FORMAT = 4
"""Format 1 had no `captions` in its ledger, format 2 no windows, format 3 no real views."""
FILE = "run.json"
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
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the command that began it, as a settings file has them."""
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
        data = json.loads(run.read(FILE))
        if not isinstance(data, dict):
            raise ValueError("it holds no JSON object")
        found = data.pop("format")
        if found != FORMAT:
            raise UserError(
                f"{run.url} is a run of format {found}; this version reads {FORMAT}: "
                "synthesize into a new folder"
            )
        scoring, rescoring = Scoring(**data.pop("scoring")), data.pop("rescoring")
        return RunInfo(
            **data, scoring=scoring, rescoring=Scoring(**rescoring) if rescoring else None
        )
    except FileNotFoundError as missing:
        above = run.url.rpartition("/")[0]
        hint = "`harmoview synthesize CORPUS --out RUN` makes one"
        if above and Folder(above).exists(FILE):
            hint = f"did you mean {above}?"
        raise UserError(f"{run.url} is not a run folder: it has no {FILE}; {hint}") from missing
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(f"{run.path(FILE)} is damaged: {wrong}") from wrong


def save_info(run: Folder, info: RunInfo) -> None:
    run.put(FILE, json.dumps(asdict(info), indent=1, sort_keys=True).encode())


def open_run(run: Folder, wanted: RunInfo) -> RunInfo:
    """Start a run, or continue one made with the same settings. Raises UserError as `check_run`."""
    info = check_run(run, wanted)
    if not run.exists(FILE):
        save_info(run, info)
    return info


def check_run(run: Folder, wanted: RunInfo) -> RunInfo:
    """The run that is there, or the wanted one where there is none yet.

    Raises UserError naming each setting that differs.
    """
    if not run.exists(FILE):
        return wanted
    found = load_info(run)
    there, here = (
        {"corpus": info.corpus, "seed": info.seed, **info.settings} for info in (found, wanted)
    )
    check_same(run, there, here)
    there, here = ({"scorers": info.scoring.scorers} for info in (found, wanted))
    remedy = "take the scorers it was made with, then `harmoview score RUN` for others"
    check_same(run, there, here, remedy)
    return replace(found, versions=wanted.versions)


LISTING = "listing.json"
FIRST = 1000
"""Videos whose captions are looked at before the work begins."""


@dataclass
class Survey:
    """Grows while a listing goes on."""

    videos: int = 0
    passed_over: PassedOver = field(default_factory=PassedOver)
    looked_at: int = 0
    """Videos whose captions were looked for."""
    empty: int = 0
    """Those of them without a caption, whether there is none or it cannot be read."""
    problem: str = ""
    """Why the first caption that cannot be read cannot."""
    complete: bool = False
    """Whether the listing came to its end, or to the number of videos that were wanted."""

    def look_at(self, sample: Sample) -> None:
        """Count a sample whose caption was looked for, unless it is no video anyway."""
        if sample.stopped is not None:
            return
        self.looked_at += 1
        self.empty += not sample.caption
        self.problem = self.problem or sample.caption_problem

    def save(self, run: Folder) -> None:
        found = {"videos": self.videos, "passed_over": dict(sorted(self.passed_over.items()))}
        run.put(LISTING, (json.dumps(found, indent=1) + "\n").encode())


def load_passed_over(run: Folder) -> PassedOver | None:
    """What the last listing of a run's corpus passed over; None where none came to its end.

    Raises UserError when the file is damaged.
    """
    try:
        found = json.loads(run.read(LISTING))["passed_over"]
        return PassedOver({str(suffix): int(count) for suffix, count in found.items()})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise UserError(
            f"{run.path(LISTING)} is damaged ({wrong!r}); delete it, and `harmoview synthesize` "
            "writes it again"
        ) from wrong
