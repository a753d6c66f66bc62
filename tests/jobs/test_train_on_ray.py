"""The command train on two Ray workers: told to stop, or one of them killed, nothing is lost.

Its paths are relative.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from harmoview import HarmoViewTransformer3DModel
from harmoview.tiny import save_base
from harmoview.train.checks import check_and_claim
from harmoview.train.settings import TrainSettings
from harmoview.train.train import train
from tests.harmoview.encoded import write_encoded
from tests.processes import command, together

pytestmark = [pytest.mark.slow, pytest.mark.ray]
STEPS = 25
"""Of each of the two phases."""
SETTINGS = {
    "phases": "1,3", "steps": STEPS, "batch": 4, "micro_batch": 2, "warmup": 1,
    "learning_rate": 1e-3, "ema": 0.5, "holdout": 0.0, "device": "cpu", "loader_workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base and thirteen samples of one and of two people."""
    root = tmp_path_factory.mktemp("place")
    write_encoded(root / "encoded", [7, 6], people=lambda n: 1 + n % 2)
    save_base(root / "wan")
    return root


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """A run of two processes without interruption and without Ray."""
    out = tmp_path_factory.mktemp("whole")
    how = TrainSettings(base=str(place / "wan"), out=out, **SETTINGS)
    claim = check_and_claim(how, str(place / "encoded"), 2, resume=False)
    together(out / "meet", _process, how, str(place / "encoded"), claim)
    return out


def _process(rank, how, shards, claim):
    train(how, shards, claim, lambda: False, lambda *_: None)


def words(place, out, *more, shards=None):
    settings = {**SETTINGS, "checkpoint_every": 3}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    base, out, local = map(os.path.relpath, (place / "wan", out, place / "encoded"))
    return [shards or local, "--base", base, "--out", out, *options, "--quiet", *more]


def started(place, out, shards=None):
    """The command on two workers in a process of its own, after a few steps."""
    line = words(place, out, "--workers", "2", shards=shards)
    process = command("jobs.train", line, out / "said")
    while len(records(out)) < 5:
        assert process.is_alive(), (out / "said").read_text()
        time.sleep(0.01)
    return process


def records(out):
    path = out / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def same_weights(*outs):
    """Bit for bit."""
    one, other = (
        HarmoViewTransformer3DModel.from_pretrained(out / "model" / "transformer").state_dict()
        for out in outs
    )
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.usefixtures("cluster")
def test_told_to_stop_it_ends_with_a_checkpoint_and_goes_on_exactly(place, whole, tmp_path):
    """Exit status 143; resumed on two processes without Ray, the same weights bit for bit."""
    process = started(place, tmp_path)
    process.terminate()
    process.join(1500)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 128 + signal.SIGTERM, said
    assert "--resume" in said
    done = len(records(tmp_path))
    assert 5 <= done < 2 * STEPS
    assert (tmp_path / "checkpoints" / f"{done:08d}" / "state.json").is_file()
    base, out, shards = map(os.path.relpath, (place / "wan", tmp_path, place / "encoded"))
    how = TrainSettings(base=base, out=Path(out), checkpoint_every=3, **SETTINGS)
    claim = check_and_claim(how, shards, 2, resume=True)
    together(tmp_path / "meet", _process, how, shards, claim)
    assert [record["loss"] for record in records(tmp_path)] == [r["loss"] for r in records(whole)]
    same_weights(tmp_path, whole)


def test_after_a_worker_was_killed_the_run_ends_as_if_it_had_not_been(
    place, whole, s3_bucket, tmp_path, monkeypatch
):
    """Ray Train starts both again from the latest checkpoint: the same weights, bit for bit.

    The cluster is this run's own, and every worker reads the shards in an object store.
    """
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how soon an end is noticed
    shards = f"{s3_bucket}/train-on-ray"
    write_encoded(shards, [7, 6], people=lambda n: 1 + n % 2)
    process = started(place, tmp_path, shards)
    below = psutil.Process().children(recursive=True)
    workers = [one for one in below if "RayTrainWorker" in " ".join(one.cmdline())]
    assert len(workers) == 2, [one.cmdline() for one in below]
    workers[0].kill()
    process.join(1500)
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    assert [record["step"] for record in records(tmp_path)] == list(range(1, 2 * STEPS + 1))
    same_weights(tmp_path, whole)
