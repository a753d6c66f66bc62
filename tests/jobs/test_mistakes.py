"""Typical mistakes: each one sentence, the right exit status, and the folder usable afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from harmoview.tiny import save_base
from jobs import cli
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import TinyRun
from tests.harmoview.encoded import write_encoded

MISTAKES = {
    "no such corpus": ("synthesize nowhere --out OUT --local", 1, "nowhere"),
    "no such rules": ("synthesize clips --out OUT --local --rules no.toml", 1, "no.toml"),
    "rules not in TOML": (
        "synthesize clips --out OUT --local --rules bad.toml",
        1,
        "bad.toml",
    ),
    "a mistyped rule": ("synthesize clips --out OUT --local --rules typo.toml", 1, "did you mean"),
    "yaws unknown to the rules": (
        "synthesize clips --out OUT --local --rules yaw.toml --yaws 0 30",
        1,
        "90",
    ),
    "no such head": ("synthesize clips --out OUT --address 127.0.0.1:PORT", 1, "127.0.0.1:PORT"),
    "a run for a corpus": ("synthesize run --out OUT --local", 1, "is a run folder"),
    "a file for a base": ("synthesize clips --out OUT --local --base no", 1, "--base no"),
    "output in the corpus": (
        "synthesize clips --out clips/out --local",
        1,
        "lies in the corpus",
    ),
    "a number out of range": ("synthesize clips --out OUT --limit 0", 2, "--limit"),
    "a mistyped option": ("train encoded --out OUT --lr 1e-4", 2, "--learning-rate"),
    "a mistyped command": ("sythesize clips --out OUT", 2, "synthesize"),
    "no such settings file": ("pack run --out OUT --settings no.toml", 2, "no.toml"),
    "no such pairs": ("train-lora nowhere --out OUT --base wan", 1, ""),
    "no clips": ("pairs nowhere --out OUT", 1, "nowhere"),
    "shards of a run not packed": ("encode run --out OUT --base wan --vit none", 1, "run"),
    "a run for its shards": ("encode packed --out OUT --base wan --vit none", 1, "packed/shards"),
    "shards for their run": ("stats packed/shards", 1, "did you mean"),
    "yaws with commas": ("synthesize clips --out OUT --yaws 0,30", 2, "spaces between"),
    "no such base": ("encode encoded --out OUT --base no --vit none", 1, "no"),
    "no such base to train": ("train encoded --out OUT --base no", 1, "no/transformer"),
    "a FLUX as a base": ("train encoded --out OUT --base flux", 1, "holds a FLUX"),
    "no such run to resume": ("train encoded --out OUT --base no --resume", 1, "no/transformer"),
    "a base the hub lacks": ("train encoded --out OUT --base org/no", 1, "org/no"),
    "no such sample": ("show run nobody", 1, "nobody"),
    "another's folder": ("pack run --out clips", 1, "did not write"),
    "a single video": ("synthesize clips/a.mp4 --out OUT --local", 1, "Put it in a folder"),
    "an empty corpus": ("synthesize empty --out OUT --local", 1, "no video in it"),
    "a list of paths": ("synthesize list.txt --out OUT --local", 1, "not a corpus"),
    "a file for a folder": ("synthesize clips --out bad.toml --local", 1, "choose another --out"),
    "a text for a number": ("synthesize clips --out OUT --settings text.toml", 2, "whole number"),
    "a run of another format": ("stats older", 1, "format 3"),
    "no object in run.json": ("stats damaged", 1, "no JSON object"),
    "a video for a picture": ("views clips/a.mp4 --out OUT", 1, "give a JPEG or PNG"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus, a run, encoded shards, a base and rules files; the hub is away."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "clips").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    clip = mp4(iter(frames), (64, 64), 12)
    (folder / "clips" / "a.mp4").write_bytes(clip)
    (folder / "clips" / "a.txt").write_text("one")
    made = TinyRun(folder)
    made.add("a", clip=clip)
    made.save()
    shutil.copytree(folder / "run", folder / "packed")
    assert cli.main(["pack", str(folder / "packed"), "--quiet"]) == 0
    write_encoded(folder / "encoded", [2])
    save_base(folder / "wan")
    (folder / "flux" / "transformer").mkdir(parents=True)
    config = '{"_class_name": "FluxTransformer2DModel"}'
    (folder / "flux" / "transformer" / "config.json").write_text(config)
    (folder / "flux" / "transformer" / "diffusion_pytorch_model.safetensors").touch()
    cv2.imwrite(str(folder / "picture.png"), frames[0])
    for name, content in (("older", '{"format": 3}'), ("damaged", "[]"), ("empty", None)):
        (folder / name).mkdir()
        if content is not None:
            (folder / name / "run.json").write_text(content)
    (folder / "list.txt").write_text("clips/a.mp4\n")
    (folder / "text.toml").write_text('limit = "two"')
    (folder / "bad.toml").write_text("sharpness = [")
    (folder / "typo.toml").write_text("sharpnes = 3")
    (folder / "yaw.toml").write_text("[identity.sface]\nthreshold = { 90 = 0.3 }\n")
    return folder


@pytest.fixture
def words(place, tmp_path, monkeypatch):
    """Makes the words of a command in the place; the second name is its --out."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "out"

    def make(text):
        return text.replace("PORT", str(port)).replace("OUT", str(out))

    return make, out


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_sentence_and_binds_no_folder(mistake, words, capfd):
    """One line on stderr names what is wrong; the folder named by --out holds no claim."""
    make, out = words
    command, status, says = MISTAKES[mistake]
    assert cli.main(make(command).split()) == status
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "passed over" not in line]
    assert line.startswith("harmoview")
    assert make(says) in line
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith(".")} <= {"listing.json"}


def test_the_corrected_command_runs_in_the_same_folder(words):
    """After each mistake of synthesize, the right command makes the run in that folder."""
    make, out = words
    for command, _, _ in MISTAKES.values():
        if command.startswith("synthesize") and "OUT" in command:
            cli.main(make(command).split())
    assert cli.main(make("synthesize clips --out OUT --local --quiet").split()) == 0
    assert (out / "ledger").is_dir()


@pytest.mark.usefixtures("words")
def test_verify_of_a_run_means_its_shards(capsys):
    """`verify RUN` checks RUN/shards."""
    assert cli.main(["pack", "run", "--quiet"]) == 0
    assert cli.main(["verify", "run", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_nothing_is_said_by_libraries(words):
    """A refused training says its own sentence and nothing else, in a process of its own."""
    make, _ = words
    command = [sys.executable, "-m", "jobs.train", *make("encoded --out OUT --base org/no").split()]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "org/no" in line
