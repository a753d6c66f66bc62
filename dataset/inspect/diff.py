"""What two sets of rules make different of the same scores: as counts, and as a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
from PIL import Image, ImageDraw

from datapipe.files import Folder
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from dataset.inspect.sheet import (
    AMBER,
    GAP,
    GREEN,
    GREY,
    INK,
    MARGIN,
    NOTE,
    PAPER,
    PICTURE,
    RED,
    draw_inset,
    draw_picture,
    font,
    jpeg,
    numbers_of,
    wrap,
)
from dataset.judged import Row, candidate_tables, check_scores
from filters.judge import Judge, Verdict
from filters.judge_sql import TableJudge
from filters.rules import Rules

FORMAT = 1
EXAMPLES = 5
"""Keys that are named of the samples that change."""
COLUMNS = 8
"""Pictures in a row of the contact sheet."""
INSET = 60
"""The side of the reference in a corner of its view, in pixels."""
_HEAD, _NAME = 76, 34
"""Pixels above everything on the sheet, and above a picture for its name."""


@dataclass
class PassChange:
    """How many things pass by A and by B, and how many of them change sides."""

    a: int = 0
    b: int = 0
    lost: int = 0
    """By A and not by B."""
    gained: int = 0
    """By B and not by A."""

    def add(self, count: int, a: bool, b: bool) -> None:
        """So many things that pass by A or not, and by B or not."""
        self.a += count * a
        self.b += count * b
        self.lost += count * (a and not b)
        self.gained += count * (b and not a)


@dataclass
class YawChange:
    """The views at one yaw."""

    yaw: int
    passed: PassChange = field(default_factory=PassChange)
    """Views that no rule rejects."""
    kept: PassChange = field(default_factory=PassChange)
    """Those whose identity is kept, too: what goes into shards."""
    lost_by: Counter[str] = field(default_factory=Counter)
    """Of views that pass by A alone, the rule of B that they fail first."""
    gained_from: Counter[str] = field(default_factory=Counter)
    """Of views that pass by B alone, the rule of A that they fail first."""


@dataclass(frozen=True, slots=True)
class ChangedView:
    """A view that changes sides, with all that was measured of its identity."""

    key: str
    identity: int
    yaw: int
    candidate: str
    reference: Row
    views: Sequence[Row]


@dataclass
class Diff:
    """Everything `harmoview rules diff` knows."""

    candidates: int = 0
    yaws: dict[int, YawChange] = field(default_factory=dict)
    identities: PassChange = field(default_factory=PassChange)
    windows: PassChange = field(default_factory=PassChange)
    """Spans that pass the rules for windows, of identities kept or not."""
    windows_lost_by: Counter[str] = field(default_factory=Counter)
    """Of windows that pass by A alone, the rule of B that they fail first."""
    windows_gained_from: Counter[str] = field(default_factory=Counter)
    trained: PassChange = field(default_factory=PassChange)
    """Identities that are kept and have a window that passes: `encode` leaves the others out."""
    samples: PassChange = field(default_factory=PassChange)
    lost_samples: list[str] = field(default_factory=list)
    """The first keys."""
    gained_samples: list[str] = field(default_factory=list)
    changed_samples: int = 0
    """Packed by both, with other views or identities."""
    changed_examples: list[str] = field(default_factory=list)
    lost: list[ChangedView] = field(default_factory=list)
    """Drawn evenly from the views that leave; the same ones each time."""
    gained: list[ChangedView] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/inspect.md` describes them."""
        return {
            "format": FORMAT,
            "candidates": self.candidates,
            "samples": {
                **vars(self.samples),
                "lost_examples": self.lost_samples,
                "gained_examples": self.gained_samples,
                "changed": self.changed_samples,
                "changed_examples": self.changed_examples,
            },
            "identities": vars(self.identities),
            "windows": {
                **vars(self.windows),
                "lost_by": dict(self.windows_lost_by.most_common()),
                "gained_from": dict(self.windows_gained_from.most_common()),
                "identities": vars(self.trained),
            },
            "yaws": [
                {
                    "yaw": yaw,
                    "passed": vars(change.passed),
                    "kept": vars(change.kept),
                    "lost_by": dict(change.lost_by.most_common()),
                    "gained_from": dict(change.gained_from.most_common()),
                }
                for yaw, change in sorted(self.yaws.items())
            ],
        }


