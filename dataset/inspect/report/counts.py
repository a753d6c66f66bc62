"""Reads a judged run into what the report is drawn from: cells, histograms, a few examples.

Histograms say by yaw how scores lie; the page draws quantiles from them, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from datapipe.run.tables import next_rows, parquet, score_segments
from dataset.inspect.report.bins import (
    ABSENT,
    BITS,
    Binning,
    Codes,
    Floats,
    PictureGroup,
    canonical,
    pack,
    slider_stops,
)
from dataset.inspect.report.cells import Cells
from dataset.judged import JudgedRun
from filters.checks import RuleChecks, Threshold, compile_rules
from filters.judge_sql import RANK

BARS = 60


@dataclass(frozen=True, slots=True)
class ScoreChart:
    """One score, as the page draws it."""

    name: str
    column: str
    title: str
    axis: str
    less_yaw: bool = False
    """Whether the yaw asked for is subtracted."""

    def drawn(self, scores: Mapping[str, Floats], yaw: int | Floats) -> Floats:
        """What is drawn of the scores of some views, each at its yaw."""
        values = scores[self.column]
        return values - yaw if self.less_yaw else values


CHARTS = (
    ScoreChart("sharpness", "sharpness", "Sharpness", "sharpness"),
    ScoreChart("sharpness_ratio", "sharpness_ratio", "Sharpness over reference", "ratio"),
    ScoreChart("aesthetic", "aesthetic", "Aesthetic", "score"),
    ScoreChart("identity_cosine", "identity_cosine", "Identity cosine", "cosine"),
    ScoreChart("pose_error", "measured_yaw", "Pose error", "degrees", less_yaw=True),
)


class Histogram:
    """Counts of the views by one score, for every yaw over the same bars."""

    def __init__(
        self, chart: ScoreChart, sample: Mapping[str, Floats], yaws: Iterable[int]
    ) -> None:
        """The scores of some views, `sample`, show where they lie; the end bars hold what lies
        outside, too."""
        self.chart = chart
        self.edges = _edges(chart, sample)
        self.counts = {yaw: np.zeros(BARS, np.int64) for yaw in yaws}
        self.unmeasured = dict.fromkeys(self.counts, 0)
        """Views without this score."""

    def add(self, yaw: int, scores: Mapping[str, Floats]) -> None:
        """Count some views at a yaw."""
        values = self.chart.drawn(scores, yaw)
        measured = values[~np.isnan(values)]
        places = (measured - self.edges[0]) * (BARS / (self.edges[-1] - self.edges[0]))
        places = places.clip(0, BARS - 1).astype(np.int64)
        self.counts[yaw] += np.bincount(places, minlength=BARS)
        self.unmeasured[yaw] += len(values) - len(measured)

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "edges": [float(f"{edge:.6g}") for edge in self.edges],
            "counts": {str(yaw): counts.tolist() for yaw, counts in self.counts.items()},
            "unmeasured": {str(yaw): count for yaw, count in self.unmeasured.items()},
        }


def _edges(chart: ScoreChart, sample: Mapping[str, Floats]) -> Floats:
    values = chart.drawn(sample, sample["yaw"])
    values = values[np.isfinite(values)]
    if not len(values):
        return np.linspace(0.0, 1.0, BARS + 1)
    low, high = np.quantile(values, (0.002, 0.998))
    if chart.less_yaw:
        high = min(max(abs(low), abs(high), 15.0), 60.0)
        low = -high
    return np.linspace(low, high if high > low else low + 1.0, BARS + 1)


SEGMENTS = 64
"""Segments, spread over the run, whose scores say where the stops and the bars should lie."""
ROWS = 200_000
"""Pictures coded at a time."""
MOST_CELLS = 1_600_000
"""Cells in the report, over all yaws: some 3 MB."""
MOST_WHILE_READING = 6_000_000
"""Cells in memory."""
EXAMPLES = 14
"""Examples of each fate at each yaw, from which the pictures are chosen."""
PASSED = "passed"
_SPREAD = (1 << 64) // 181
"""So far apart, the numbers of 181 yaws fill 64 bits."""


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A picture worth showing."""

    rank: int
    key: str
    identity: int
    yaw: int | None
    """None for the reference."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What a run comes to."""

    cells: Cells
    codes: Codes
    """The codes of every identity, (groups, identities), by its `rowid` in `identities`."""
    histograms: Sequence[Histogram]
    samples: int
    """Samples whose identities are held one by one."""
    second: Sequence[bool]
    """For each such identity, whether it belongs to the sample of the one before."""
    examples: Mapping[str, Sequence[Example]]
    """By fate: `PASSED`, or the reason of a rejection; the lowest ranks of each yaw."""


