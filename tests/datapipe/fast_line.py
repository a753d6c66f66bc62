"""A line of quick deterministic stages around the real store, ledger, executor and driver.

`python -m tests.datapipe.fast_line RUN COUNT ray|local CALLS` runs it, to be killed by tests.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from datapipe.claim import locked
from datapipe.files import Folder
from datapipe.line.drive import Recorder, Remaining, drive
from datapipe.line.line import LocalLine, RayLine
from datapipe.line.stages import PrepareUnlessStored, Synthesize
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.prepare.windows import track_bytes
from datapipe.record import Cutout, Identity, Pose, Reference, Scores, View, Window
from datapipe.run.info import RunInfo, Scoring, open_run
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from datapipe.stage import Resources

YAWS = (-90, -60, -30, 0, 30, 60, 90)
LABELS = {"aesthetic_scorer": "mean", "recogniser": "none", "pose_estimator": "none"}
INFO = RunInfo(
    corpus="numbers", seed=3, settings={"engine": "roll"}, scoring=Scoring(0, {}, LABELS)
)


BY_VIEW = ["key", "identity", "yaw", "source"]
PLACE = (0.0, 0.0, 23.0, 23.0)
TURNED = View(
    30, None, source="real", timestamp=0.5,
    cutout=Cutout(12, 0, PLACE, (0, 0, 24, 24), Pose(30, 0, 0), 1.0, 9.0, 0.8),
)  # fmt: skip
SEEN = Window(
    start=0.0, end=1.5, shot=0, frames_seen=5, face_size=64.0, face_min=50.0,
    left=0.0, top=0.0, right=23.0, bottom=23.0, yaw_low=-2.0, yaw_median=0.5, yaw_high=30.0,
    motion=0.1, others=0, together=0.0, sharpness=None,
)  # fmt: skip


def numbers(run, count):
    """A manifest of videos that nobody opens, as a corpus."""
    manifest = Path(run).with_name("numbers.jsonl")
    rows = ({"path": f"/videos/{n}.mp4", "key": f"k{n:04d}"} for n in range(count))
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("\n".join(map(json.dumps, rows)))
    return str(manifest)


class Portraits:
    """Prepare: noise for a portrait; people of odd numbers also turn to 30 degrees. They are seen
    in none to three windows."""

    name = "prepare"
    resources = Resources(num_cpus=1)

    def setup(self):
        pass

    def __call__(self, sample):
        noise = np.random.default_rng(int(sample.key[1:])).integers(0, 255, (24, 24, 3), np.uint8)
        box = (0.0, 0.0, 23.0, 23.0)
        reference = Reference(0.0, 0, box, (0, 0, 24, 24), Pose(0, 0, 0), 1.0, 9.0, 1)
        cutouts = ((TURNED, encode_jpeg(noise[::-1])),) if int(sample.key[1:]) % 2 else ()
        windows = tuple(
            replace(SEEN, start=2.0 * shot, end=2.0 * shot + 1.5, shot=shot)
            for shot in range(int(sample.key[1:]) % 4)
        )
        identity = Identity(reference, windows=windows, portrait=encode_jpeg(noise),
                            cutouts=cutouts, track=track_bytes([]))  # fmt: skip
        return replace(sample, identities=(identity,))


def _eat():
    eaten = []
    while True:
        eaten.append(b"1" * 2**26)
        time.sleep(0.02)


def _throw():
    raise RuntimeError("boom")


POISONS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "hang": lambda: time.sleep(3600),
    "leak": _eat,
    "throw": _throw,
}


class Roll:
    """An engine that logs each call with whether that candidate was stored already."""

    name = "roll"

    def __init__(self, run, calls, poison=None, pause=0.0):
        self.run, self.calls, self.poison, self.pause = run, calls, poison or {}, pause

    def setup(self):
        pass

    def provenance(self):
        return {"name": self.name}

    def for_key(self, key):
        stored = Folder(self.run).exists(CandidateStore.name(key))
        with Path(self.calls).open("a") as file:
            file.write(f"{key} {'again' if stored else 'first'}\n")
        if key in self.poison:
            POISONS[self.poison[key]]()

    def __call__(self, reference, yaws, seeds):
        time.sleep(self.pause)
        return [np.roll(reference, seed % 24, axis=1) for seed in seeds]


class LoggedSynthesize(Synthesize):
    """Tells the engine which sample it works on."""

    def __call__(self, sample):
        if sample.candidate is None:
            self.engine.for_key(sample.key)
        return super().__call__(sample)


class Mean:
    """Score: the mean brightness of each stored view."""

    name = "score"
    resources = Resources(num_cpus=1)

    def __init__(self, store):
        self.store = store

    def setup(self):
        pass

    def __call__(self, sample):
        stored = self.store.read(sample.candidate)

        def scored(thing, jpeg):
            return replace(thing, scores=Scores(True, aesthetic=float(decode_jpeg(jpeg).mean())))

        identities = tuple(
            replace(
                scored(identity, pictures.reference),
                views=tuple(
                    scored(view, pictures.of(view.yaw, view.source)) for view in identity.views
                ),
                embedding=(1.0,),
            )
            for identity, pictures in zip(sample.identities, stored.pictures, strict=True)
        )
        return replace(sample, identities=identities)


class Flat(Mean):
    """Score: one number for every picture, whatever it shows."""

    def __call__(self, sample):
        stored = self.store.read(sample.candidate).sample

        def scored(one):
            return replace(one, scores=Scores(True, aesthetic=7.0))

        identities = tuple(
            replace(scored(one), views=tuple(map(scored, one.views)), embedding=(1.0,))
            for one in stored.identities
        )
        return replace(stored, identities=identities)


def stages(run, calls, poison=None, pause=0.0):
    store = CandidateStore(Folder(run), INFO.settings_hash)
    synthesize = LoggedSynthesize(
        Roll(str(run), str(calls), poison, pause),
        store,
        yaws=YAWS,
        run_seed=INFO.seed,
        provenance=INFO.settings,
        resources=Resources(num_cpus=1),
    )
    return [PrepareUnlessStored(Portraits(), store), synthesize, Mean(store)]


def contents(run):
    """Every candidate's bytes, and the tables without times, in the order of their keys."""
    run = Path(run)
    candidates = {p.name: p.read_bytes() for p in (run / "candidates").rglob("*.tar")}
    tables = {}
    orders = {
        "ledger": ["key"],
        "references": ["key", "identity"],
        "windows": ["key", "identity", "start"],
        "views": BY_VIEW,
    }
    for name, columns in orders.items():
        table = pq.read_table(run / name)
        times = [column for column in table.column_names if column.endswith("_seconds")]
        order = [(column, "ascending") for column in columns]
        tables[name] = table.drop_columns(times).sort_by(order).to_pylist()
    return candidates, tables


