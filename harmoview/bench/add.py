"""Bringing videos and scores of other models into a run, by the case that each belongs to."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import UserError, meant
from datapipe.models import digest
from harmoview.bench.run import BenchRun, VideoKey, check_method
from harmoview.bench.scores import VideoScore
from harmoview.bench.store import Provenance, put_scores

_FILE = re.compile(r"(?P<case>[a-z0-9-]+?)(?:[._]s(?P<seed>\d+))?")
BESIDE = (".json", ".txt", ".toml", ".csv", ".jpg", ".jpeg", ".png")
"""Endings of files that may lie beside videos."""
MAP = "map.csv"
"""Columns file, case and, if wanted, seed: for videos with other names."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a folder."""

    added: list[VideoKey]
    unchanged: list[VideoKey]
    unknown: list[str]
    """Files that belong to no case, each with the reason."""
    missing: list[str]
    """Cases of which there is no video now."""


def add_videos(run: BenchRun, method: str, source: Path, *, partial: bool) -> Added:
    """Copy a folder's videos into the run.

    Nothing is copied when a file is unknown, unless `partial` allows it. Raises UserError.
    """
    check_method(method)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    found, unknown = _mapped(run, method, source)
    added: list[VideoKey] = []
    unchanged: list[VideoKey] = []
    if not unknown or partial:
        for key, path in sorted(found.items()):
            (added if _put(run, key, path) else unchanged).append(key)
    return Added(added, unchanged, unknown, run.missing().get(method, []))


def _mapped(run: BenchRun, method: str, source: Path) -> tuple[dict[VideoKey, Path], list[str]]:
    """Which video is which case, and what is none."""
    found: dict[VideoKey, Path] = {}
    unknown: list[str] = []
    listed = _map_file(source / MAP) if (source / MAP).is_file() else _named(source)
    for name, case, seed in listed:
        key = VideoKey(method, case, seed)
        if (source / name).is_dir():
            unknown.append(f"{name}: a folder; its videos are not looked for")
        elif not (source / name).is_file():
            unknown.append(f"{name}: there is no such file")
        elif not name.lower().endswith(".mp4"):
            unknown.append(f"{name}: not an mp4")
        elif case not in run.suite.case:
            hint = meant(case, run.suite.case)
            unknown.append(f"{name}: the suite has no case {case!r}; {hint}")
        elif key in found:
            unknown.append(f"{name}: the same case and seed as {found[key].name}")
        else:
            found[key] = source / name
    return found, unknown


def _named(source: Path) -> list[tuple[str, str, int]]:
    """Of `CASE.mp4` (seed 0) and `CASE.sN.mp4`; what `generate` puts beside them is passed over."""
    listed = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in BESIDE:
            continue
        if path.is_dir() and not any(path.rglob("*.mp4")):
            continue
        match = _FILE.fullmatch(path.stem)
        seed = int(match["seed"] or 0) if match else 0
        listed.append((path.name, match["case"] if match else path.stem, seed))
    return listed


def _map_file(path: Path) -> list[tuple[str, str, int]]:
    """Read map.csv, as spreadsheets write it too. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as wrong:
        raise UserError(f"{path}: {wrong}; save it as CSV in UTF-8") from wrong
    first = text.partition("\n")[0]
    split = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=split, skipinitialspace=True)
    columns = reader.fieldnames or ()
    if not {"file", "case"} <= set(columns):
        raise UserError(f"{path}: its first line must name the columns file, case and seed")
    near = {name for name in columns if name.strip().lower() in ("seed", "seeds")}
    if near and "seed" not in columns:  # other columns are somebody's notes
        raise UserError(f"{path} has a column {min(near)!r}; did you mean seed?")
    listed = []
    for number, row in enumerate(reader, 2):
        if not (row["file"] or "").strip() and not (row["case"] or "").strip():
            continue  # spreadsheets leave rows without anything
        seed = (row.get("seed") or "0").strip()
        if not seed.isdecimal():
            raise UserError(
                f"{path}, line {number}: seed {seed!r} must be a whole number of 0 or more"
            )
        listed.append(((row["file"] or "").strip(), (row["case"] or "").strip(), int(seed)))
    return listed


def _put(run: BenchRun, key: VideoKey, path: Path) -> bool:
    """Whether the run lacked this very video."""
    sha256 = digest(path)
    if run.folder.exists(key.path):
        with run.local(key) as there:
            if digest(there) == sha256:
                return False
    about = {"method": key.method, "file": path.name, "sha256": sha256}
    run.folder.put(key.about, (json.dumps(about, indent=1) + "\n").encode())
    with path.open("rb") as source, run.folder.create(key.path) as target:
        shutil.copyfileobj(source, target)
    return True


OPENS2V_KEYS = {
    "aes_score": "opens2v_aes",
    "motion_fb": "opens2v_amp",
    "motion_smoothness": "opens2v_smooth",
    "cur_score": "opens2v_facesim_cur",
    "gme_score": "opens2v_gme",
    "nexus_score": "opens2v_nexus",
}
"""What OpenS2V-Eval's files call the values, and the column that each is."""
IMPORTED = "imported:"
"""Begins the `model_sha256` of imported scores; the hash of the files follows."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of some result files."""

    counts: Mapping[str, int]
    """Values by column."""
    unknown: list[str]
    """Videos that belong to no case."""
    unusable: list[str]
    """Values that are no numbers; they become null, with the reason."""


