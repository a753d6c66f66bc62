"""metrics.jsonl has one line for each step, whatever befell the run."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np

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


def test_every_line_is_json_where_a_loss_is_not_a_number(tmp_path):
    """Python writes NaN, which no other reader of JSON takes."""
    wrong = {"loss": float("nan"), "noise": {"0-0.3": {"loss": float("inf"), "samples": 1.0}}}
    metrics(tmp_path, 0).write({"step": 1, **wrong})
    record = json.loads((tmp_path / FILE).read_text(), parse_constant=lambda name: 1 / 0)
    assert record["loss"] is record["noise"]["0-0.3"]["loss"] is None
    assert record["noise"]["0-0.3"]["samples"] == 1


def test_tensorboard_gets_figures_and_pictures(tmp_path):
    """A sheet of validation is seen beside the curves, pixel for pixel."""
    from PIL import Image as Pillow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sheet = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    with Metrics(tmp_path, 0, tensorboard=True, wandb=False, project="test") as made:
        made.show("validation/on", sheet, 3)
        made.write({"step": 3, "loss": 0.5})
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (shown,) = found.Images("validation/on")
    decoded = Pillow.open(io.BytesIO(shown.encoded_image_string))
    assert shown.step == 3
    assert np.array_equal(np.asarray(decoded), sheet)
    assert [one.value for one in found.Scalars("loss")] == [0.5]


def test_a_resumed_run_is_the_same_one_at_wandb(tmp_path, monkeypatch):
    """Under the name that its folder holds, with its settings; the service itself stands aside."""
    seen = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **how: seen.append(how)))
    for done in (0, 2):
        Metrics(tmp_path, done, tensorboard=False, wandb=True, project="test", config={"batch": 8})
    first, second = seen
    assert first["id"] == second["id"] != ""
    assert second["resume"] == "allow"
    assert second["config"] == {"batch": 8}
