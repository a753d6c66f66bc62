"""The tables of a run: a row per video, reference, view and window, in Parquet segments.

A segment of windows, views and references is written before the ledger segment of the same number,
so that a ledger row means "everything about this key is stored". One driver writes at a time (see
`datapipe.run.lock`); a segment appears whole or not at all.

Segments are numbered without gaps. A store's listing may miss the latest objects for a while, but
asking for one by its name does not: the next names tell what a listing leaves out.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.corpus.names import well_formed
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Identity, Sample

STARTED, RECORDED = "harmoview.started", "harmoview.recorded"
"""In the metadata of a ledger segment: when its writer began, and when it wrote the segment, in
seconds since 1970. Rates come from them; nothing else does."""

LEDGER = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("source_path", pa.string()),
        ("source_member", pa.string()),
        ("source_offset", pa.int64()),
        ("source_size", pa.int64()),
        ("suffix", pa.string()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("caption_problem", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("candidate", pa.string()),
        ("identities", pa.int32()),
        ("others", pa.int32()),
        ("prepare_seconds", pa.float64()),
        ("synthesize_seconds", pa.float64()),
        ("score_seconds", pa.float64()),
    ]
)

_STAGES = ("prepare", "synthesize", "score")
"""The stages whose seconds the ledger has."""

_SCORES = [
    ("detected", pa.bool_()),
    ("sharpness", pa.float64()),
    ("sharpness_ratio", pa.float64()),
    ("aesthetic", pa.float64()),
    ("identity_cosine", pa.float64()),
    ("measured_yaw", pa.float64()),
    ("measured_pitch", pa.float64()),
    ("measured_roll", pa.float64()),
    ("face_size", pa.float64()),
    ("expression", pa.float64()),
]
_JUDGES = [
    ("aesthetic_scorer", pa.string()),
    ("recogniser", pa.string()),
    ("pose_estimator", pa.string()),
]

VIEWS = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.int32()),
        ("yaw", pa.int32()),
        ("source", pa.string()),
        ("seed", pa.int64()),
        ("attempt", pa.int32()),
        ("timestamp", pa.float64()),
        ("twin", pa.bool_()),
        ("twin_cosine", pa.float64()),
        *_SCORES,
        *_JUDGES,
    ]
)
"""`twin` says whether the candidate has a view of the other source at the same yaw."""

REFERENCES = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.int32()),
        ("timestamp", pa.float64()),
        ("frame", pa.int64()),
        ("seen", pa.int32()),
        ("frame_yaw", pa.float64()),
        ("frame_pitch", pa.float64()),
        ("frame_roll", pa.float64()),
        ("frame_sharpness", pa.float64()),
        ("frame_score", pa.float64()),
        ("transfer", pa.string()),
        ("deinterlaced", pa.bool_()),
        *_SCORES,
        *_JUDGES,
        ("embedding", pa.list_(pa.float32())),
    ]
)

WINDOWS = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("shot", pa.int32()),
        ("frames_seen", pa.int32()),
        ("face_size", pa.float64()),
        ("face_min", pa.float64()),
        ("left", pa.float64()),
        ("top", pa.float64()),
        ("right", pa.float64()),
        ("bottom", pa.float64()),
        ("yaw_low", pa.float64()),
        ("yaw_median", pa.float64()),
        ("yaw_high", pa.float64()),
        ("motion", pa.float64()),
        ("others", pa.int32()),
        ("together", pa.float64()),
        ("sharpness", pa.float64()),
    ]
)
"""A row for each `datapipe.record.Window`. They are written anew with each scoring, though it does
not change them, so that they are always those of the candidates that have scores."""

SCORED = ("windows", "views", "references")
"""The tables that a scoring writes, in this order: whoever finds the last has them all."""


class Ledger:
    """Appends finished samples to a run's tables, and knows which keys are recorded."""

    def __init__(self, run: Folder) -> None:
        self.run = run
        self._started = time.time()
        self._next = 1 + max((int(_segment(n)) for n in ledger_segments(run)), default=-1)

    def recover(self, generation: int) -> None:
        """Delete what a killed driver left half-done: scores whose ledger segment is missing."""
        finished = {_segment(name) for name in ledger_segments(self.run)}
        for table in SCORED:
            for name in self.run.names(f"{table}/g{generation:04d}-*.parquet"):
                if (number := _segment(name)).isdigit() and number not in finished:
                    self.run.delete(name)

    def append(self, samples: Sequence[Sample], labels: dict[str, str], generation: int) -> None:
        """Write one segment of finished samples; `labels` name the judges (see VIEWS).

        Raises UserError where another process has written that segment.
        """
        segment = f"{self._next:06d}.parquet"
        if self.run.exists(f"ledger/{segment}"):
            raise self._overtaken(segment)
        # never over another's: who lost the lock must not change what its successor scored
        for table, data in _score_tables(samples, labels).items():
            if not self.run.put_new(f"{table}/g{generation:04d}-{segment}", data):
                raise self._overtaken(segment)
        times = {STARTED: repr(self._started), RECORDED: repr(time.time())}
        rows = [_ledger_row(sample) for sample in samples]
        table = pa.Table.from_pylist(rows, schema=LEDGER.with_metadata(times))
        if not self.run.put_new(f"ledger/{segment}", _parquet(table)):
            raise self._overtaken(segment)
        self._next += 1

    def _overtaken(self, segment: str) -> UserError:
        return UserError(
            f"{self.run.url}: another process wrote segment {segment} meanwhile; see that only one "
            "works on this run, then run the same command again: it continues"
        )

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return self._next

    def recorded_keys(self, segments: int | None = None) -> Iterator[list[str]]:
        """The recorded keys, a segment at a time; of the first `segments` only, if given."""
        for name in ledger_segments(self.run):
            if segments is None or int(_segment(name)) < segments:
                with self.run.open(name) as file:
                    yield pq.read_table(file, columns=["key"])["key"].to_pylist()

    def drop_errors(self) -> int:
        """Take the `error` rows out, so that their samples are done again; returns how many."""
        dropped = 0
        for name in ledger_segments(self.run):
            with self.run.open(name) as file:
                table = pq.read_table(file)
            kept = table.filter(pc.not_equal(table["outcome"], "error"))
            if len(kept) < len(table):
                dropped += len(table) - len(kept)
                put_table(self.run, name, kept)
        return dropped


