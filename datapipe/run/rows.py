"""The rows of a run's tables: what of a sample is in each, and their schemas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.corpus.names import well_formed
from datapipe.record import Identity, Sample

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


def score_tables(samples: Sequence[Sample], labels: dict[str, str]) -> dict[str, bytes]:
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
        "windows": parquet_bytes(pa.Table.from_pylist(windows, schema=WINDOWS)),
        "views": parquet_bytes(pa.Table.from_pylist(views, schema=VIEWS)),
        "references": parquet_bytes(pa.Table.from_pylist(references, schema=REFERENCES)),
    }


def parquet_bytes(table: pa.Table) -> bytes:
    """A segment's bytes."""
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


def ledger_row(sample: Sample) -> dict[str, Any]:
    """What the ledger says of a finished sample."""
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
