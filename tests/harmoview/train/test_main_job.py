"""From virtual subjects through the real main job to a model that looks at its references."""

from __future__ import annotations

import json
import logging

import pytest
from gradings import graded

from harmoview.tiny import save_base, tower
from jobs import encode, subjects, synthesize, train

pytestmark = [pytest.mark.proof, pytest.mark.weights, pytest.mark.ray]
TINY = {"num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 256, "num_layers": 3}
PEOPLE, GRADINGS = 20, 5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A hundred clips: rendered, graded, cut, given views, measured, packed, encoded.

    The rules are those of the package; clips and views are as small as these rules can measure.
    """
    logging.disable(logging.DEBUG)
    root = tmp_path_factory.mktemp("people")
    clips, run = str(root / "clips"), str(root / "run")
    small = ["--seconds", "1.2", "--fps", "15", "--size", "352", "--quiet"]
    assert subjects.main(["--out", clips, "--count", str(PEOPLE), *small]) == 0
    assert graded(root / "clips", root / "corpus", GRADINGS) == PEOPLE * GRADINGS
    corpus = str(root / "corpus")
    assert synthesize.main([corpus, "--out", run, "--resolution", "416", "--quiet"]) == 0
    save_base(root / "wan", calibrated=True, **TINY)
    tower().save_pretrained(root / "vit")
    made = encode.main(
        [f"{run}/shards", "--out", str(root / "encoded"), "--base", str(root / "wan"),
         "--vit", str(root / "vit"), "--local", "--quiet", "--buckets", "5x64x64", "--fps", "8",
         "--reference-size", "32", "--vit-layer", "1", "--vit-size", "56", "--text-length", "16"]
    )  # fmt: skip
    assert made == 0
    return root


def test_shards_of_the_main_job_teach_to_use_the_right_references(place, tmp_path):
    """On held-out clips: own references below none, and clearly below another person's."""
    packed = json.loads((place / "run" / "shards" / "manifest.json").read_text())
    assert packed["totals"]["samples"] >= 80  # the rules of the package let most of them pass
    done = train.main(
        [str(place / "encoded"), "--out", str(tmp_path), "--base", str(place / "wan"),
         "--phases", "1-4", "--steps", "110", "--batch", "8",
         "--micro-batch", "8", "--learning-rate", "3e-3", "--warmup", "10", "--ema", "0.97",
         "--curated", "0.9", "--holdout", "0.1", "--validation-samples", "12",
         "--validate-every", "1000", "--checkpoint-every", "1000", "--loader-workers", "0",
         "--device", "cpu", "--quiet"]
    )  # fmt: skip
    assert done == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    losses = {name: value for name, value in last["validation"].items() if "references" in name}
    own = losses["references/own"]
    assert own < 0.98 * losses["references/none"], losses
    assert own < 0.93 * losses["references/other"], losses