class KeySet:
    """Keys as sorted 16-byte digests: 16 MB per million instead of the strings."""

    def __init__(self, parts: Iterable[Sequence[str]]) -> None:
        digests = [np.array([_digest(key) for key in part], dtype="V16") for part in parts if part]
        joined = np.concatenate(digests) if digests else np.empty(0, "V16")
        self._sorted = np.sort(joined.view("S16")) if len(joined) else np.empty(0, "S16")

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: str) -> bool:
        wanted = np.array([_digest(key)], dtype="V16").view("S16")
        place = int(np.searchsorted(self._sorted, wanted)[0])
        return place < len(self._sorted) and bool(self._sorted[place] == wanted[0])


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def put_table(run: Folder, name: str, table: pa.Table) -> None:
    """Write a segment in the place of an earlier one."""
    run.put(name, _parquet(table))


def put_scores(
    run: Folder, samples: Sequence[Sample], labels: dict[str, str], segment: str
) -> None:
    """Write what belongs to scored samples as `views/<segment>` and the like, see `SCORED`."""
    for table, data in _score_tables(samples, labels).items():
        run.put(f"{table}/{segment}", data)


def _score_tables(samples: Sequence[Sample], labels: dict[str, str]) -> dict[str, bytes]:
    """The tables of `SCORED`, in the order in which they are written."""
    scored = [
        (sample.key, index, identity)
        for sample in samples
        if sample.outcome == "candidate"
        for index, identity in enumerate(sample.identities)
    ]
    views = [
        {
            "key": key,
            "identity": index,
            "yaw": view.yaw,
            "source": view.source,
            "seed": view.seed,
            "attempt": view.attempt,
            "timestamp": view.timestamp,
            "twin": [other.yaw for other in identity.views].count(view.yaw) > 1,
            "twin_cosine": view.twin_cosine,
            **_scores(view),
            **labels,
        }
        for key, index, identity in scored
        for view in identity.views
    ]
    references = [
        {"key": key, "identity": index, **_reference_row(identity), **labels}
        for key, index, identity in scored
    ]
    windows = [
        {"key": key, "identity": index, **asdict(window)}
        for key, index, identity in scored
        for window in identity.windows
    ]
    return {
        "windows": _parquet(pa.Table.from_pylist(windows, schema=WINDOWS)),
        "views": _parquet(pa.Table.from_pylist(views, schema=VIEWS)),
        "references": _parquet(pa.Table.from_pylist(references, schema=REFERENCES)),
    }


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _scores(scored: Any) -> dict[str, Any]:
    if scored.scores is None:
        raise ValueError("a candidate must be scored before it is recorded")
    return asdict(scored.scores)