def calls(path):
    """What the engine was asked for: keys, and whether each was stored already."""
    return [line.split() for line in Path(path).read_text().splitlines()]


def session_workers(session):
    """The line's actors in a session of processes, by the names that Ray gives them."""
    listing = subprocess.run(
        ["ps", "-eo", "pid,sid,args"], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 2) for line in listing.splitlines()[1:])
    return [int(p) for p, sid, args in rows if "ray::MapWorker" in args and int(sid) == session]


def work(
    run, count, calls, *, ray, poison=None, address=None, part=500_000, bounds=None, pause=0.0
):
    """What `harmoview synthesize` does, with these stages; returns the counts per outcome."""
    folder = Folder(run)
    with locked(folder):
        info = open_run(folder, INFO)
        ledger = Ledger(folder)
        ledger.recover(info.scoring.generation)
        recorder = Recorder(ledger, info.scoring.labels, 0)
        parts = stages(run, calls, poison, pause)
        line = RayLine(parts, address, bounds=bounds) if ray else LocalLine(parts)
        todo = Remaining(numbers(run, count), str(run), ledger.segments, part=part)
        drive(line, todo, recorder, lambda _: None)
        return Counter(recorder.outcomes)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]), sys.argv[4], ray=sys.argv[3] == "ray", pause=0.05)
