"""The command train: a signal stops it with a checkpoint, and mistakes are told in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from dataset.pack.pack import ShardLimits, pack
from harmoview.checkpoint import load_expert
from harmoview.data.encoded import EncodedShards
from harmoview.encode import encoder
from harmoview.encode.settings import Bucket
from harmoview.tiny import save_base
from jobs import train
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import RULES, TinyRun
from tests.harmoview.encoded import write_encoded
from tests.processes import forked


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("train")
    write_encoded(root / "encoded", [8])
    save_base(root / "wan")
    return [str(root / "encoded"), "--base", str(root / "wan")]


SHORT = ["--phases", "1", "--batch", "2", "--micro-batch", "2", "--device", "cpu",
         "--loader-workers", "0", "--holdout", "0", "--quiet"]  # fmt: skip


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint_that_goes_on(inputs, tmp_path, capsys, told):
    """Exit status 143 or 130, the step in the message, and --resume finishes the run."""
    out = tmp_path / "out"
    command = [*inputs, *SHORT, "--out", str(out), "--steps", "40"]

    def tell():
        metrics = out / "metrics.jsonl"
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            time.sleep(0.01)
        os.kill(os.getpid(), told)

    teller = threading.Thread(target=tell)
    teller.start()
    assert train.main(command) == 128 + told
    teller.join()
    assert "--resume" in capsys.readouterr().err
    stopped = len((out / "metrics.jsonl").read_text().splitlines())
    assert 2 <= stopped < 40
    assert (out / "checkpoints" / f"{stopped:08d}" / "state.json").is_file()
    assert train.main([*command, "--resume"]) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 40
    assert (out / "model" / "transformer" / "config.json").is_file()


def test_a_run_is_a_toml_file(inputs, tmp_path):
    """Options and [[phase]] tables together; the command line wins, and the run is as written."""
    out, file = tmp_path / "out", tmp_path / "run.toml"
    file.write_text(f"""
        shards = {json.dumps(inputs[0])}
        base = {json.dumps(inputs[2])}
        batch = 2
        holdout = 0.0
        loader_workers = 0
        quiet = true
        device = "cpu"

        [[phase]]
        data = "single_view"
        steps = 2
        views = {{ 1 = 1.0 }}

        [[phase]]
        data = "multi_view"
        steps = 1
        views = {{ 1 = 0.5, 7 = 0.5 }}
        guidance = {{ text = 0.3 }}
        noise = {{ distribution = "uniform" }}
        """)
    assert train.main(["--settings", str(file), "--out", str(out)]) == 0
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["phase"] for record in records] == [1, 1, 2]
    again = ["--settings", str(out), "--out", str(out), "--resume"]
    assert train.main(again) == 0  # a training's folder is such a file too; nothing is left to do
    file.write_text(file.read_text().replace("steps = 1", 'steps = "1"'))
    assert train.main(["--settings", str(file), "--out", str(tmp_path / "other")]) == 2


CURRICULUM = """
shards = "{multi}"
base = "{base}"
out = "{out}"
batch = 2
warmup = 2
seed = 3
holdout = 0.1
validate_every = 4
checkpoint_every = 2
loader_workers = 0
device = "cpu"
quiet = true

[[phase]]
data = "single_view"
steps = 6
views = {{ 1 = 1.0 }}
shards = [{{ path = "{single}", weight = 2.0 }}, {{ path = "{multi}" }}]

[[phase]]
data = "multi_view"
steps = 6
views = {{ 1 = 0.5, 7 = 0.5 }}

[[phase]]
data = "multi_view"
steps = 6
views = {{ 1 = 1.0, 3 = 1.0, 7 = 1.0 }}
keep_frontal = false

