"""The line over hostile input, watched: rows, seconds, memory, files, processes."""

from __future__ import annotations

import hashlib
import os
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from datapipe.claim import locked
from datapipe.files import Folder
from datapipe.line.drive import Recorder, Remaining, drive
from datapipe.line.line import LocalLine
from datapipe.line.stages import PrepareUnlessStored, Synthesize
from datapipe.prepare.frontal import FrontalBound
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.run.info import open_run
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from datapipe.stage import Resources
from tests.datapipe.fast_line import INFO, YAWS, Mean, Roll
from tests.datapipe.fuzz import seed_clips, write_tars, write_videos
from tests.datapipe.media import numbered, write_video
from tests.datapipe.painted import PaintedFaces

ONE_CPU = Resources(num_cpus=1)


@dataclass(frozen=True)
class Watched:
    """What a run over hostile input left."""

    mutations: dict[str, str]
    """What was done to each video, by key."""
    tars: dict[str, tuple[str, int | None]]
    """Kind and rows of each tar, by its name; None where damage decides the rows."""
    rows: list[dict[str, object]]
    """Of the ledger."""
    touched: list[str]
    """Files outside RUN that appeared, changed or went."""
    processes: int
    """Children that are left."""
    decoder_bytes: int
    """The most that a decoding process held."""
    driver_bytes: int

    def reasons(self) -> Counter[str]:
        return Counter(str(row["reason"] or row["outcome"]) for row in self.rows)

    def seconds(self) -> list[float]:
        return sorted(float(row["prepare_seconds"] or 0) for row in self.rows)  # type: ignore[arg-type]


def fuzz(root: Path, videos: int, tars: int, seed: int, request_seconds: float = 10.0) -> Watched:
    """Make hostile input below `root`, run the line over it, and look at what it left."""
    clips = seed_clips(root / "seeds")
    mutations = write_videos(root / "corpus", clips, videos, seed)
    short = write_video(root / "seeds" / "short.mp4", numbered(2, 64, 48))
    made = write_tars(root / "corpus" / "tars", short.read_bytes(), tars, seed)
    for name in ("cwd", "temporary", "above/below"):
        (root / name).mkdir(parents=True)
    before, ours = _files(root), _children()
    with _inside(root):
        _run(root / "corpus", root / "run", request_seconds)
    after = _files(root)
    touched = sorted(name for name in before.keys() | after.keys()
                     if before.get(name) != after.get(name))  # fmt: skip
    return Watched(
        mutations,
        made,
        pq.read_table(root / "run" / "ledger").to_pylist(),
        touched,
        len(_children() - ours),
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def _run(corpus: Path, run: Path, request_seconds: float) -> None:
    folder = Folder(run)
    store = CandidateStore(folder, INFO.settings_hash)
    settings = PrepareSettings(
        frontal=FrontalBound(min_sharpness=0.0), request_seconds=request_seconds
    )
    prepare = Prepare(settings, PaintedFaces(), resources=ONE_CPU)
    synthesize = Synthesize(
        Roll(str(run), ""),
        store,
        yaws=YAWS,
        run_seed=0,
        provenance=INFO.settings,
        resources=ONE_CPU,
    )
    with locked(folder):
        info = open_run(folder, INFO)
        ledger = Ledger(folder)
        recorder = Recorder(ledger, info.scoring.labels, 0)
        line = LocalLine([PrepareUnlessStored(prepare, store), synthesize, Mean(store)])
        try:
            drive(line, Remaining(str(corpus), str(run), 0), recorder, lambda _: None)
        finally:
            prepare.close()


@contextmanager
def _inside(root: Path) -> Iterator[None]:
    """What goes to the working directory or to the folder of temporary files stays below root."""
    here, folder = Path.cwd(), tempfile.tempdir
    os.chdir(root / "cwd")
    tempfile.tempdir = str(root / "temporary")
    try:
        yield
    finally:
        os.chdir(here)
        tempfile.tempdir = folder


def _files(root: Path) -> dict[str, str]:
    """Everything below `root` but the run, by content."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name.split("/")[0] != "run":
            data = path.read_bytes() if path.is_file() else b"a folder"
            found[name] = hashlib.sha256(data).hexdigest()
    return found
