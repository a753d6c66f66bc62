"""Seven views: seven calls of stock FLUX.1 Kontext against the engine, on the same weights.

    python -m benchmarks.synthesis                                  # tiny on a CPU, full on a GPU
    python -m benchmarks.synthesis --resolution 1024 --steps 28

Weights are random: neither time nor memory depends on their values. "stock" encodes prompt and
reference in each of its seven calls, as its users do. What fast leaves out does depend on them, so
that its time would say nothing with random weights.

    python -m benchmarks.synthesis --runs pilot-exact pilot-safe pilot-fast

compares finished runs of one corpus by accepted views per second, with quality beside.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import tyro
from PIL import Image as Pillow

from benchmarks import kontext
from datapipe.files import Folder
from datapipe.record import YAWS, Image
from datapipe.run.info import load_info
from datapipe.run.tables import tables
from dataset.inspect.stats import run_stats
from dataset.run import run_rules
from lora_engine.flux.adapter import chosen
from lora_engine.flux.denoise import Denoiser, speed_up
from lora_engine.flux.prompts import prompt
from lora_engine.flux.reference_kv import ReferenceKV
from lora_engine.flux.settings import FluxSettings, Speed
from training.device import silence_libraries
from training.quantize import quantize

SEEDS = range(7)


@dataclass(frozen=True)
class SynthesisBenchmark:
    """Time stock, exact, safe, fast and two-pass synthesis of seven views, or compare runs."""

    size: kontext.Size | None = None
    """Of the model; the default is full on a GPU, tiny on a CPU."""
    resolution: int | None = None
    """Pixels; the default is 512 on a GPU, 64 on a CPU."""
    steps: int | None = None
    """Denoising steps; the default is 28 on a GPU, 4 on a CPU."""
    repeats: int = 3
    compile: bool | None = None
    """Compile the model's blocks; the default is to, on a GPU."""
    runs: tuple[str, ...] = ()
    """Run folders to compare, the first as the standard; nothing is timed then."""
    rules: str | None = None
    """Rules file that judges the runs; the default rules come with the package."""


@dataclass(frozen=True)
class Figures:
    """What one way of making seven views costs."""

    name: str
    seconds: float
    memory: float | None
    """Memory of the GPU at most, GiB."""
    mfu: float | None
    outside: float
    """Share of the time that is not spent in the transformer."""


def main(settings: SynthesisBenchmark) -> None:
    """Print one line per way, or per run."""
    if settings.runs:
        compare(settings.runs, settings.rules)
        return
    silence_libraries()
    device, size, side = kontext.chosen(settings.size, settings.resolution)
    gpu = device.type == "cuda"
    steps = settings.steps or (28 if gpu else 4)
    dtype = torch.bfloat16 if gpu else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with device:
        pipe = kontext.pipeline(size)
    torch.set_default_dtype(torch.float32)
    embedded = kontext.embeddings(pipe, 512)
    flops = kontext.count_flops(size, side, 512)
    reference = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    print(f"{kontext.machine(device)}; {size} size, {side}x{side}, {steps} steps, {dtype}")

    rows: list[Figures] = []

    def measured(name: str, call: Callable[[], object], work: float) -> None:
        row = measure(name, call, work * len(YAWS) * steps, pipe.transformer, device,
                      settings.repeats)  # fmt: skip
        rows.append(row)
        show(row, rows[0])  # now, since whoever gave too little time shall have what is measured

    show_heads()
    measured("stock, seven calls", lambda: stock(pipe, reference, steps), flops.concatenated)
    pipe.text_encoder = pipe.text_encoder_2 = None
    release(device)

    def engine(speed: Speed, two_pass: bool = False) -> Callable[[], list[Image]]:
        how = FluxSettings("random", denoising_steps=steps, speed=speed, compile=settings.compile)
        cache = ReferenceKV(pipe.transformer) if two_pass else None
        speed_up(pipe.transformer, how, device)
        made = Denoiser(how, side, pipe.transformer, pipe.vae, pipe.scheduler, embedded, cache)
        return lambda: made(reference, YAWS, SEEDS)

    whole, once = flops.concatenated, flops.reference / (len(YAWS) * steps)
    measured("exact (bits of stock)", engine("exact"), whole)
    measured("safe, text 512, no fp8", engine("safe"), whole)
    measured("two-pass reference", engine("safe", two_pass=True), flops.two_pass + once)
    if chosen(FluxSettings(), device, dtype) == "fp8":
        quantize(pipe.transformer, "fp8", device, learns=False)
        pipe.transformer.to(device)
        measured("safe, text 512, fp8", engine("safe"), whole)