def rules_diff(run: Folder, a: Rules, b: Rules, views: int) -> Diff:
    """Judge a run's scores by both; `views` is the most that are drawn of each direction.

    Raises UserError when the run cannot be read or lacks scores.
    """
    diff, info = Diff(), load_info(run)
    with candidate_tables(run, info) as connection:
        by_a, by_b = TableJudge(a), TableJudge(b)
        by_a.compare(connection, by_b)
        by_a.compare_windows(connection, by_b)
        check_scores(connection)
        _count_views(diff, connection)
        _count_windows(diff, connection)
        _count_samples(diff, connection)
        if views:
            diff.lost, diff.gained = _drawn(connection, views)
    return diff


def _count_views(diff: Diff, connection: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT yaw, a, b, kept_a, kept_b, count(*) FROM both_views GROUP BY ALL ORDER BY ALL"
    for yaw, a, b, kept_a, kept_b, count in connection.execute(query).fetchall():
        change = diff.yaws.setdefault(yaw, YawChange(yaw))
        change.passed.add(count, a is None, b is None)
        change.kept.add(count, kept_a, kept_b)
        if a is None and b is not None:
            change.lost_by[b] += count
        elif b is None and a is not None:
            change.gained_from[a] += count


def _count_windows(diff: Diff, connection: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT a, b, count(*) FROM both_windows SEMI JOIN candidates USING (key) GROUP BY ALL"
    for a, b, count in connection.execute(f"{query} ORDER BY ALL").fetchall():
        diff.windows.add(count, a is None, b is None)
        if a is None and b is not None:
            diff.windows_lost_by[b] += count
        elif b is None and a is not None:
            diff.windows_gained_from[a] += count
    trained = """SELECT count(*), own.a IS NULL AND seen.a, own.b IS NULL AND seen.b
        FROM both_identities AS own JOIN (
            SELECT key, identity, bool_or(a IS NULL) AS a, bool_or(b IS NULL) AS b
            FROM both_windows GROUP BY ALL) AS seen USING (key, identity)
        GROUP BY ALL"""
    for row in connection.execute(trained).fetchall():
        diff.trained.add(*row)


def _count_samples(diff: Diff, connection: duckdb.DuckDBPyConnection) -> None:
    (diff.candidates,) = connection.execute("SELECT count(*) FROM candidates").fetchone() or (0,)
    identities = "SELECT count(*), a IS NULL, b IS NULL FROM both_identities GROUP BY ALL"
    for row in connection.execute(identities).fetchall():
        diff.identities.add(*row)
    samples = f"""
        SELECT count(*), a, b, a AND b AND key IN (
                SELECT key FROM both_views WHERE kept_a <> kept_b
                UNION ALL SELECT key FROM both_views
                    JOIN own_source AS own USING (key, identity, yaw)
                    JOIN shown AS now USING (key, identity, yaw)
                    WHERE kept_a AND kept_b AND own.source <> now.source) AS changed,
            min(key, {EXAMPLES})
        FROM (SELECT key, bool_or(a IS NULL) AS a, bool_or(b IS NULL) AS b
            FROM both_identities GROUP BY key)
        GROUP BY ALL"""
    for count, a, b, changed, keys in connection.execute(samples).fetchall():
        diff.samples.add(count, a, b)
        if a and not b:
            diff.lost_samples = keys
        elif b and not a:
            diff.gained_samples = keys
        elif changed:
            diff.changed_samples, diff.changed_examples = count, keys


def _drawn(connection: duckdb.DuckDBPyConnection, most: int) -> list[list[ChangedView]]:
    """Those that leave, then those that come, each by key, identity and yaw.

    The ones whose hash is smallest; those that change sides themselves come before those that go
    with their identity.
    """
    halves = [
        f"""(SELECT key, identity, yaw, '{left}' AS side FROM both_views
            WHERE kept_{left} AND NOT kept_{right} OR {left} IS NULL AND {right} IS NOT NULL
            ORDER BY {right} IS NULL, md5(concat(key, ' ', identity, ' ', yaw)) LIMIT {most})"""
        for left, right in ("ab", "ba")
    ]
    connection.execute(f"CREATE TEMP TABLE drawn AS {' UNION ALL '.join(halves)}")

    def rows(query: str) -> list[Row]:
        return list(connection.sql(query).to_arrow_table().to_pylist())

    labels = "recogniser, pose_estimator"
    same = "SEMI JOIN drawn USING (key, identity)"
    references = {
        (row["key"], row["identity"]): row
        for row in rows(f"SELECT * EXCLUDE (embedding, {labels}) FROM refs {same}")
    }
    views: dict[tuple[str, int], list[Row]] = {}
    for row in rows(f"SELECT * EXCLUDE ({labels}) FROM views {same} ORDER BY yaw, source"):
        views.setdefault((row["key"], row["identity"]), []).append(row)
    found: dict[str, list[ChangedView]] = {"a": [], "b": []}
    changed = "SELECT drawn.*, candidate FROM drawn JOIN ledger USING (key)"
    for row in rows(f"{changed} WHERE outcome = 'candidate' ORDER BY key, identity, yaw"):
        whose = row["key"], row["identity"]
        measured = references[whose], views[whose]
        found[row["side"]].append(ChangedView(*whose, row["yaw"], row["candidate"], *measured))
    return [found["a"], found["b"]]


@dataclass(frozen=True, slots=True)
class _Tile:
    view: ChangedView
    verdict: Verdict
    colour: tuple[int, int, int]
    pictures: Pictures | None
    row: Row
    """Of the view that was judged."""


def changes_sheet(run: Folder, title: str, diff: Diff, a: Rules, b: Rules) -> bytes:
    """A JPEG of the views that were drawn, each with its reference in the corner.

    Raises UserError when the run cannot be read.
    """
    store = CandidateStore(run, load_info(run).settings_hash)
    lost = [_tile(view, Judge(b), store, RED, "") for view in diff.lost]
    gained = [_tile(view, Judge(a), store, GREEN, "was ") for view in diff.gained]
    changes = [change.passed for change in diff.yaws.values()]
    leave, come = sum(c.lost for c in changes), sum(c.gained for c in changes)
    sections = [
        (f"{leave:,} views pass by A and not by B", _of(lost, RED)),
        ("Leave with their identity", _of(lost, AMBER)),
        (f"{come:,} views pass by B and not by A", _of(gained, GREEN)),
        ("Come with their identity", _of(gained, AMBER)),
    ]
    shown = [(f"{text} ({len(tiles)} shown)", tiles) for text, tiles in sections if tiles]
    return jpeg(_draw(title if shown else f"{title}: no view changes sides", shown))


def _of(tiles: Sequence[_Tile], colour: tuple[int, int, int]) -> list[_Tile]:
    return [tile for tile in tiles if tile.colour == colour]


def _tile(
    view: ChangedView,
    judge: Judge,
    store: CandidateStore,
    colour: tuple[int, int, int],
    prefix: str,
) -> _Tile:
    (identity,) = judge.rows([view.reference], view.views).identities
    verdict = identity.views[view.yaw]
    if verdict.passed:  # by both rules, but its identity does not
        verdict, colour = identity.verdict, AMBER
    try:
        pictures = store.read(view.candidate).pictures[view.identity]
    except (FileNotFoundError, DamagedCandidate):
        pictures = None
    (row,) = [row for row in judge.shown(view.views) if row["yaw"] == view.yaw]
    return _Tile(view, replace(verdict, reason=f"{prefix}{verdict.reason}"), colour, pictures, row)


def _draw(title: str, sections: Sequence[tuple[str, Sequence[_Tile]]]) -> Image.Image:
    columns = max([6, *(min(len(tiles), COLUMNS) for _, tiles in sections)])
    step = _NAME + PICTURE + NOTE + GAP
    rows = sum(-(-len(tiles) // COLUMNS) for _, tiles in sections)
    height = _HEAD + 40 * len(sections) + step * rows + MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + columns * (PICTURE + GAP) - GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), title, INK, font(24))
    legend = "red: the rule of B that fails; green: that of A; amber: why its identity is left out"
    draw.text((MARGIN, 50), legend, GREY, font(14))
    top = _HEAD
    for text, tiles in sections:
        draw.text((MARGIN, top + 10), text, INK, font(18))
        top += 40
        for start in range(0, len(tiles), COLUMNS):
            for column, tile in enumerate(tiles[start : start + COLUMNS]):
                _draw_tile(sheet, draw, tile, MARGIN + column * (PICTURE + GAP), top)
            top += step
    return sheet


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: _Tile, left: int, top: int
) -> None:
    view, row = tile.view, tile.row
    draw.text((left, top), wrap(view.key, 13, PICTURE, 1)[0], INK, font(13))
    yaw = f"{view.yaw:+d}°" if view.yaw else "0°"
    draw.text((left, top + 16), f"identity {view.identity}, {yaw}", GREY, font(13))
    picture = tile.pictures.of(view.yaw, row["source"]) if tile.pictures else None
    place = left, top + _NAME
    draw_picture(sheet, place, picture, tile.verdict, numbers_of(row), tile.colour)
    if tile.pictures is not None:
        away = 4 if view.yaw > 0 else PICTURE - INSET - 4  # from where the face looks
        draw_inset(sheet, (left + away, top + _NAME + 4), tile.pictures.reference, INSET)
