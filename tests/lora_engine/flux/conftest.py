"""What the tests of the FLUX engine share: a tiny base, a portrait, adapters that matter."""

import runpy
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers

from datapipe.files import Folder
from datapipe.record import YAWS
from lora_engine.flux import prompts
from lora_engine.flux.adapter import FILE, AdapterHeader, adapter_bytes, add_lora
from lora_engine.flux.base import find_base
from lora_engine.flux.prompts import encode_prompts, save_prompts
from lora_engine.flux.settings import TARGETS, TrainLoraSettings
from lora_engine.flux.train import check_and_claim, train

torch.set_num_threads(1)
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

PEOPLE = runpy.run_path(str(Path(__file__).with_name("people.py")))
TINY = runpy.run_path(str(Path(__file__).with_name("tiny.py")))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def tiny():
    """The names of tiny.py."""
    return TINY


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A whole Kontext folder of random weights."""
    return TINY["save_base"](tmp_path_factory.mktemp("base") / "tiny-kontext")


@pytest.fixture
def portrait():
    """A square RGB picture with some structure."""
    y, x = np.mgrid[0:96, 0:96]
    channels = [x * 2, y * 2, (x + y) % 256]
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.fixture
def make_adapter(tiny_base, tmp_path):
    """Writes an adapter with random B, so that it changes the base's output."""

    def make(
        mode="concatenated", yaws=YAWS, name="adapter", sidecar=True, alpha=4.0, dtype=torch.float32
    ):
        transformer = diffusers.FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")
        torch.manual_seed(3)
        add_lora(transformer, 2, alpha, TARGETS)
        for parameter_name, parameter in transformer.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.2)
        header = AdapterHeader(
            base="tiny-kontext",
            rank=2,
            alpha=alpha,
            targets=TARGETS,
            yaws=tuple(yaws),
            prompts=tuple(prompts.prompt(yaw) for yaw in yaws),
            text_length=512,
            resolution=(64,),
            reference_mode=mode,
            data="0" * 64,
            steps=1,
            seed=0,
        )
        folder = Folder(tmp_path / name)
        folder.put(FILE, adapter_bytes(transformer, header, dtype))
        if sidecar:
            base = find_base(str(tiny_base))
            save_prompts(folder, encode_prompts(base, prompts.standard(yaws), 512, "cpu", dtype))
        return str(tmp_path / name)

    return make


@pytest.fixture(scope="session")
def people():
    """The names of people.py."""
    return PEOPLE


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Pairs of three people to train on and one to validate with."""
    return PEOPLE["save_pairs"](tmp_path_factory.mktemp("pairs"))


@pytest.fixture
def run(tiny_base, pairs, tmp_path):
    """Trains in tmp_path / name with tiny settings; returns the folder."""

    def train_there(name="run", resume=False, measure=None, progress=None, **changes):
        settings = TrainLoraSettings(
            **{
                "pairs": str(pairs), "out": str(tmp_path / name), "base": str(tiny_base),
                "resolution": (32,), "rank": 2, "steps": 3, "yaws_per_group": 2, "warmup": 2,
                "text_length": 64, "validation_steps": 2, "validate_every": 0,
                "learning_rate": 1e-2, "variants": 1, **changes,
            }
        )  # fmt: skip
        train(settings, check_and_claim(settings, 1, resume=resume), measure, progress)
        return tmp_path / name

    return train_there
