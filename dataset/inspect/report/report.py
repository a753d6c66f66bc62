"""Puts the report together: data and pictures inside one page that asks for nothing else."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

from datapipe.files import Folder
from datapipe.run.info import load_info
from dataset.inspect.report.bins import position, unpack
from dataset.inspect.report.cards import cards
from dataset.inspect.report.cells import ABSENT
from dataset.inspect.report.count import Counted, count
from dataset.inspect.report.plan import Plan
from filters.rules import Rules

FORMAT = 1
SAMPLES_HELD = 20_000
MOST_BYTES = 2_500_000
"""Of the compressed counts: with them as base64 and some 300 thumbnails the page is under 5 MB."""
SCRIPTS = ("data.js", "rules.js", "draw.js", "charts.js", "cards.js", "page.js")
"""In this order, as one script."""


def report(
    run: Folder, plan: Plan, stats: Mapping[str, Any], rules: Rules, hold: int = SAMPLES_HELD
) -> bytes:
    """The page. `stats` is `Stats.as_dict()` by the same rules.

    About `hold` samples go into it identity by identity; what the page says of identities is exact
    where the run has no more. The same run gives the same bytes. Raises UserError when the run
    cannot be read.
    """
    info = load_info(run)
    counted = count(run, info, plan, stats["funnel"]["candidates"], hold)
    arrays = fitted(counted, MOST_BYTES)
    shown, thumbnails = cards(run, info, counted, rules)
    data = {
        "format": FORMAT,
        "title": run.url.rsplit("/", 1)[-1],
        "run": run.url,
        "stats": stats,
        "rules": plan.described,
        "yaws": list(plan.yaws),
        "thresholds": _thresholds(counted),
        "groups": _groups(counted),
        "identities": {
            "held": len(counted.joint.sampled),
            "samples": counted.samples,
            "all": stats["funnel"]["candidates"] <= hold,
        },
        "histograms": counted.histograms.as_dict(),
        "cards": shown,
        "thumbnails": thumbnails,
        "provenance": asdict(info),
        "arrays": base64.b64encode(arrays).decode(),
    }
    return page(data)


def page(data: Mapping[str, Any]) -> bytes:
    """The page around its data. What is in the data is never taken for markup or script."""
    folder = files("dataset.inspect.report").joinpath("page")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    script = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "data": as_json(data), "script": script}
    text = folder.joinpath("page.html").read_text(encoding="utf-8")
    first, *rest = text.split("{{")
    pieces = [first]
    for piece in rest:  # one pass, so that a part may hold braces itself
        name, after = piece.split("}}", 1)
        pieces += [parts[name], after]
    return "".join(pieces).encode()


def as_json(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode(errors="replace").decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _thresholds(counted: Counted) -> list[dict[str, Any]]:
    return [
        {
            "path": list(threshold.path),
            "title": threshold.title,
            "unit": threshold.unit,
            "stricter": threshold.stricter,
            "stops": stops.tolist(),
            "at": position(threshold, stops),
        }
        for threshold, stops in zip(counted.joint.plan.thresholds, counted.joint.stops, strict=True)
    ]


def _groups(counted: Counted) -> list[dict[str, Any]]:
    """The references, then the views by yaw; `arrays` follows this order."""
    return [
        {
            "yaw": yaw,
            "missing": "reference_not_detected" if yaw is None else "not_detected",
            "checks": [
                {"threshold": check.threshold, "reason": check.reason, "column": check.column}
                for check in group.checks
            ],
            "cells": len(group.codes),
        }
        for yaw, group in zip((None, *counted.joint.plan.yaws), counted.joint.groups, strict=True)
    ]


def fitted(counted: Counted, most: int) -> bytes:
    """The counts in at most so many bytes, with fewer stops if need be and while there are any."""
    arrays = _arrays(counted)
    while len(arrays) > most:
        before = counted.joint.cells
        counted.joint.shrink(before * 3 // 4)
        if counted.joint.cells == before:
            break
        arrays = _arrays(counted)
    return arrays


def _arrays(counted: Counted) -> bytes:
    """Compressed: by group the bins (a row per check) and counts; then, of the identities held,
    1 + the cell in each group, and whether each is of the sample before it.

    Counts and cells are 32 bits as four planes of bytes, the lowest first: so they compress.
    """
    sampled, parts = counted.joint.sampled, []
    columns = []
    for index, group in enumerate(counted.joint.groups):
        parts += [_bytes(unpack(group.codes, len(group.checks))), _planes(group.counts)]
        column = sampled[:, index]
        cells = np.searchsorted(group.codes, column) + 1
        columns.append(np.where(column == ABSENT, 0, cells))
    parts += [*map(_planes, columns), _bytes(np.array(counted.second, bool))]
    return gzip.compress(b"".join(parts), 6, mtime=0)


def _bytes(values: Any) -> bytes:
    found: bytes = values.astype(np.uint8).tobytes()
    return found


def _planes(values: Any) -> bytes:
    found: bytes = values.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    return found
