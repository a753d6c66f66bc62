"""A short training on given shards with a tiny random Wan: the end of `make demo`."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jobs import encode, train
from jobs.cli import command

TINY: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 256, "num_layers": 2,
}  # fmt: skip
"""The tiny Wan's configuration."""
STEPS = 20
"""Training steps of each phase."""


@dataclass(frozen=True)
class DemoTrainingSettings:
    """Encode shards and train all four phases with tiny random models, in less than a minute.

    It shows that the parts fit together. Nothing that such a model makes is worth looking at.
    """

    shards: tyro.conf.Positional[Path]
    """What `harmoview pack` wrote."""
    out: Path
    """Folder for the tiny Wan, the encoded shards and the run; an earlier one is replaced."""


def execute(settings: DemoTrainingSettings) -> int:
    """Run the commands that a user would type, one after the other."""
    out = settings.out
    for part in ("wan", "vit", "encoded", "run"):
        shutil.rmtree(out / part, ignore_errors=True)
    _tiny_models(out)
    models = ("--base", out / "wan", "--vit", out / "vit")
    done = step(
        encode.main, "encode", settings.shards, "--out", out / "encoded", *models, "--local",
        "--quiet", *("--buckets", "9x64x64", "9x64x96"), *("--fps", 8),
        *("--reference-size", 32), *("--vit-layer", 1), *("--vit-size", 56),
        *("--text-length", 64),
    )  # fmt: skip
    done = done or step(
        train.main, "train", out / "encoded", "--out", out / "run", *models[:2], "--quiet",
        *("--phases", "1-4"), *("--steps", STEPS), *("--batch", 2), *("--micro-batch", 2),
        *("--learning-rate", 3e-3),
        *("--warmup", 5), *("--ema", 0.9), *("--curated", 0.5), *("--holdout", 0.2),
        *("--validation-samples", 1), *("--loader-workers", 0), "--device", "cpu",
    )  # fmt: skip
    if done:
        return done
    print(table(out / "run" / "metrics.jsonl"))
    print(
        f"\nA tiny random Wan in the real format was trained; the model is in {out}/run/model.\n"
        "On real weights:\n\n"
        "  .venv/bin/harmoview encode SHARDS --out ENCODED --base WAN --vit QWEN\n"
        "  .venv/bin/harmoview train ENCODED --out RUN --base WAN\n"
    )
    return 0


def table(metrics: Path) -> str:
    """The loss of each phase: of its first and last five steps, and on what was held out."""
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines = ["", "phase  loss, first steps  last steps  held out"]
    for phase in sorted({record["phase"] for record in records}):
        own = [record for record in records if record["phase"] == phase]
        losses = [record["loss"] for record in own]
        held_out = own[-1].get("validation", {}).get("references/own")
        shown = "-" if held_out is None else f"{held_out:.3f}"
        first, last = sum(losses[:5]) / len(losses[:5]), sum(losses[-5:]) / len(losses[-5:])
        lines.append(f"{phase:>5}  {first:>17.3f}  {last:>10.3f}  {shown:>8}")
    return "\n".join(lines)


def _tiny_models(out: Path) -> None:
    from training.device import silence_libraries

    silence_libraries()  # before the libraries are imported
    import torch

    from harmoview.tiny import save_base, tower

    torch.set_num_threads(1)  # so small a model is only slowed by more
    save_base(out / "wan", calibrated=True, **TINY)
    tower().save_pretrained(out / "vit")


def step(main: Callable[[Sequence[str]], int], name: str, *arguments: object) -> int:
    """Show a command as a user would type it, and run it; returns its exit status."""
    words = [str(word) for word in arguments]
    print(f"\n$ harmoview {name} {shlex.join(words)}", flush=True)
    return main(words)


main = command(__name__, DemoTrainingSettings, execute)