def _reference_row(identity: Identity) -> dict[str, Any]:
    reference = identity.reference
    return {
        "timestamp": reference.timestamp,
        "frame": reference.frame,
        "seen": reference.seen,
        "frame_yaw": reference.pose.yaw,
        "frame_pitch": reference.pose.pitch,
        "frame_roll": reference.pose.roll,
        "frame_sharpness": reference.sharpness,
        "frame_score": reference.score,
        "transfer": reference.transfer,
        "deinterlaced": reference.deinterlaced,
        **_scores(identity),
        "embedding": list(identity.embedding),
    }


def _ledger_row(sample: Sample) -> dict[str, Any]:
    source, stopped = sample.source, sample.stopped
    row = {
        "key": sample.key,
        "source": str(source),
        "source_path": source.path,
        "source_member": source.member,
        "source_offset": source.offset,
        "source_size": source.size,
        "suffix": source.suffix,
        "caption": sample.caption,
        "captions": list(sample.captions) or None,
        "caption_problem": sample.caption_problem or None,
        "outcome": sample.outcome,
        "reason": stopped.reason if stopped else None,
        "detail": stopped.detail if stopped else sample.caption_problem or None,
        "candidate": sample.candidate,
        "identities": len(sample.identities),
        "others": sample.others,
        **{f"{stage}_seconds": sample.seconds.get(stage) for stage in _STAGES},
    }
    # names of strangers' files may hold what no UTF-8 text can
    return {name: well_formed(v) if isinstance(v, str) else v for name, v in row.items()}


def ledger_segments(run: Folder) -> list[str]:
    """`ledger/NNNNNN.parquet`, in order."""
    return _from_zero(run, "ledger/")


def score_segments(run: Folder, table: str, generation: int) -> list[str]:
    """Segments of `table`, one of `SCORED`, in a scoring generation: those that `harmoview score`
    wrote, and those that belong to ledger segments.
    """
    prefix = f"{table}/g{generation:04d}-"
    own = set(run.names(f"{prefix}[0-9]*.parquet"))
    number = len(ledger_segments(run)) - 1
    while number >= 0 and (name := f"{prefix}{number:06d}.parquet") not in own and run.exists(name):
        own.add(name)
        number -= 1
    return sorted({*own, *_from_zero(run, f"{prefix}r")})


def _from_zero(run: Folder, prefix: str) -> list[str]:
    found = set(run.names(f"{prefix}[0-9]*.parquet"))
    last = max((int(name.removeprefix(prefix)[:-8]) for name in found), default=-1)
    missed = [name for number in range(last) if (name := _name(prefix, number)) not in found]
    found.update(name for name in missed if run.exists(name))
    while run.exists(name := _name(prefix, last + 1)):
        found.add(name)
        last += 1
    return sorted(found)


def _name(prefix: str, number: int) -> str:
    return f"{prefix}{number:06d}.parquet"


def _segment(name: str) -> str:
    """`000012` of `ledger/000012.parquet` and of `views/g0000-000012.parquet`.

    Segments of `datapipe.line.rescore` have none of the ledger: `r000012` of
    `g0001-r000012.parquet`.
    """
    return name.rsplit("/", 1)[1].removesuffix(".parquet").rsplit("-", 1)[-1]
