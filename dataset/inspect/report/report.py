"""The report: counts and pictures of a run inside one page that asks for nothing else.

The pictures are some of every fate, with what the rules say of each.
"""

from __future__ import annotations

import base64
import gzip
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from datapipe.record import Scores
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from dataset.inspect.page import assembled
from dataset.inspect.report.bins import Codes, position, unpack
from dataset.inspect.report.cells import Cells
from dataset.inspect.report.counts import CHARTS, PASSED, Example, RunCounts, count
from dataset.inspect.stats import Stats
from dataset.judged import JudgedRun, Row
from filters.checks import VIEW_REASONS, reference_reason, score_title
from filters.judge import IdentityVerdict, Judge, scores_of
from filters.rules_file import settings

MOST = 14
"""Cards of one fate."""
SIDE, QUALITY = 128, 72
"""Pixels of a thumbnail's side, and how finely WebP keeps it: some 3 kB."""
SHOWN = (
    "sharpness",
    "sharpness_ratio",
    "aesthetic",
    "expression",
    "identity_cosine",
    "measured_yaw",
    "measured_pitch",
    "measured_roll",
)
"""Scores on a card."""


class Album:
    """Thumbnails as data URIs, each once."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._known: dict[bytes, int] = {}

    def add(self, picture: bytes) -> int | None:
        """The place of its thumbnail; None when the bytes are not a picture."""
        if picture not in self._known:
            try:
                with Image.open(io.BytesIO(picture)) as opened:
                    small = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            except (UnidentifiedImageError, OSError):
                return None
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=QUALITY, method=6)
            code = base64.b64encode(buffer.getvalue()).decode()
            self._known[picture] = len(self.uris)
            self.uris.append(f"data:image/webp;base64,{code}")
        return self._known[picture]


@dataclass(frozen=True, slots=True)
class _Identity:
    """What the run knows of an identity that is shown."""

    rows: dict[int | None, Row]
    """By yaw; of the reference under None."""
    verdict: IdentityVerdict
    cells: list[int]
    """For each group of pictures the place of its cell; -1 for a view that is not there."""


def cards(judged: JudgedRun, counts: RunCounts) -> tuple[list[dict[str, Any]], list[str]]:
    """The cards by fate, JSON types, and the thumbnails that they name by number.

    A candidate that is lost or damaged leaves its cards without pictures. Raises UserError when
    the tables cannot be read.
    """
    chosen = [
        (fate, example)
        for fate, examples in sorted(counts.examples.items())
        for example in _of_many_yaws(examples)
    ]
    identities = _look_up(judged, counts, [example for _, example in chosen])
    store, album = CandidateStore(judged.run, judged.info.settings_hash), Album()
    candidates: dict[str, Candidate | None] = {}
    made = []
    for fate, example in chosen:
        if example.key not in candidates:
            candidates[example.key] = _candidate(store, example.key)
        identity = identities[example.key, example.identity]
        made.append(
            _card(fate, example, identity)
            | _pictures(album, candidates[example.key], example, identity.rows[example.yaw])
        )
    return made, album.uris


def _of_many_yaws(examples: Sequence[Example]) -> list[Example]:
    """A few, of as many yaws as there are; the lowest ranks of each first."""
    nth: dict[int, int] = defaultdict(int)
    turns = []
    for example in sorted(examples, key=lambda example: example.rank):
        yaw = example.yaw or 0
        turns.append((nth[yaw], abs(yaw), yaw, example.rank, example))
        nth[yaw] += 1
    return [turn[-1] for turn in sorted(turns)[:MOST]]


def _look_up(
    judged: JudgedRun, counts: RunCounts, examples: Sequence[Example]
) -> dict[tuple[str, int], _Identity]:
    """The identities of some examples, by key and number."""
    connection, cells, judge = judged.connection, counts.cells, Judge(judged.rules)
    wanted = [{"key": one.key, "identity": one.identity} for one in examples]
    schema = pa.schema([("key", pa.string()), ("identity", pa.int32())])
    connection.register("wanted", pa.Table.from_pylist(wanted, schema))
    these = "SEMI JOIN wanted USING (key, identity)"
    rows: dict[tuple[str, int], dict[int | None, Row]] = defaultdict(dict)
    columns = f"key, identity, {', '.join(Scores.__dataclass_fields__)}"
    of_views = f"SELECT yaw, source, {columns} FROM shown"
    for query in (f"SELECT NULL AS yaw, {columns} FROM refs", of_views):
        for row in connection.sql(f"{query} {these}").to_arrow_table().to_pylist():
            rows[row["key"], row["identity"]][row["yaw"]] = row
    found = {}
    places = connection.execute(f"SELECT key, identity, rowid FROM identities {these}").fetchall()
    for name, number, place in places:
        key = name, number
        scores = {yaw: scores_of(row) for yaw, row in rows[key].items()}
        reference = scores.pop(None)
        views = {yaw: of_view for yaw, of_view in scores.items() if yaw is not None}
        verdict = judge.identity(reference, views)
        found[key] = _Identity(rows[key], verdict, cells.find(counts.codes[:, place]).tolist())
    return found


def _card(fate: str, example: Example, identity: _Identity) -> dict[str, Any]:
    verdict, row = identity.verdict.verdict, identity.rows[example.yaw]
    if example.yaw is not None:
        verdict = identity.verdict.views[example.yaw]
    return {
        "fate": fate,
        "yaw": example.yaw,
        "key": example.key,
        "identity": example.identity,
        "detail": verdict.detail,
        "scores": {name: float(f"{row[name]:.4g}") for name in SHOWN if row[name] is not None},
        "cells": identity.cells,
    }


def _pictures(
    album: Album, candidate: Candidate | None, example: Example, row: Row
) -> dict[str, Any]:
    if candidate is None or example.identity >= len(candidate.pictures):
        return {"reference": None, "picture": None, "caption": ""}
    pictures = candidate.pictures[example.identity]
    view = None if example.yaw is None else pictures.of(example.yaw, row["source"])
    return {
        "reference": album.add(pictures.reference),
        "picture": None if view is None else album.add(view),
        "caption": candidate.sample.caption[:300],
    }


def _candidate(store: CandidateStore, key: str) -> Candidate | None:
    try:
        return store.read(store.name(key))
    except (FileNotFoundError, DamagedCandidate):
        return None


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