def import_scores(run: BenchRun, method: str, files: Sequence[Path]) -> Imported:
    """Bring in OpenS2V-Eval's own result files, whose metrics run in environments of their own.

    Several files of one metric are repeats, as naturalscore_1 to _3: their mean is taken. Raises
    UserError for a file that is none.
    """
    check_method(method)
    values: dict[tuple[str, VideoKey], list[float | None]] = {}
    unknown: set[str] = set()
    unusable: list[str] = []
    hashes: dict[str, list[str]] = {}
    for file in files:
        column, entries = _result_file(file)
        hashes.setdefault(column, []).append(digest(file))
        for name, raw in entries.items():
            match = _FILE.fullmatch(name.lower().removesuffix(".mp4"))
            if match is None or match["case"] not in run.suite.case:
                unknown.add(name)
                continue
            key = VideoKey(method, match["case"], int(match["seed"] or 0))
            number = _number(raw)
            if number is None:
                unusable.append(f"{file.name}: {name} is {raw!r}")
            values.setdefault((column, key), []).append(number)
    counts: dict[str, int] = {}
    for (column, key), found in sorted(values.items(), key=lambda item: (item[0][0], item[0][1])):
        kept = [value for value in found if value is not None]
        value = sum(kept) / len(kept) if kept else None
        marks = "".join(sorted(hashes[column]))
        model = IMPORTED + hashlib.sha256(marks.encode()).hexdigest()
        score = VideoScore(
            metric=column,
            value=value,
            status="failed" if value is None else "ok",
            reason="" if len(kept) == len(found) else f"{len(kept)} of {len(found)} values usable",
        )
        put_scores(
            run.folder, run.suite.sha256, key,
            Provenance(column, 0, model, _video_sha256(run, key)), [score], 0.0, {},
        )  # fmt: skip
        counts[column] = counts.get(column, 0) + (value is not None)
    return Imported(counts, sorted(unknown), unusable)


def _video_sha256(run: BenchRun, key: VideoKey) -> str:
    """Empty where the run has only the scores."""
    if not run.folder.exists(key.path):
        return ""
    with run.local(key) as path:
        return digest(path)


def _result_file(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Which column a file is of, and its raw values by video. Raises UserError."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as wrong:
        raise UserError(f"{path} cannot be read as JSON: {wrong}") from wrong
    if not isinstance(data, dict) or not data:
        raise UserError(f"{path} is not a result file of OpenS2V-Eval: no videos in it")
    entries = list(data.values())
    if not any(isinstance(entry, dict) for entry in entries):
        return "opens2v_natural", data
    for theirs, column in OPENS2V_KEYS.items():
        if all(isinstance(entry, dict) and theirs in entry for entry in entries):
            return column, {name: entry[theirs] for name, entry in data.items()}
    raise UserError(
        f"{path} is not a result file of OpenS2V-Eval: its entries have none of "
        f"{', '.join(OPENS2V_KEYS)}, and are not plain Natural scores either"
    )


def _number(raw: Any) -> float | None:
    """A finite number, also as text; None for an error message or a refusal."""
    if isinstance(raw, bool):
        return None
    try:
        value = float(raw)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float("inf") else None
