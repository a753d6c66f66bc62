"""What listing a corpus costs: time, time to the first sample, and growth of the driver's memory.

    python benchmarks/corpus.py --entries 200000

Every form is made in a temporary folder and listed in a process of its own, after one sample of a
tiny corpus of the same form, so that imports do not count. Videos are empty files: listing reads
names, headers and captions, never video bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from datapipe.corpus import corpus

CAPTION = "A woman in a red coat turns her head towards the window and smiles."


class Cost(NamedTuple):
    entries: int
    seconds: float
    cpu: float
    """CPU seconds: what the listing costs on a machine that is busy with other work, too."""
    first: float
    """Seconds to the first sample."""
    memory: int
    """Growth of the peak resident memory, bytes."""


def flat(root: Path, entries: int) -> str:
    for n in range(entries):
        (root / f"{n:08}.mp4").touch()
    return str(root)


def nested(root: Path, entries: int) -> str:
    for n in range(entries):
        if n % 1000 == 0:
            (root / f"{n // 1000:05}").mkdir()
        (root / f"{n // 1000:05}" / f"{n:08}.mp4").touch()
    return str(root)


def captioned(root: Path, entries: int) -> str:
    nested(root, entries)
    for video in root.rglob("*.mp4"):
        video.with_suffix(".txt").write_text(CAPTION)
    return str(root)


def tars(root: Path, entries: int) -> str:
    text = CAPTION.encode()
    for start in range(0, entries, 1000):
        with tarfile.open(root / f"{start // 1000:06}.tar", "w") as tar:
            for n in range(start, min(start + 1000, entries)):
                for name, data in ((f"{n:08}.mp4", b"video"), (f"{n:08}.txt", text)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(root)


def rows(entries: int) -> list[dict[str, str]]:
    names = [f"{n // 1000:05}/{n:08}" for n in range(entries)]
    return [{"path": f"{name}.mp4", "key": name[6:], "caption": CAPTION} for name in names]


def parquet(root: Path, entries: int) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows(entries)), root / "videos.parquet")
    return str(root / "videos.parquet")


def jsonl(root: Path, entries: int) -> str:
    with (root / "videos.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(entries))
    return str(root / "videos.jsonl")


def comma(root: Path, entries: int) -> str:
    with (root / "videos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "key", "caption"])
        writer.writeheader()
        writer.writerows(rows(entries))
    return str(root / "videos.csv")


FORMS: dict[str, Callable[[Path, int], str]] = {
    "folder, 1,000 videos a directory": nested,
    "folder, all in one directory": flat,
    "folder, a caption file beside each": captioned,
    "tars, 1,000 videos and captions each": tars,
    "manifest, .parquet": parquet,
    "manifest, .jsonl": jsonl,
    "manifest, .csv": comma,
}


def resident(field: str) -> int:
    """Bytes that Linux counts as VmRSS (now) or VmHWM (at most)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def measure(urls: tuple[str, str]) -> Cost:
    """The cost of listing the second corpus, after the first has warmed up the process."""
    tiny, url = urls
    list(corpus(tiny))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is used now
    before, begin, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    samples = iter(corpus(url))
    next(samples)
    first = time.perf_counter() - begin
    entries = 1 + sum(1 for _ in samples)
    return Cost(
        entries,
        time.perf_counter() - begin,
        time.process_time() - cpu,
        first,
        resident("VmHWM") - before,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=200_000, help="videos in each corpus")
    entries: int = parser.parse_args().entries
    print(f"| {'corpus':36} | entries | seconds | CPU, s | entries/s | first, s | memory, MB |")
    print(f"|{'-' * 38}|--------:|--------:|-------:|----------:|---------:|-----------:|")
    for name, make in FORMS.items():
        with tempfile.TemporaryDirectory() as tiny, tempfile.TemporaryDirectory() as big:
            urls = make(Path(tiny), 1), make(Path(big), entries)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                cost = pool.apply(measure, (urls,))
        print(
            f"| {name:36} | {cost.entries:7,} | {cost.seconds:7.1f} "
            f"| {cost.cpu:6.1f} | {cost.entries / cost.seconds:9,.0f} | {cost.first:8.2f} "
            f"| {cost.memory / 1e6:10.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
