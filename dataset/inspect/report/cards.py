"""The pictures of the report: some of every fate, with what the rules say of each."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from dataset.inspect.report.bins import Codes
from dataset.inspect.report.cells import ABSENT
from dataset.inspect.report.count import Counted, Example, code_identities
from dataset.inspect.report.segments import SCORES, identities, read_tables
from filters.judge import IdentityVerdict, Judge
from filters.rules import Rules

MOST = 14
"""Of one fate."""
SIDE, QUALITY = 128, 72
"""Pixels of a thumbnail's side, and how finely WebP keeps it: some 3 kB."""


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


def cards(
    run: Folder, info: RunInfo, counted: Counted, rules: Rules
) -> tuple[list[dict[str, Any]], list[str]]:
    """The cards by fate, JSON types, and the thumbnails that they name by number.

    A candidate that is lost or damaged leaves its cards without pictures. Raises UserError when
    the tables cannot be read.
    """
    chosen = [
        (fate, example)
        for fate, examples in sorted(counted.examples.items())
        for example in _mixed(examples)
    ]
    found = _look_up(run, counted, [example for _, example in chosen], Judge(rules))
    store, album = CandidateStore(run, info.settings_hash), Album()
    candidates: dict[str, Candidate | None] = {}
    made = []
    for fate, example in chosen:
        if example.key not in candidates:
            candidates[example.key] = _candidate(store, example.key)
        notes, rows, cells = found[example.key, example.number]
        made.append(
            _card(fate, example, notes, rows)
            | {"cells": cells}
            | _pictures(album, candidates[example.key], example)
        )
    return made, album.uris


def _mixed(examples: Sequence[Example]) -> list[Example]:
    """A few, of as many yaws as there are."""
    nth: dict[int, int] = defaultdict(int)
    turns = []
    for example in examples:
        yaw = example.yaw or 0
        turns.append((nth[yaw], abs(yaw), yaw, example.rank, example))
        nth[yaw] += 1
    return [turn[-1] for turn in sorted(turns)[:MOST]]


_Found = dict[tuple[str, int], tuple[IdentityVerdict, dict[int | None, Any], list[int]]]


def _look_up(run: Folder, counted: Counted, examples: Sequence[Example], judge: Judge) -> _Found:
    """By key and identity: the rules in words, the rows by yaw (None: the reference), the cells."""
    joint, found = counted.joint, {}
    keys: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        keys[example.segment].add(example.key)
    for segment, wanted in keys.items():
        tables = read_tables(run, segment, (*SCORES, "face_size"), sorted(wanted))
        part = identities([tables], [segment], joint.plan.yaws)
        cells = _cells(counted, code_identities(joint, part))
        references, views = ([*table.to_pylist()] for table in tables)
        notes = {key: _explained(key, references, views, judge) for key in wanted}
        for row, (place, number) in enumerate(zip(part.key, part.number, strict=True)):
            key, number = part.keys[place], int(number)
            rows = {
                line.get("yaw"): line
                for line in (*references, *views)
                if (line["key"], line["identity"]) == (key, number)
            }
            found[key, number] = notes[key][number], rows, cells[row]
    return found


def _explained(
    key: str, references: list[Any], views: list[Any], judge: Judge
) -> Sequence[IdentityVerdict]:
    own = sorted((row for row in references if row["key"] == key), key=lambda r: r["identity"])
    return judge.rows(own, [row for row in views if row["key"] == key]).identities


def _cells(counted: Counted, codes: Codes) -> list[list[int]]:
    """Places of codes among the cells of their groups, -1 for views that are not there."""
    columns = [
        np.where(column == ABSENT, -1, np.searchsorted(group.codes, column))
        for group, column in zip(counted.joint.groups, codes.T, strict=True)
    ]
    return [[int(cell) for cell in row] for row in np.stack(columns, axis=1)]


def _card(
    fate: str, example: Example, notes: IdentityVerdict, rows: dict[int | None, Any]
) -> dict[str, Any]:
    note = notes.verdict if example.yaw is None else notes.views[example.yaw]
    row = rows[example.yaw]
    scores = {name: float(f"{row[name]:.4g}") for name in SCORES if row[name] is not None}
    return {
        "fate": fate,
        "yaw": example.yaw,
        "key": example.key,
        "identity": example.number,
        "detail": note.detail,
        "scores": scores,
    }


def _pictures(album: Album, candidate: Candidate | None, example: Example) -> dict[str, Any]:
    if candidate is None or example.number >= len(candidate.pictures):
        return {"reference": None, "picture": None, "caption": ""}
    pictures = candidate.pictures[example.number]
    view = None if example.yaw is None else pictures.views.get(example.yaw)
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
