"""The command train: a signal stops it with a checkpoint, and mistakes are told in one line."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

from harmoview.tiny import save_base
from jobs import train
from tests.harmoview.encoded import write_encoded


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("train")
    write_encoded(root / "encoded", [8])
    save_base(root / "wan")
    return [str(root / "encoded"), "--base", str(root / "wan")]


SHORT = ["--vit", "vit", "--phases", "1", "--batch", "2", "--micro-batch", "2", "--device", "cpu",
         "--loader-workers", "0", "--holdout", "0", "--quiet"]  # fmt: skip


def test_sigterm_ends_a_run_with_a_checkpoint_that_goes_on(inputs, tmp_path, capsys):
    """Exit status 143, the step in the message, and --resume finishes the run."""
    out = tmp_path / "out"
    command = [*inputs, *SHORT, "--out", str(out), "--steps", "40"]

    def tell():
        metrics = out / "metrics.jsonl"
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    assert train.main(command) == 143
    teller.join()
    assert "--resume" in capsys.readouterr().err
    stopped = len((out / "metrics.jsonl").read_text().splitlines())
    assert 2 <= stopped < 40
    assert (out / "checkpoints" / f"{stopped:08d}" / "state.json").is_file()
    assert train.main([*command, "--resume"]) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 40
    assert (out / "model" / "transformer" / "config.json").is_file()


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--phases", "7"], 2, "--phases"),
        (["--base", "nowhere/at/all"], 1, "There is no Wan transformer"),
        (["--experts", "low"], 1, "only one"),
        (["--workers", "3"], 1, "does not divide"),
        (["--device", "cuda:1"], 2, "--device"),
    ],
)
def test_mistakes_are_told_with_the_option(inputs, tmp_path, capsys, change, status, message):
    """In one message on stderr, before anything is trained."""
    out = tmp_path / "out"
    assert train.main([*inputs, *SHORT, "--out", str(out), "--steps", "1", *change]) == status
    assert message in capsys.readouterr().err
    assert not (out / "checkpoints").exists()