def count(judged: JudgedRun, candidates: int, hold: int) -> RunCounts:
    """Count a run of so many candidates; about `hold` of them are held whole, all of them where
    there are no more.

    Raises UserError when the tables cannot be read.
    """
    connection, checks = judged.connection, compile_rules(judged.rules)
    references, views = (_sample(judged, table, checks) for table in ("refs", "views"))
    cells = Cells(checks, stops_for(checks, references, views))
    drawn = [Histogram(chart, views, checks.views) for chart in CHARTS]
    codes = count_pictures(connection, cells, drawn)
    limit = (1 << 64) - 1 if candidates <= hold else (hold << 64) // candidates
    held = connection.sql(
        f"SELECT key, rowid FROM identities WHERE md5_number_lower(key) <= {limit} "
        "ORDER BY key, identity"
    ).to_arrow_table()
    keys = held["key"].to_pylist()
    cells.hold(codes[:, held["rowid"].to_numpy()].T)
    cells.shrink(MOST_CELLS)
    return RunCounts(
        cells=cells,
        codes=codes,
        histograms=drawn,
        samples=len(set(keys)),
        second=[row > 0 and keys[row - 1] == key for row, key in enumerate(keys)],
        examples=_examples(connection),
    )


def _columns(table: str, checks: RuleChecks) -> list[str]:
    """The scores of references, or of views, that some check or some chart looks at."""
    if table == "refs":
        return sorted({check.column for check in checks.reference})
    tested = {check.column for view in checks.views.values() for check in view.own}
    return sorted(tested | {chart.column for chart in CHARTS})


