"""Everything that this repository claims about GPUs, at full size with random weights, in minutes.

    python -m benchmarks.on_gpu --out gpu.json        # eight minutes at most on one H100 or H200

Each part is a process of its own with a limit of its own, so that one that fails or hangs costs
only itself. The JSON holds every line that the parts printed, what timed out and what was left out;
the rows of docs/benchmarks.md are printed. Without a GPU the same parts run with tiny models, which
shows that they run, and nothing else.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks import kontext, train_step
from training import parallel

Outcome = Literal["done", "failed", "timed out", "skipped"]
LEAST = 5.0
"""Seconds that must be left for a part to begin."""


@dataclass(frozen=True)
class OnGpuBenchmark:
    """Measure all parts, or some by name."""

    out: Path
    """The JSON file to write."""
    seconds: float = 480.0
    """For all parts together."""
    parts: tuple[str, ...] = ()
    """Names of parts; the default is all of them."""
    generate: bool = False
    """Only print the time of a denoising step of the video model: the last part's own process."""


@dataclass(frozen=True)
class Part:
    """One process."""

    name: str
    full: tuple[str, ...]
    """What follows `python`, for a GPU."""
    tiny: tuple[str, ...]
    """The same for a CPU."""
    limit: float
    """Seconds."""


SYNTHESIS = ("-m", "benchmarks.synthesis", "--repeats", "1", "--steps")
LORA = ("-m", "benchmarks.lora_step", "--repeats")
TRAIN = ("-m", "benchmarks.train_step", "--steps", "2", "--model")
GENERATE = ("-m", "benchmarks.on_gpu", "--generate", "--out", "unused")
PARTS = (
    Part("synthesis 512", (*SYNTHESIS, "8", "--resolution", "512"), (*SYNTHESIS, "1"), 110),
    Part("synthesis 1024", (*SYNTHESIS, "2", "--resolution", "1024"), (*SYNTHESIS, "1"), 130),
    Part("LoRA step 512", (*LORA, "2"), (*LORA, "1"), 80),
    Part("train step 5B", (*TRAIN, "5B", "--frames", "49"), (*TRAIN, "tiny"), 90),
    Part("generate step 5B", GENERATE, GENERATE, 60),
)
"""Synthesis measures stock, exact, safe and two-pass, and fp8 where the card multiplies it."""


@dataclass(frozen=True)
class Result:
    """What became of a part."""

    name: str
    command: str
    outcome: Outcome
    seconds: float
    lines: tuple[str, ...]
    """What it printed, also before its time was over."""
    why: str = ""
    """Of what is not done."""


def main(settings: OnGpuBenchmark) -> None:
    """Run the parts one after the other, write the JSON, print the rows.

    Raises ValueError for an unknown part.
    """
    if settings.generate:
        generate_step()
        return
    known = [part.name for part in PARTS]
    if unknown := set(settings.parts) - set(known):
        raise ValueError(f"no parts are called {sorted(unknown)}; there are {known}")
    gpu, begin = torch.cuda.is_available(), time.monotonic()
    results = []
    for part in PARTS:
        if not settings.parts or part.name in settings.parts:
            left = settings.seconds - (time.monotonic() - begin)
            results.append(run(part, part.full if gpu else part.tiny, left))
            print(row(results[-1]), flush=True)
    about = {
        "machine": kontext.machine(torch.device("cuda" if gpu else "cpu")),
        "size": "full" if gpu else "tiny",
        "seconds": round(time.monotonic() - begin, 1),
        "parts": [asdict(result) for result in results],
    }
    settings.out.write_text(json.dumps(about, indent=1))


def run(part: Part, arguments: Sequence[str], left: float) -> Result:
    """Run a part within its limit and what is left of the whole time."""
    command = f"python {' '.join(arguments)}"
    if left < LEAST:
        return Result(part.name, command, "skipped", 0.0, (), "no time was left")
    begin, limit = time.monotonic(), min(part.limit, left)
    outcome: Outcome = "done"
    why = ""
    with subprocess.Popen(
        # unbuffered, so that what a part printed is there when its time is over
        [sys.executable, "-u", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            outcome, why = "timed out", f"it had {limit:.0f} s"
    if outcome == "done" and process.returncode:
        outcome, why = "failed", (errors.strip().splitlines() or ["no message"])[-1]
    seconds = round(time.monotonic() - begin, 1)
    return Result(part.name, command, outcome, seconds, tuple(out.splitlines()), why)


def row(result: Result) -> str:
    """The row of docs/benchmarks.md."""
    text = "; ".join(re.sub(r"\s{2,}", " ", line.strip()) for line in result.lines)
    if result.outcome != "done":
        text = f"{result.outcome}: {result.why}" + (f"; until then: {text}" if text else "")
    return f"| {result.name} | {text} | `{result.command}` |"


def generate_step() -> None:
    """Print what one forward pass of the video model with one identity's references takes."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    dtype = torch.bfloat16 if gpu else torch.float32
    case = train_step.CASES["5B" if gpu else "tiny"]
    with parallel.process_group(device):
        model = train_step.build(case, device, dtype).eval().requires_grad_(False).to(dtype)
        values = train_step.inputs(model, case, 49, 1, device, dtype)
        tokens, _ = train_step.token_count(values)
        with torch.no_grad():
            seconds = kontext.seconds(lambda: model(**values, return_dict=False), device, 3)
    print(f"{kontext.machine(device)}; {tokens:,} tokens, {seconds:.3f} s a step without guidance")


if __name__ == "__main__":
    main(tyro.cli(OnGpuBenchmark))
