"""From virtual subjects to a user's own views: every command of the LoRA, one after another."""

import hashlib
import json
import runpy
import tarfile
from pathlib import Path

import cv2
import pytest

from datapipe.files import Folder
from datapipe.record import YAWS
from jobs import pairs, subjects, synthesize, train_lora, views
from lora_engine.pairs import PairsFolder

FLUX = Path(__file__).parents[1] / "lora_engine/flux"


def contents(run):
    """Every candidate and shard of a run."""
    files = [*(run / "candidates").rglob("*.tar"), *(run / "shards").glob("*.tar")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.weights
def test_from_virtual_subjects_to_views_of_a_video(cluster, tmp_path):
    """subjects, pairs, train-lora, views and synthesize take each other's output as it is.

    A run begun in one process and continued on Ray, on a declared GPU, is the run in one process.
    """
    base = runpy.run_path(str(FLUX / "tiny.py"))["save_base"](tmp_path / "base")
    clips, made, lora, run = (str(tmp_path / name) for name in ("clips", "pairs", "lora", "run"))
    few = ["--seconds", "3", "--size", "384", "--workers", "1", "--quiet"]
    assert subjects.main(["--out", clips, "--count", "2", *few]) == 0
    split = ["--validation", "0.5", "--workers", "1", "--quiet"]
    assert pairs.main([clips, "--out", made, "--truth", *split]) == 0
    tiny = ["--steps", "2", "--resolution", "64", "--rank", "2", "--text-length", "64",
            "--validation-steps", "1", "--quiet"]  # fmt: skip
    assert train_lora.main([made, "--base", str(base), "--out", lora, *tiny]) == 0

    flux = ["--engine", "flux", "--base", str(base), "--lora", lora, "--denoising-steps", "1"]
    held = next(iter(PairsFolder(Folder(made)).subjects("validation")))
    portrait = tmp_path / "portrait.png"
    cv2.imwrite(str(portrait), held.frame(0).image()[..., ::-1])
    assert views.main([str(portrait), *flux, "--out", str(tmp_path / "views"), "--quiet"]) == 0
    sheet = sorted(path.name for path in (tmp_path / "views/portrait").glob("yaw*.jpg"))
    assert len(sheet) == len(YAWS)

    only = ["--out", run, "--local", "--limit", "1", "--quiet"]
    assert synthesize.main([clips, *flux, *only]) == 0
    candidate = next((tmp_path / "run/candidates").rglob("*.tar"))
    with tarfile.open(candidate) as tar:
        seen = [name for name in tar.getnames() if ".yaw" in name]
        record = json.load(tar.extractfile("subject-000000.json"))
    adapter = (tmp_path / "lora/pytorch_lora_weights.safetensors").read_bytes()
    assert len(seen) == len(YAWS)
    assert record["provenance"]["engine"]["adapter"] == hashlib.sha256(adapter).hexdigest()

    cluster.add_node(num_cpus=0, num_gpus=1)
    assert synthesize.main([clips, *flux, "--out", run, "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert synthesize.main([clips, *flux, "--out", str(whole), "--local", "--quiet"]) == 0
    assert len(contents(whole)) >= 2
    assert contents(tmp_path / "run") == contents(whole)
