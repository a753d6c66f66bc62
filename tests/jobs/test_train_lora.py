"""`harmoview train-lora`: from pairs on disk to an adapter, in one process and in several."""

import json
import os
import runpy
import signal
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from jobs import train_lora
from tests.processes import command

FLUX = Path(__file__).parents[1] / "lora_engine/flux"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base and pairs of three people, one more to validate with."""
    folder = tmp_path_factory.mktemp("place")
    runpy.run_path(str(FLUX / "tiny.py"))["save_base"](folder / "base")
    runpy.run_path(str(FLUX / "people.py"))["save_pairs"](folder / "pairs")
    return folder


def arguments(place, out, *more):
    return [
        str(place / "pairs"), "--base", str(place / "base"), "--out", str(out), "--steps", "3",
        "--resolution", "32", "--rank", "2", "--text-length", "64", "--groups", "2",
        "--yaws-per-group", "2", "--variants", "2", "--validate-every", "0", "--device", "cpu",
        "--quiet", *more,
    ]  # fmt: skip


def test_pairs_become_an_adapter_and_a_second_call_resumes(place, tmp_path):
    """Stopped after three steps and called again with --resume, it has five."""
    assert train_lora.main(arguments(place, tmp_path)) == 0
    assert train_lora.main(arguments(place, tmp_path, "--resume", "--steps", "5")) == 0
    assert (tmp_path / "pytorch_lora_weights.safetensors").exists()
    assert (tmp_path / "prompt_embeddings.safetensors").exists()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [1, 2, 3, 4, 5]


def test_ctrl_c_ends_a_training_with_a_checkpoint(place, tmp_path, capsys):
    """Exit status 130, and --resume goes on after the step that the message names."""

    def tell():
        metrics = tmp_path / "metrics.jsonl"
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    teller = threading.Thread(target=tell)
    teller.start()
    assert train_lora.main(arguments(place, tmp_path, "--steps", "200")) == 130
    teller.join()
    done = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert 2 <= done < 200
    assert f"step {done} of 200" in capsys.readouterr().err
    assert train_lora.main(arguments(place, tmp_path, "--resume", "--steps", f"{done + 1}")) == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == list(range(1, done + 2))


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--rank", "0"], 2, "--rank must be at least 1"),
        (["--yaws-per-group", "0"], 2, "--yaws-per-group must be at least 1"),
        (["--yaws", "0", "30"], 2, "--yaws (0, 30) are not symmetric: give --flip False"),
        (["--workers", "3"], 1, "--groups 2"),
        (["--base", "nowhere"], 1, "no such folder"),
    ],
)
def test_mistakes_end_in_one_sentence(place, tmp_path, capsys, more, status, message):
    """2 for arguments that cannot be, 1 for what is not there; no traceback."""
    assert train_lora.main(arguments(place, tmp_path, *more)) == status
    printed = capsys.readouterr()
    assert message in " ".join((printed.err + printed.out).replace("│", "").split())
    assert "Traceback" not in printed.err


@pytest.mark.weights
def test_validation_is_measured_by_the_face_models(place, tmp_path):
    """The light pack looks at the views; a tiny random model shows no face, and that is said."""
    more = ["--validate-every", "3", "--validation-people", "1", "--validation-steps", "1"]
    assert train_lora.main(arguments(place, tmp_path, *more)) == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["validation"]["on"]["measured"] == 0.0
    assert last["validation"]["off"]["yaw_mae"] is None
    assert (tmp_path / "validation/000003.jpg").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_two_ray_workers_give_the_weights_of_one_process(place, tmp_path):
    """The same global batch, to summation order, where both share the base."""
    fast = ["--learning-rate", "1e-3", "--warmup", "1"]  # so that weights move by 3e-3
    assert train_lora.main(arguments(place, tmp_path / "one", *fast)) == 0
    there = (Path(os.path.relpath(path)) for path in (place, tmp_path / "two"))
    words = arguments(*there, *fast, "--workers", "2", "--shard")
    said = tmp_path / "said"
    process = command("jobs.train_lora", words, said)
    process.join(500)
    assert process.exitcode == 0, said.read_text()
    one, two = (
        load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


@pytest.mark.proof
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_on_ray_too(place, tmp_path, told):
    """Exit status 143 or 130, and how to go on; Ray, left alone, would take them for itself."""
    said, record = tmp_path / "said", tmp_path / "metrics.jsonl"
    process = command(
        "jobs.train_lora", arguments(place, tmp_path, "--steps", "9999", "--workers", "2"), said
    )
    while not (record.is_file() and record.read_text()):
        assert process.is_alive(), said.read_text()
        time.sleep(0.05)
    os.kill(process.pid, told)
    process.join(500)
    assert process.exitcode == 128 + told, said.read_text()
    done = len(record.read_text().splitlines())
    assert f"stopped after step {done} of 9999" in said.read_text()
    assert (tmp_path / "checkpoints" / f"{done:08d}" / "state.json").is_file()