[[phase]]
data = "curated"
curated = 0.5
steps = 6
views = {{ 4 = 0.5, 7 = 0.5 }}
learning_rate = 5e-6
"""


@pytest.mark.proof
def test_the_four_phases_of_a_file_are_killed_and_go_on(tmp_path):
    """A folder of single views first, then several views: in all phases as if nothing happened."""
    write_encoded(tmp_path / "multi", [7, 6], people=lambda n: 1 + n % 2)
    write_encoded(tmp_path / "single", [12], views=[3])
    base = save_base(tmp_path / "wan")
    commands = {}
    for name in ("whole", "killed"):
        file = tmp_path / f"{name}.toml"
        folders = {"multi": tmp_path / "multi", "single": tmp_path / "single"}
        file.write_text(CURRICULUM.format(base=base, out=tmp_path / name, **folders))
        commands[name] = ["--settings", str(file)]
    assert train.main(commands["whole"]) == 0
    metrics = tmp_path / "killed/metrics.jsonl"
    for number, resume in ((4, []), (10, ["--resume"]), (21, ["--resume"])):
        line = [sys.executable, "-m", "jobs.train", *commands["killed"], *resume]
        process = subprocess.Popen(line, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not (metrics.is_file() and metrics.read_text().count("\n") >= number):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert train.main([*commands["killed"], "--resume"]) == 0
    whole, killed = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in commands
    )
    assert [record["phase"] for record in killed] == [1] * 6 + [2] * 6 + [3] * 6 + [4] * 6
    same = ("step", "phase", "loss", "noise", "lr", "grad_norm", "validation")
    for one, other in zip(whole, killed, strict=True):
        assert {k: one.get(k) for k in same} == {k: other.get(k) for k in same}
    models = [load_file(tmp_path / name / "model/transformer/diffusion_pytorch_model.safetensors")
              for name in commands]  # fmt: skip
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def command(words):
    return train.main(words)


@pytest.mark.slow
def test_torchrun_starts_the_workers(inputs, tmp_path):
    """Two of them train one model, one of them speaks, and a second call goes on from there."""
    out, logs = tmp_path / "out", tmp_path / "logs"
    words = [*inputs, *SHORT[:-1], "--out", str(out), "--steps", "2", "--batch", "4"]
    as_torchrun = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="test", rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", start_method=forked().get_start_method(),
        logs_specs=DefaultLogsSpecs(str(logs), redirects=Std.ALL),
    )  # fmt: skip
    assert elastic_launch(as_torchrun, command)(words) == {0: 0, 1: 0}
    said = "".join(path.read_text() for path in logs.rglob("std*.log"))
    assert said.count("the model is in") == said.count("8 samples:") == 1
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["samples"] for record in records] == [4.0, 4.0]
    assert train.main([*words, "--resume", "--quiet"]) == 0  # nothing is left to do


@pytest.mark.slow
def test_packed_shards_are_trained_on_by_one_command(tmp_path, monkeypatch):
    """Encoded first, with the sizes of the base, which are small here."""
    monkeypatch.setattr(encoder, "default_buckets", lambda recipe, multiple: (Bucket(9, 96, 160),))
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (9, 6, 10, 3), np.uint8)
    clip = mp4((np.kron(c, np.ones((16, 16, 1), np.uint8)) for c in coarse), (160, 96), 16)
    made = TinyRun(tmp_path)
    made.add("a", clip=clip, caption="one")
    folder = made.save()
    pack(folder, folder.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    base = save_base(tmp_path / "wan", rope_max_seq_len=1024)
    out = tmp_path / "out"
    words = ["--base", str(base), "--out", str(out), "--steps", "1", "--phases", "4", "--batch",
             "1", "--loader-workers", "0", "--device", "cpu", "--quiet"]  # fmt: skip
    assert train.main([f"{folder.url}/shards", *words]) == 0
    index = EncodedShards(f"{out}/encoded").index
    assert index.select(["frames", "height", "width"]).to_pylist() == [
        {"frames": 9, "height": 96, "width": 160}
    ]
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["phase"] for record in records] == [4]
    assert load_expert(out / "model", str(base), "transformer").config.vit_dim is None


def test_a_plan_is_printed_and_nothing_is_written(inputs, tmp_path, capsys, monkeypatch):
    """Of the data's own sizes, with the memory by part, and the days; in 80 columns."""
    words = [*inputs, *SHORT, "--out", str(tmp_path / "out"), "--absent-views", "sequential"]
    monkeypatch.setenv("COLUMNS", "80")
    assert train.main([*words, "--plan"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"9 frames of 32x32, 1 person +8 ", said)
    assert all(part in said for part in ("weights", "AdamW", "a block at work", "days"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--phases", "7"], 2, "--phases"),
        (["--phase", "{}"], 2, "phase 1: data is missing"),
        (["--base", "nowhere/at/all"], 1, "There is no Wan transformer"),
        (["--experts", "low"], 1, "only one"),
        (["--workers", "3"], 1, "does not divide"),
        (["--device", "cuda:1"], 2, "--device"),
        (["--plan", "--card", "H999"], 1, "--card H999: known are H100"),
        (["--plan", "--mfu", "0"], 2, "--mfu"),
    ],
)
def test_mistakes_are_told_with_the_option(inputs, tmp_path, capsys, change, status, message):
    """In one message on stderr, before anything is trained."""
    out = tmp_path / "out"
    assert train.main([*inputs, *SHORT, "--out", str(out), "--steps", "1", *change]) == status
    assert message in capsys.readouterr().err
    assert not (out / "checkpoints").exists()