def _sample(judged: JudgedRun, table: str, checks: RuleChecks) -> dict[str, Floats]:
    """The scores of references or views of a part of the run, and of views the yaws."""
    columns = [*_columns(table, checks), *(["yaw"] if table == "views" else [])]
    folder = {"refs": "references"}.get(table, table)
    names = score_segments(judged.run, folder, judged.info.scoring.generation)
    names = names[:: -(-len(names) // SEGMENTS) or 1]
    source = parquet(judged.run, names) if names else table
    query = f"SELECT {', '.join(columns)} FROM {source} SEMI JOIN candidates USING (key)"
    found = judged.connection.sql(query).to_arrow_table()
    return {name: _floats(found[name]) for name in columns}


def _floats(column: pa.Array | pa.ChunkedArray) -> Floats:
    """NaN where there is no score; 1 for a yes."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))


def stops_for(
    checks: RuleChecks, references: Mapping[str, Floats], views: Mapping[str, Floats]
) -> list[Floats]:
    """The stops of each threshold, for the scores of some references, and of views with yaws."""
    found: dict[Threshold, list[Floats]] = {threshold: [] for threshold in checks.thresholds}
    for check in checks.reference:
        if check.threshold:
            found[check.threshold].append(references[check.column])
    for yaw, view in checks.views.items():
        here = views["yaw"] == yaw
        for check in view.own:
            if check.threshold:
                scores = views[check.column][here]
                found[check.threshold].append(check.threshold.compared(yaw, scores))
    return [slider_stops(one, np.concatenate(values)) for one, values in found.items()]


def count_pictures(
    connection: duckdb.DuckDBPyConnection, cells: Cells, drawn: Iterable[Histogram]
) -> Codes:
    """Count every picture of the judged tables in its cell, and every view in the histograms.

    Returns the codes of every identity, (groups, identities), in a file that is read as memory.
    """
    ((identities,),) = connection.execute("SELECT count(*) FROM identities").fetchall()
    with tempfile.TemporaryFile(prefix="harmoview-") as file:
        shape = len(cells.groups), max(identities, 1)  # an empty file cannot be mapped
        codes: Codes = np.memmap(file, np.int64, "w+", shape=shape)[:, :identities]
    codes[:] = ABSENT
    places = {group.yaw: place for place, group in enumerate(cells.groups)}
    binnings = [
        [(check.column, Binning.of(check, cells.stops_of(check))) for check in group.own]
        for group in cells.groups
    ]
    for table in ("refs", "views"):
        for yaw, identity, scores in _pictures(connection, table, cells):
            own = binnings[places[yaw]]
            codes[places[yaw], identity] = pack([bins(scores[name]) for name, bins in own])
            if yaw is not None:
                for histogram in drawn:
                    histogram.add(yaw, scores)
    for start in range(0, identities, ROWS):
        part = codes[:, start : start + ROWS]
        part[:] = [_whole_code(cells.groups, index, part) for index in range(len(part))]
    for index, column in enumerate(codes):
        found, counts = np.unique(column, return_counts=True)
        present = found != ABSENT
        cells.count(index, found[present], counts[present])
        cells.shrink(MOST_WHILE_READING)
    return codes


def _pictures(
    connection: duckdb.DuckDBPyConnection, table: str, cells: Cells
) -> Iterator[tuple[int | None, Codes, dict[str, Floats]]]:
    """The references, under no yaw, or the views, some at one yaw at a time: the places of their
    identities, and their scores."""
    columns = _columns(table, cells.checks)
    yaw, source = ("NULL", "refs") if table == "refs" else ("yaw", "shown")
    reader = connection.sql(
        f"SELECT identities.rowid AS identity, {yaw} AS yaw, {', '.join(columns)} "
        f"FROM {source} JOIN identities USING (key, identity)"
    ).to_arrow_reader(ROWS)
    while (part := next_rows(reader)) is not None:
        identity, yaws = part["identity"].to_numpy(), _floats(part["yaw"])
        scores = {name: _floats(part[name]) for name in columns}
        if table == "refs":
            yield None, identity, scores
            continue
        for at in cells.checks.views:
            here = np.flatnonzero(yaws == at)
            yield at, identity[here], {name: values[here] for name, values in scores.items()}


def _whole_code(groups: Sequence[PictureGroup], index: int, own: Codes) -> Codes:
    """Behind the bins of a group's own checks, those that the nearer views have in theirs; 0 for a
    nearer view that was not made."""
    places = {group.yaw: place for place, group in enumerate(groups)}
    code = own[index]
    for check in groups[index].nearer:
        nearer = places[check.yaw]
        tests = [(other.column, other.threshold) for other in groups[nearer].own]
        shift = BITS * (len(tests) - 1 - tests.index((check.column, check.threshold)))
        bins = np.where(own[nearer] == ABSENT, 0, own[nearer] >> shift & (1 << BITS) - 1)
        code = np.where(code == ABSENT, ABSENT, code << BITS | bins)
    return canonical(code, len(groups[index].checks))


def _examples(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Example]]:
    """The pictures of lowest rank, for each fate and yaw."""
    example = "{'rank': rank, 'key': key, 'identity': identity}"
    # other ranks at every yaw, so that not the same faces stand for all
    ranked = f"* REPLACE (xor(rank, (yaw + 90)::UBIGINT * {_SPREAD}::UBIGINT) AS rank)"
    found: dict[str, list[Example]] = {}
    for query in (
        f"SELECT reason, NULL, min({example}, {EXAMPLES}) FROM (SELECT *, {RANK} AS rank "
        "FROM identities WHERE reason IS NOT NULL) GROUP BY reason",
        f"SELECT coalesce(reason, '{PASSED}'), yaw, min({example}, {EXAMPLES}) "
        f"FROM (SELECT {ranked} FROM judged) GROUP BY reason, yaw",
    ):
        for fate, yaw, examples in connection.execute(query).fetchall():
            found.setdefault(fate, []).extend(Example(**one, yaw=yaw) for one in examples)
    return found
