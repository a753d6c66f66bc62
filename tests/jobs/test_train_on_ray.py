"""The command train on two Ray workers: one of them killed, and told to stop, nothing is lost.

Its paths are relative.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
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


def words(place, out, shards):
    settings = {**SETTINGS, "checkpoint_every": 3, "workers": 2}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    base, out = map(os.path.relpath, (place / "wan", out))
    return [shards, "--base", base, "--out", out, *options, "--quiet"]


def workers():
    """The training workers below this process."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "RayTrainWorker" in " ".join(one.cmdline()):
                found.append(one)
    return found


def wait_for(process, out, steps):
    while len(records(out)) < steps:
        assert process.is_alive(), (out / "said").read_text()
        time.sleep(0.01)


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


def test_whoever_is_killed_or_told_to_stop_the_run_ends_as_if_nobody_had_been(
    place, whole, s3_bucket, tmp_path, monkeypatch
):
    """Where a worker is killed, Ray Train starts both again from the latest checkpoint; Ctrl-C ends
    both with a checkpoint and exit status 130; resumed on two processes without Ray, from
    a copy of the shards, the weights are the same bit for bit.

    The cluster is this run's own, and every worker reads the shards in an object store.
    """
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how soon an end is noticed
    shards = f"{s3_bucket}/train-on-ray"
    write_encoded(shards, [7, 6], people=lambda n: 1 + n % 2)
    process = command("jobs.train", words(place, tmp_path, shards), tmp_path / "said")
    wait_for(process, tmp_path, 5)
    killed = workers()
    killed[0].kill()
    while len(set(workers()) - set(killed)) < 2:
        assert process.is_alive(), (tmp_path / "said").read_text()
        time.sleep(0.05)
    wait_for(process, tmp_path, len(records(tmp_path)) + 2)
    os.kill(process.pid, signal.SIGINT)
    process.join(1500)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 128 + signal.SIGINT, said
    assert "--resume" in said
    done = len(records(tmp_path))
    assert 5 <= done < 2 * STEPS
    assert (tmp_path / "checkpoints" / f"{done:08d}" / "state.json").is_file()
    base, out, local = map(os.path.relpath, (place / "wan", tmp_path, place / "encoded"))
    how = TrainSettings(base=base, out=Path(out), checkpoint_every=3, **SETTINGS)
    claim = check_and_claim(how, local, 2, resume=True)
    together(tmp_path / "meet", _process, how, local, claim)
    assert [record["step"] for record in records(tmp_path)] == list(range(1, 2 * STEPS + 1))
    assert [record["loss"] for record in records(tmp_path)] == [r["loss"] for r in records(whole)]
    same_weights(tmp_path, whole)
