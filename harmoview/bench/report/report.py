"""Writing the report: index.html, with the videos and references that it shows beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dataset.inspect.page import assembled
from harmoview.bench.columns import better, digits, label, parts
from harmoview.bench.identity import assign
from harmoview.bench.published import WEIGHT_SETS, WeightSet
from harmoview.bench.results import Results
from harmoview.bench.run import BenchRun, Method, VideoKey
from harmoview.bench.store import stored_faces
from harmoview.bench.suite import picture_name
from harmoview.bench.table import TOTAL, Cell, MethodRow, points
from harmoview.bench.video import FPS

MEDIA = "img-src 'self' file: data:; media-src 'self' file:"
"""What the page may show: the files beside it."""


def write_report(
    run: BenchRun,
    results: Results,
    rows: Sequence[MethodRow],
    weights: WeightSet,
    out: Path,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """The page, last; what is copied already stays. `told` hears how many videos are copied."""
    labels = run.methods()
    keys = run.videos()
    for number, key in enumerate(keys, 1):
        _copy(run, key, out / key.path)
        told(number, len(keys))
    for name in sorted(run.suite.identities):
        for yaw in run.suite.yaws:
            target = out / "references" / name / picture_name(yaw)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(run.suite.picture(name, yaw))
    data = report_data(run, results, rows, weights, labels)
    page = out / "index.html"
    page.write_bytes(assembled("harmoview.bench.report", ("page.js",), data, MEDIA))
    return page


def _copy(run: BenchRun, key: VideoKey, target: Path) -> None:
    with run.local(key) as path:
        if target.exists() and target.stat().st_size == path.stat().st_size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def report_data(
    run: BenchRun,
    results: Results,
    rows: Sequence[MethodRow],
    weights: WeightSet,
    labels: Mapping[str, Method],
) -> dict[str, Any]:
    """Everything that the page shows but the files."""
    columns = [TOTAL, *(c for c in results.columns if any(c in row.cells for row in rows))]
    there = {key.method for key in run.videos()} | {row.method for row in rows}
    order = [*(name for name in labels if name in there), *sorted(there - set(labels))]
    return {
        "run": run.folder.url.rsplit("/", 1)[-1],
        "weights": weights,
        "suite": {
            "version": run.suite.version,
            "licence": run.suite.licence,
            "sha256": run.suite.sha256,
            "cases": len(run.suite.cases),
            "identities": len(run.suite.identities),
        },
        "methods": [{"name": name, **asdict(labels.get(name, Method(name)))} for name in order],
        "columns": [_column(name, weights) for name in columns],
        "summary": {row.method: _summary(row, columns, weights) for row in rows},
        "cases": [one for case in run.suite.cases for one in _case(run, results, case.id)],
    }


def _column(name: str, weights: WeightSet) -> dict[str, Any]:
    if name == TOTAL:
        return {"name": name, "label": f"Total ({weights})", "better": "up", "digits": 2,
                "yaw": False}  # fmt: skip
    return {
        "name": name,
        "label": label(name),
        "better": better(name),
        "digits": digits(name),
        "yaw": bool(parts(name)[1]) or parts(name)[0].endswith("_true"),
    }


def _summary(row: MethodRow, columns: Sequence[str], weights: WeightSet) -> dict[str, Any]:
    blank = Cell(None, 0, None)
    cells = {TOTAL: row.totals[weights], **row.cells}
    return {
        "cells": {
            name: [
                cell.value,
                None if cell.interval is None else [cell.interval.low, cell.interval.high],
                cell.n,
            ]
            for name in columns
            for cell in (cells.get(name, blank),)
        },
        "missing": row.missing[weights],
        "ranks": {name: row.ranks[name] for name in WEIGHT_SETS},
    }


def _case(run: BenchRun, results: Results, name: str) -> Iterator[dict[str, Any]]:
    """A case once for each seed with which there is a video."""
    case = run.suite.case[name]
    people = [
        {
            "id": who.id,
            "label": who.label,
            "placement": who.placement,
            "pictures": [f"references/{who.id}/{picture_name(yaw)}" for yaw in run.suite.yaws],
        }
        for who in case.identities
    ]
    keys = [key for key in run.videos() if key.case == name]
    for seed in sorted({key.seed for key in keys}):
        mine = [key for key in keys if key.seed == seed]
        yield {
            "id": name,
            "seed": seed,
            "prompt": case.prompt,
            "tags": list(case.tags),
            "request": case.yaw_request,
            "people": people,
            "videos": {key.method: _video(run, results, key) for key in mine},
        }


def _video(run: BenchRun, results: Results, key: VideoKey) -> dict[str, Any]:
    scores = {}
    for (method, column), values in results.values.items():
        found = values.get((key.case, key.seed))
        if method == key.method and found:
            scores[column] = float(points(column)(sum(found) / len(found)))
    return {
        "file": key.path,
        "scores": scores,
        "failed": results.failed.get((key.method, key.case, key.seed), ""),
        "strip": _strip(run, key),
    }


def _strip(run: BenchRun, key: VideoKey) -> list[list[float]]:
    """Each face's second, yaw, and whose it is: 0 or 1, -1 for nobody's."""
    stored = stored_faces(run.folder, run.suite.sha256, key)
    if stored is None:
        return []
    faces, known = stored
    places = [known.names.index(who.id) for who in run.suite.case[key.case].identities]
    whose = dict.fromkeys(range(len(faces.frame)), -1)
    for number, mine in assign(faces, known, places).rows.items():
        whose |= dict.fromkeys(mine.tolist(), number)
    return [
        [round(int(frame) / FPS, 3), round(float(yaw), 1), whose[row]]
        for row, (frame, yaw) in enumerate(zip(faces.frame, faces.yaw, strict=True))
        if yaw == yaw
    ]
