"""The scores of a run as matrices, identities by yaws, some segments at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.ledger import ledger_segments, score_segments
from dataset.inspect.report.bins import Floats

SCORES = (
    "sharpness",
    "sharpness_ratio",
    "aesthetic",
    "identity_cosine",
    "measured_yaw",
    "measured_pitch",
    "measured_roll",
)
ROWS = 400_000
"""Views held at a time; a segment, which is never divided, may hold more."""
AHEAD, AHEAD_FAR = 4, 32
"""Segments read while others are counted; object stores answer slowly."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The same picture of many identities: their references, or their views at one yaw."""

    present: NDArray[np.bool_]
    detected: NDArray[np.bool_]
    scores: dict[str, Floats]
    """NaN where there is no score."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Some identities with everything that was measured of them."""

    segments: list[str]
    segment: NDArray[np.int64]
    """Of each identity, its place in `segments`."""
    keys: list[str]
    key: NDArray[np.int64]
    """Of each identity, its place in `keys`."""
    rank: NDArray[np.uint64]
    """A number drawn from the key: the same on every machine, spread evenly over all it holds."""
    number: NDArray[np.int64]
    """Which identity of its sample."""
    references: Pictures
    views: dict[int, Pictures]

    def __len__(self) -> int:
        return len(self.key)


def segments(run: Folder, info: RunInfo) -> list[str]:
    """The names that `views/` and `references/` share, of the current scoring.

    Without those that a killed driver left: it writes the ledger's segment last.
    """
    prefix = f"g{info.scoring.generation:04d}-"
    finished = {name.rsplit("/", 1)[1] for name in ledger_segments(run)}
    scored = score_segments(run, "references", info.scoring.generation)
    names = [name.rsplit("/", 1)[1] for name in scored]
    return [
        name
        for name in names
        if not (number := name.removeprefix(prefix)).split(".")[0].isdigit() or number in finished
    ]


def read(run: Folder, names: Sequence[str], yaws: Sequence[int]) -> Iterator[Identities]:
    """Every identity of these segments. Raises UserError where the files cannot be read."""
    waiting: list[tuple[pa.Table, pa.Table]] = []
    labels: list[str] = []
    for name, tables in _ahead(run, names):
        waiting.append(tables)
        labels.append(name)
        if sum(len(views) for _, views in waiting) >= ROWS:
            yield identities(waiting, labels, yaws)
            waiting, labels = [], []
    if waiting:
        yield identities(waiting, labels, yaws)


def _ahead(run: Folder, names: Sequence[str]) -> Iterator[tuple[str, tuple[pa.Table, pa.Table]]]:
    """Segments in their order; the next few are read meanwhile."""
    coming: deque[tuple[str, Future[tuple[pa.Table, pa.Table]]]] = deque()
    ahead = AHEAD_FAR if run.local is None else AHEAD
    with ThreadPoolExecutor(ahead) as pool:
        for name in names:
            coming.append((name, pool.submit(read_tables, run, name, SCORES)))
            if len(coming) > ahead:
                name, future = coming.popleft()
                yield name, future.result()
        for name, future in coming:
            yield name, future.result()


def read_tables(
    run: Folder, name: str, scores: Sequence[str], keys: Sequence[str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """A segment's references and views; of some keys only, if given.

    Raises UserError when they cannot be read.
    """
    columns = ["key", "identity", "detected", *scores]
    filters = None if keys is None else pc.field("key").isin(list(keys))

    def table(path: str, columns: list[str]) -> pa.Table:
        with run.open(path) as file:
            return pq.read_table(file, columns=columns, filters=filters)

    try:
        references = table(f"references/{name}", columns)
        return references, table(f"views/{name}", ["yaw", *columns])
    except (OSError, pa.ArrowException) as wrong:
        raise UserError(f"the tables of {run.url} cannot be read: {name}: {wrong}") from wrong


def identities(
    parts: Sequence[tuple[pa.Table, pa.Table]], labels: Sequence[str], yaws: Sequence[int]
) -> Identities:
    """Segments of references and views, `labels` their names, as matrices."""
    references = pa.concat_tables([reference for reference, _ in parts])
    views = pa.concat_tables([view for _, view in parts])
    keys = references["key"].unique()
    most = 1 + max(pc.max(table["identity"]).as_py() or 0 for table in (references, views))
    own, owner = _codes(references, keys, most), _codes(views, keys, most)
    row = np.full(len(keys) * most, -1)
    row[own] = np.arange(len(own))
    owner = row[owner]
    numbers = np.repeat(np.arange(len(parts)), [len(reference) for reference, _ in parts])
    yaw = views["yaw"].to_numpy()
    return Identities(
        segments=list(labels),
        segment=numbers,
        keys=(names := keys.to_pylist()),
        key=own // most,
        rank=_ranks(names)[own // most],
        number=own % most,
        references=_pictures(references, np.arange(len(own)), len(own)),
        views={
            wanted: _pictures(views.filter(pa.array(here)), owner[here], len(own))
            for wanted in yaws
            for here in [yaw == wanted]
        },
    )


def _codes(rows: pa.Table, keys: pa.Array, most: int) -> NDArray[np.int64]:
    index = pc.index_in(rows["key"], keys).to_numpy().astype(np.int64)
    codes: NDArray[np.int64] = index * most + rows["identity"].to_numpy()
    return codes


def _pictures(rows: pa.Table, place: NDArray[np.int64], count: int) -> Pictures:
    def spread(name: str) -> Floats:
        column = np.full(count, np.nan)
        column[place] = rows[name].to_numpy()
        return column

    present, detected = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    present[place] = True
    detected[place] = rows["detected"].to_numpy()
    return Pictures(present, detected, {name: spread(name) for name in SCORES})


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers stirred until they are spread evenly (the finish of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: NDArray[np.uint64] = numbers ^ (numbers >> np.uint64(31))
    return found


def _ranks(keys: list[str]) -> NDArray[np.uint64]:
    sums = (crc32(key.encode()) for key in keys)
    return mixed(np.fromiter(sums, np.uint64, len(keys)) * np.uint64(0x9E3779B97F4A7C15))
