"""Thousands of mutated videos and hostile tars through the line: rows, seconds, memory.

`python -m benchmarks.fuzz` makes them from a seed (`tests/datapipe/fuzz.py`), runs the line over
them (the real listing, decoder, prepare, store, ledger and driver; painted faces and a quick
engine), and says what became of them. It fails when a video has not exactly one row, when anything
outside the run was touched or a process is left. From the repository's root.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.datapipe.fuzz_line import Watched, fuzz


@dataclass(frozen=True)
class FuzzBenchmark:
    """What goes through the line."""

    videos: int = 2000
    tars: int = 500
    seed: int = 0
    request_seconds: float = 10.0
    """Seconds after which a decoding process is killed; it gets two tries."""


def main() -> int:
    settings = tyro.cli(FuzzBenchmark)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="harmoview-fuzz-") as folder:
        seen = fuzz(
            Path(folder), settings.videos, settings.tars, settings.seed, settings.request_seconds
        )
    for line in report(seen):
        print(line)
    print(f"{time.perf_counter() - begin:.0f} s in all")
    wrong = faults(seen)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def report(seen: Watched) -> list[str]:
    """The figures, a line each."""
    seconds = seen.seconds()
    lines = [
        f"{len(seen.mutations)} videos, {len(seen.tars)} tars: {len(seen.rows)} rows",
        *(f"  {count:6d} {reason}" for reason, count in seen.reasons().most_common()),
        f"seconds of prepare: median {seconds[len(seconds) // 2]:.3f}, most {seconds[-1]:.2f}",
        f"memory at most: decoder {seen.decoder_bytes >> 20} MiB, driver {seen.driver_bytes >> 20}",
    ]
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for row in seen.rows:
        if kind := seen.mutations.get(str(row["key"])):
            by_kind[kind][str(row["reason"] or row["outcome"])] += 1
    for kind, counts in sorted(by_kind.items()):
        told = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
        lines.append(f"{kind}: {told}")
    slowest = sorted(seen.rows, key=lambda row: -float(str(row["prepare_seconds"] or 0)))[:5]
    lines += [f"slow: {r['prepare_seconds']:.2f} s {r['key']} {r['reason']}" for r in slowest]
    errors = Counter(
        str(row["detail"]).strip().splitlines()[-1][:160]
        for row in seen.rows
        if row["outcome"] == "error"
    )
    lines += [f"error x {count}: {text}" for text, count in errors.most_common(20)]
    return lines


def faults(seen: Watched) -> list[str]:
    """What must not be, in words; empty when all is well."""
    keys = Counter(str(row["key"]) for row in seen.rows)
    wrong = [f"{key}: {count} rows" for key, count in keys.items() if count > 1]
    wrong += [f"{key}: no row ({what})" for key, what in seen.mutations.items() if not keys[key]]
    of_tar = Counter(Path(str(row["source_path"])).name for row in seen.rows)
    for name, (kind, rows) in seen.tars.items():
        if (of_tar[name] != rows) if rows is not None else not of_tar[name]:
            wrong.append(f"{name} ({kind}): {of_tar[name]} rows instead of {rows}")
    wrong += [f"touched: {name}" for name in seen.touched]
    if seen.processes:
        wrong.append(f"{seen.processes} processes are left")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
