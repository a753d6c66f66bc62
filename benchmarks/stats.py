"""Seconds and memory of `harmoview stats --json` on a large run, against pandas on the same files.

    python -m benchmarks.stats [--views 10000000] [--run FOLDER]

Makes a run of that many view rows, the same one each time: random scores, in segments of 512 videos
as a busy run has them. Then counts it in two processes of their own: `harmoview stats --json`, and
what one would write in a notebook: pandas loads the columns, tests the thresholds that need no
second row, and groups by yaw. That knows no rule across views, no identities or samples kept, no
times, sources or examples, and does not look for duplicates.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datapipe.files import Folder
from datapipe.record import YAWS
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.rows import LEDGER, REFERENCES, VIEWS
from datapipe.run.tables import RECORDED, STARTED

VIDEOS = 512
"""Videos of a segment."""
TARS = 977
EMBEDDING = 128
LABELS = {"aesthetic_scorer": "brisque", "recogniser": "sface", "pose_estimator": "3ddfa"}
PANDAS = """
import sys, pandas as pd
views = pd.read_parquet(sys.argv[1] + "/views", columns=["key", "identity", "yaw", "detected",
    "sharpness", "sharpness_ratio", "aesthetic", "identity_cosine", "measured_yaw",
    "measured_pitch", "measured_roll"])
good = (views.detected & (views.sharpness >= 120) & (views.sharpness_ratio >= 0.4)
    & (views.aesthetic >= 55) & ((views.measured_yaw - views.yaw).abs() <= 15))
views["passed"] = good
print(views.groupby("yaw").agg(made=("key", "size"), passed=("passed", "sum")))
per_identity = views.groupby(["key", "identity"]).passed.sum()
print("identities kept", (per_identity >= 4).sum())
"""


def main() -> None:
    """Make the run and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=10_000_000)
    parser.add_argument("--run", type=Path, help="made here and kept; used again where it exists")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or Path(temporary, "run")
        if not (run / "run.json").exists():
            make(run, options.views)
        ours = timed([sys.executable, "-m", "jobs.stats", str(run), "--json"])
        found = json.loads(ours.pop("out"))["funnel"]
        theirs = timed([sys.executable, "-c", PANDAS, str(run)])
        print(f"{found['views_made']:,} views of {found['videos']:,} videos")
        for name, took in (("harmoview stats --json", ours), ("pandas, in part", theirs)):
            print(
                f"{name:<24} {took['wall']:6.1f} s {took['cpu']:6.1f} CPU s {took['gib']:6.2f} GiB"
            )
        print(f"pandas takes {theirs['cpu'] / ours['cpu']:.1f} times the CPU time", end=" ")
        print(f"and {theirs['gib'] / ours['gib']:.1f} times the memory")


