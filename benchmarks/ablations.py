"""The ablations of the paper's Table 2, each a setting of `harmoview train`, at tiny scale.

    python benchmarks/ablations.py ENCODED --base WAN --out DIR [--steps 100]

Trains every variant on the same encoded shards for the same steps and prints the losses on
held-out samples. See the remark that it prints: a loss is not what Table 2 measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from jobs import train

VARIANTS: dict[str, list[str]] = {
    "full model": [],
    "(a) no MFI": ["--no-mfi"],
    "(b.1) sequential concat": ["--absent-views", "sequential"],
    "(b.2) gray padding": ["--absent-views", "gray"],
    "(c) no Jump-RoPE": ["--no-jump-rope"],
    "(d.1) only single-view": ["--curriculum", "single_view"],
    "(d.2) only multi-view": ["--curriculum", "multi_view"],
    "(d.3) no view dropout": ["--curriculum", "no_view_dropout"],
}
COLUMNS = ("references/own", "references/other", "references/none", "views/1", "views/4")
REMARK = """
Losses of flow matching on held-out samples, lower is better; own/other/none: whose references were
shown; 1 and 4: how many views. The paper's Table 2 scores generated videos of a 14-billion model
with FaceSim, Nexus and others. A tiny model on a few samples shows that every variant runs and
differs, and whether references are used at all. Differences between variants of a few percent are
within what another seed changes; the order of the rows says nothing about the real model."""


def main() -> None:
    """Train each variant and print a row as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoded")
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("".join([f"{'':<26}", *(f"{name.removeprefix('references/'):>10}" for name in COLUMNS)]))
    for name, settings in VARIANTS.items():
        losses = losses_of(options, name, settings)
        print(f"{name:<26}" + "".join(f"{losses[column]:>10.3f}" for column in COLUMNS), flush=True)
    print(REMARK)


def losses_of(options: argparse.Namespace, name: str, settings: list[str]) -> dict[str, float]:
    """Train one variant; returns its last losses. Raises SystemExit where it fails."""
    out = options.out / "".join(c if c.isalnum() else "-" for c in name)
    shutil.rmtree(out, ignore_errors=True)
    steps, batch = str(options.steps), str(options.batch)
    done = train.main(
        [options.encoded, "--out", str(out), "--base", options.base, *settings,
         "--steps", steps, "--batch", batch, "--micro-batch", batch, "--seed", str(options.seed),
         "--learning-rate", "3e-3", "--warmup", "10", "--ema", "0.97", "--holdout", "0.1",
         "--curated", "0.9", "--validate-every", steps, "--checkpoint-every", "100000",
         "--loader-workers", "0", "--quiet"]
    )  # fmt: skip
    if done:
        raise SystemExit(done)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    found: dict[str, float] = last["validation"]
    return found


if __name__ == "__main__":
    main()
