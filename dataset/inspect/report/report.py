"""The report: counts and pictures of a run inside one page that asks for nothing else."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from dataset.inspect.page import assembled
from dataset.inspect.report.bins import Codes, position, unpack
from dataset.inspect.report.cards import cards
from dataset.inspect.report.cells import Cells
from dataset.inspect.report.counts import PASSED, RunCounts, count
from dataset.inspect.report.histograms import CHARTS
from dataset.inspect.stats import Stats
from dataset.judged import JudgedRun
from filters.checks import VIEW_REASONS, reference_reason, score_title
from filters.rules_file import settings

FORMAT = 1
SAMPLES_HELD = 20_000
"""Samples that go into a report identity by identity."""
MOST_BYTES = 2_500_000
"""Bytes of the compressed counts: with them as base64 and some 300 thumbnails the page is under
5 MB."""
SCRIPTS = ("data.js", "rules.js", "draw.js", "charts.js", "cards.js", "page.js")
"""In this order, as one script."""


def report(judged: JudgedRun, stats: Stats, hold: int = SAMPLES_HELD) -> bytes:
    """The page of a run, with its statistics by the same rules.

    About `hold` samples go into it identity by identity; what the page says of identities is exact
    where the run has no more. The same run gives the same bytes. Raises UserError when the run
    cannot be read.
    """
    counts = count(judged, stats.candidates, hold)
    cells = counts.cells
    arrays = fitted(counts, MOST_BYTES)
    shown, thumbnails = cards(judged, counts)
    data = {
        "format": FORMAT,
        "title": judged.run.url.rsplit("/", 1)[-1],
        "run": judged.run.url,
        "stats": stats.as_dict(),
        "rules": stats.rules,
        "settings": settings(judged.rules),
        "yaws": [group.yaw for group in cells.groups[1:]],
        "reasons": [PASSED, *VIEW_REASONS],
        "thresholds": _thresholds(cells),
        "groups": _groups(cells),
        "identities": {
            "held": len(cells.held),
            "samples": counts.samples,
            "all": stats.candidates <= hold,
        },
        "charts": _charts(judged.rules.aesthetic.scorer),
        "histograms": {one.chart.name: one.as_dict() for one in counts.histograms},
        "cards": shown,
        "thumbnails": thumbnails,
        "provenance": asdict(judged.info),
        "arrays": base64.b64encode(arrays).decode(),
    }
    return page(data)


def _charts(scorer: str) -> list[dict[str, Any]]:
    named = {"aesthetic": score_title(scorer)}
    return [{**asdict(chart), "title": named.get(chart.name, chart.title)} for chart in CHARTS]


def page(data: Mapping[str, Any]) -> bytes:
    """The page around its data."""
    return assembled("dataset.inspect.report", SCRIPTS, data, "img-src data:")


def _thresholds(cells: Cells) -> list[dict[str, Any]]:
    return [
        {
            "key": threshold.key,
            "angle": threshold.angle,
            "comparison": threshold.comparison,
            "upwards": threshold.rejects_upwards,
            "section": threshold.section,
            "title": threshold.title,
            "unit": threshold.unit,
            "stops": stops.tolist(),
            "at": position(threshold, stops),
        }
        for threshold, stops in zip(cells.thresholds, cells.stops, strict=True)
    ]


def _groups(cells: Cells) -> list[dict[str, Any]]:
    """The references, then the views by yaw; `arrays` follows this order."""
    return [
        {
            "yaw": group.yaw,
            "checks": [
                {
                    "threshold": cells.place(check.threshold),
                    "reason": reference_reason(check.reason) if group.yaw is None else check.reason,
                    "column": check.column,
                    "yaw": None if group.yaw is None else check.yaw,
                }
                for check in group.checks
            ],
            "cells": len(codes),
        }
        for group, codes in zip(cells.groups, cells.codes, strict=True)
    ]


def fitted(counts: RunCounts, most: int) -> bytes:
    """The counts in at most so many bytes, with fewer stops if need be and while there are any."""
    arrays = _arrays(counts)
    while len(arrays) > most:
        before = len(counts.cells)
        counts.cells.shrink(before * 3 // 4)
        if len(counts.cells) == before:
            break
        arrays = _arrays(counts)
    return arrays


def _arrays(counts: RunCounts) -> bytes:
    """Compressed: by group the bins (a row per check) and counts; then, of the identities held,
    1 + the cell in each group, and whether each is of the sample before it.

    Counts and cells are 32 bits as four planes of bytes, the lowest first: so they compress.
    """
    cells, parts = counts.cells, []
    for group, codes, numbers in zip(cells.groups, cells.codes, cells.counts, strict=True):
        parts += [_bytes(unpack(codes, len(group.checks))), _planes(numbers)]
    parts += [_planes(1 + column) for column in cells.find(cells.held).T]
    parts.append(_bytes(np.array(counts.second, bool)))
    return gzip.compress(b"".join(parts), 6, mtime=0)


def _bytes(values: npt.NDArray[Any]) -> bytes:
    return values.astype(np.uint8).tobytes()


def _planes(values: Codes) -> bytes:
    return values.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
