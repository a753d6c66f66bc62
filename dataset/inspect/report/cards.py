"""The pictures of the report: some of every fate, with what the rules say of each."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from datapipe.record import Scores
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from dataset.inspect.report.counts import Example, RunCounts
from dataset.judged import JudgedRun, Row
from filters.judge import IdentityVerdict, Judge, scores_of

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
