"""metrics.jsonl has one line for each step, whatever befell the run."""

import json

from training.metrics import FILE, Metrics


def metrics(folder, done):
    return Metrics(folder, done, tensorboard=False, wandb=False, project="test")


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / FILE).open()]


def test_a_resumed_run_forgets_what_its_checkpoint_does_not_hold(tmp_path):
    """Steps after the checkpoint, and the half line of a killed process, go."""
    first = metrics(tmp_path, 0)
    for step in (1, 2, 3):
        first.write({"step": step, "loss": 0.5, "validation": {"on": {"yaw_mae": None}}})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 4')
    second = metrics(tmp_path, 2)
    assert steps(tmp_path) == [1, 2]
    second.write({"step": 3, "loss": 0.4})
    assert steps(tmp_path) == [1, 2, 3]


def test_a_new_run_starts_empty(tmp_path):
    """Nothing of an older run that never got to a checkpoint is left."""
    metrics(tmp_path, 0).write({"step": 1})
    metrics(tmp_path, 0)
    assert steps(tmp_path) == []