def compare(runs: Sequence[str], path: str | None) -> None:
    """Accepted views a second of each run, and the mean scores of the views that all have made."""
    rows = []
    made: list[dict[tuple[str, int, int], tuple[float | None, ...]]] = []
    for url in runs:
        run = Folder(url)
        rules = run_rules(run, path)
        rows.append(run_stats(run, rules))
        with tables(run, load_info(run)) as connection:
            found = connection.execute(
                "SELECT key, identity, yaw, identity_cosine, abs(measured_yaw - yaw), "
                "sharpness_ratio FROM views WHERE source = 'synthesised'"
            ).fetchall()
        made.append({(key, identity, yaw): scores for key, identity, yaw, *scores in found})
    common = set.intersection(*map(set, made))
    print(f"{len(common)} views that every run has made")
    print("{:<32}{:>14}{:>8}{:>9}{:>11}{:>11}".format(
        "", "accepted / s", "yield", "cosine", "yaw error", "sharpness"))  # fmt: skip
    for url, stats, views in zip(runs, rows, made, strict=True):
        rate, count = stats.accepted, stats.views("made")
        speed = "-" if rate is None else f"{rate.per_second:.3g} {rate.unit.upper()}"
        share = f"{stats.views('passed') / count:.0%}" if count else "-"
        means = [mean([views[view][place] for view in common]) for place in range(3)]
        print(f"{Path(url).name:<32}{speed:>14}{share:>8}{means[0]:>9}{means[1]:>11}{means[2]:>11}")


def mean(values: Sequence[float | None]) -> str:
    """Of those that could be measured."""
    known = [value for value in values if value is not None]
    return f"{fmean(known):.3f}" if known else "-"


def stock(pipe: object, reference: Image, steps: int) -> None:
    """Seven calls as the pipeline's documentation shows them."""
    side = reference.shape[0]
    for yaw, seed in zip(YAWS, SEEDS, strict=True):
        pipe(  # type: ignore[operator]  # the library is not typed
            image=Pillow.fromarray(reference), prompt=prompt(yaw), height=side, width=side,
            max_area=side * side, _auto_resize=False, num_inference_steps=steps,
            guidance_scale=2.5, generator=torch.Generator("cpu").manual_seed(seed),
        )  # fmt: skip


def measure(
    name: str, call: Callable[[], object], work: float, model: torch.nn.Module,
    device: torch.device, repeats: int,
) -> Figures:  # fmt: skip
    """Time, then the transformer's share in a run of its own."""
    release(device)
    time = kontext.seconds(call, device, repeats)
    memory = None
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**30
    with kontext.timed(model, device) as inside:
        whole = kontext.seconds(call, device, 1, warm=True)
    outside = 1 - sum(inside) / whole
    peak = kontext.peak_of(device)
    return Figures(name, time, memory, None if peak is None else work / time / peak, outside)


def release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def show_heads() -> None:
    heads = ("", "s / 7 views", "x stock", "peak GiB", "MFU", "outside")
    print("{:<30}{:>12}{:>9}{:>10}{:>7}{:>9}".format(*heads))


def show(row: Figures, first: Figures) -> None:
    """A row of the table; the ratio is to the first one."""
    memory = "-" if row.memory is None else f"{row.memory:.1f}"
    mfu = "-" if row.mfu is None else f"{row.mfu:.0%}"
    print(f"{row.name:<30}{row.seconds:>12.3f}{first.seconds / row.seconds:>9.2f}{memory:>10}"
          f"{mfu:>7}{row.outside:>9.0%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(SynthesisBenchmark))
