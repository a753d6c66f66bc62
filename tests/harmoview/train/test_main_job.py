"""From virtual subjects through the real main job to a model that looks at its references."""

from __future__ import annotations

import json
import logging

import pytest

from harmoview.tiny import save_base, tower
from jobs import encode, subjects, synthesize, train

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.ray]
TINY = {"num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 256, "num_layers": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Thirty people: rendered, cut, given views, measured, packed by the default rules, encoded."""
    logging.disable(logging.DEBUG)
    root = tmp_path_factory.mktemp("people")
    clips, run = str(root / "clips"), str(root / "run")
    short = ["--seconds", "0.8", "--fps", "15", "--size", "448", "--quiet"]
    assert subjects.main(["--out", clips, "--count", "30", *short]) == 0
    assert synthesize.main([clips, "--out", run, "--quiet"]) == 0
    save_base(root / "wan", calibrated=True, **TINY)
    tower().save_pretrained(root / "vit")
    made = encode.main(
        [f"{run}/shards", "--out", str(root / "encoded"), "--base", str(root / "wan"),
         "--vit", str(root / "vit"), "--local", "--quiet", "--buckets", "5x64x64", "--fps", "8",
         "--reference-size", "32", "--vit-layer", "1", "--vit-size", "56", "--text-length", "16"]
    )  # fmt: skip
    assert made == 0
    return root


def test_shards_of_the_main_job_teach_whose_references_are_shown(place, tmp_path):
    """On people never trained on: the loss with their own references is below that with another's.

    Not below none: twenty-four people are too few for that, see `test_learning.py`.
    """
    packed = json.loads((place / "run" / "shards" / "manifest.json").read_text())
    assert packed["totals"]["samples"] >= 20  # the rules of the package let most of them pass
    done = train.main(
        [str(place / "encoded"), "--out", str(tmp_path), "--base", str(place / "wan"),
         "--vit", str(place / "vit"), "--phases", "1-4", "--steps", "110", "--batch", "8",
         "--micro-batch", "8", "--learning-rate", "3e-3", "--warmup", "10", "--ema", "0.97",
         "--curated", "0.6", "--holdout", "0.2", "--validation-samples", "6",
         "--validate-every", "1000", "--checkpoint-every", "1000", "--loader-workers", "0",
         "--device", "cpu", "--quiet"]
    )  # fmt: skip
    assert done == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    losses = {name: value for name, value in last["validation"].items() if "references" in name}
    assert losses["references/own"] < 0.99 * losses["references/other"], losses
