"""The proof: a short run through all four phases makes the model use its references."""

from __future__ import annotations

import json
import logging

import pytest
from people import FPS, SIDE, packed_people

from harmoview.tiny import save_base, tower
from jobs import encode, train

pytestmark = [pytest.mark.slow, pytest.mark.weights]
TINY = {"num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 256, "num_layers": 3}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """Twelve virtual subjects in eight colours each, packed and encoded by the real commands."""
    logging.disable(logging.DEBUG)
    root = tmp_path_factory.mktemp("people")
    shards = packed_people(root, 12, tints=8)
    save_base(root / "wan", calibrated=True, **TINY)
    tower().save_pretrained(root / "vit")
    made = encode.main(
        [shards, "--out", str(root / "encoded"), "--base", str(root / "wan"),
         "--vit", str(root / "vit"), "--local", "--quiet", "--buckets", f"5x{SIDE}x{SIDE}",
         "--fps", str(FPS), "--reference-size", "32", "--vit-layer", "1", "--vit-size", "56",
         "--text-length", "16"]
    )  # fmt: skip
    assert made == 0
    return root


def test_the_right_references_help_and_another_persons_do_not(encoded, tmp_path):
    """On held-out samples: own references below none, and clearly below another person's."""
    done = train.main(
        [str(encoded / "encoded"), "--out", str(tmp_path), "--base", str(encoded / "wan"),
         "--vit", str(encoded / "vit"), "--phases", "1-4", "--steps", "110", "--batch", "8",
         "--micro-batch", "8", "--learning-rate", "3e-3", "--warmup", "10", "--ema", "0.97",
         "--curated", "0.9", "--holdout", "0.1", "--validation-samples", "8",
         "--validate-every", "1000", "--checkpoint-every", "1000", "--loader-workers", "0",
         "--device", "cpu", "--quiet"]
    )  # fmt: skip
    assert done == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    losses = {name: value for name, value in last["validation"].items() if "references" in name}
    own = losses["references/own"]
    assert own < 0.97 * losses["references/none"], losses
    assert own < 0.92 * losses["references/other"], losses