def timed(command: Sequence[str]) -> dict[str, Any]:
    """Run a command; returns its output, seconds, CPU seconds and peak memory. Raises SystemExit
    where it fails.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        if status:
            raise SystemExit(f"{command[-3:]} failed")
        out.seek(0)
        return {
            "out": out.read(),
            "wall": wall,
            "cpu": used.ru_utime + used.ru_stime,
            "gib": used.ru_maxrss / 2**20,
        }


def make(run: Path, views: int) -> None:
    """Write a run of at least so many views; run.json last."""
    for name in ("ledger", "references", "views"):
        (run / name).mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    segment = made = 0
    while made < views:
        made += _segment(run, segment, draw)
        segment += 1
    info = RunInfo("s3://bucket/corpus", 0, {"yaws": list(YAWS)}, Scoring(labels=LABELS))
    save_info(Folder(run), info)


def _segment(run: Path, number: int, draw: np.random.Generator) -> int:
    """Write a segment; returns how many views it has. 70 % of the videos become candidates, 15 % of
    these with two people.
    """
    first, fate = VIDEOS * number, draw.random(VIDEOS)
    candidate = fate < 0.7
    people = np.where(candidate, 1 + (draw.random(VIDEOS) < 0.15), 0)
    salt = draw.integers(1 << 40, size=VIDEOS)
    tars = [f"part-{(first + row) % TARS:05d}" for row in range(VIDEOS)]
    keys = np.array([f"{tars[row]}-{salt[row]:011x}-{first + row:09d}" for row in range(VIDEOS)])
    began = 1_760_000_000 + 3600.0 * (number // 100)
    times = {STARTED: repr(began), RECORDED: repr(began + 30.0 * (number % 100 + 1))}
    rows = _ledger(keys, tars, fate, people, draw)
    _write(run / f"ledger/{number:06d}.parquet", LEDGER.with_metadata(times), rows)
    owners = np.repeat(keys, people)
    identity = np.concatenate([np.arange(count) for count in people])
    references = {
        "key": owners.tolist(),
        "identity": identity,
        **_scores(np.zeros(len(owners)), draw),
        "expression": draw.beta(1, 3, len(owners)).round(4),
        "embedding": list(draw.normal(size=(len(owners), EMBEDDING)).astype(np.float32)),
    }
    _write(run / f"references/g0000-{number:06d}.parquet", REFERENCES, references)
    yaws = np.tile(YAWS, len(owners))
    made = {
        "key": np.repeat(owners, len(YAWS)).tolist(),
        "identity": np.repeat(identity, len(YAWS)),
        "yaw": yaws,
        "seed": draw.integers(1 << 62, size=len(yaws)),
        **_scores(yaws, draw),
    }
    _write(run / f"views/g0000-{number:06d}.parquet", VIEWS, made)
    return len(yaws)


def _ledger(
    keys: NDArray[Any],
    tars: Sequence[str],
    fate: NDArray[np.float64],
    people: NDArray[Any],
    draw: np.random.Generator,
) -> dict[str, Any]:
    candidate = fate < 0.7
    lost = np.where(fate < 0.85, "no_face", np.where(fate < 0.95, "too_short", "exception"))
    ended = np.where(candidate, "candidate", np.where(fate < 0.95, "rejected", "error"))
    paths = [f"s3://bucket/corpus/{tar}.tar" for tar in tars]
    return {
        "key": keys.tolist(),
        "source": [f"tar://{key}.mp4::{path}" for key, path in zip(keys, paths, strict=True)],
        "source_path": paths,
        "source_member": [f"{key}.mp4" for key in keys],
        "source_offset": draw.integers(1 << 32, size=len(keys)),
        "source_size": draw.integers(1 << 24, size=len(keys)),
        "caption": [f"somebody talks to the camera in the kitchen of {key}" for key in keys],
        "outcome": ended.tolist(),
        "reason": pa.array(lost.tolist(), mask=candidate),
        "candidate": pa.array([f"candidates/{key}.tar" for key in keys], mask=~candidate),
        "identities": people,
        "prepare_seconds": draw.gamma(2, 2, len(keys)),
        "synthesize_seconds": pa.array(draw.gamma(3, 3, len(keys)), mask=~candidate),
        "score_seconds": pa.array(draw.gamma(2, 1, len(keys)), mask=~candidate),
    }


def _scores(yaws: NDArray[Any], draw: np.random.Generator) -> dict[str, Any]:
    """Scores much of which passes, rounded as they are stored, null where no face is found."""
    count = len(yaws)
    lost = draw.random(count) < 0.03

    def column(values: NDArray[np.float64], digits: int) -> pa.Array:
        return pa.array(values.round(digits), mask=lost)

    return {
        "detected": ~lost,
        "sharpness": column(draw.gamma(6, 150, count), 4),
        "sharpness_ratio": column(draw.normal(1.0, 0.2, count).clip(0), 4),
        "aesthetic": column(draw.normal(80, 12, count), 3),
        "identity_cosine": column(draw.normal(0.75, 0.12, count).clip(-1, 1), 4),
        "measured_yaw": column(yaws + draw.normal(0, 6, count), 2),
        "measured_pitch": column(draw.normal(0, 7, count), 2),
        "measured_roll": column(draw.normal(0, 4, count), 2),
        "face_size": column(draw.gamma(9, 20, count), 1),
        **{name: [label] * count for name, label in LABELS.items()},
    }


def _write(path: Path, schema: pa.Schema, columns: dict[str, Any]) -> None:
    """Write a table; a column that is not given is null."""
    rows = len(columns["key"])
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


if __name__ == "__main__":
    main()
