"""Seven views: seven calls of stock FLUX.1 Kontext against the engine, on the same weights.

    python -m benchmarks.synthesis                                  # tiny on a CPU, full on a GPU
    python -m benchmarks.synthesis --resolution 1024 --steps 28

Weights are random: neither time nor memory depends on their values. "stock" encodes prompt and
reference in each of its seven calls, as its users do.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from PIL import Image as Pillow

from benchmarks import kontext
from datapipe.record import YAWS, Image
from lora_engine.flux.denoise import Denoiser, speed_up
from lora_engine.flux.prompts import prompt
from lora_engine.flux.reference_kv import ReferenceKV
from lora_engine.flux.settings import FluxSettings
from training.device import silence_libraries

SEEDS = range(7)


@dataclass(frozen=True)
class SynthesisBenchmark:
    """Time stock, exact, fast and two-pass synthesis of seven views."""

    size: kontext.Size | None = None
    """Of the model; the default is full on a GPU, tiny on a CPU."""
    resolution: int | None = None
    """Pixels; the default is 512 on a GPU, 64 on a CPU."""
    steps: int | None = None
    """Denoising steps; the default is 28 on a GPU, 4 on a CPU."""
    repeats: int = 3
    compile: bool | None = None
    """Compile the model's blocks; the default is to, on a GPU."""


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
    """Print one line per way."""
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

    def measured(name: str, call: Callable[[], object], work: float) -> Figures:
        return measure(name, call, work * len(YAWS) * steps, pipe.transformer, device,
                       settings.repeats)  # fmt: skip

    rows = [measured("stock, seven calls", lambda: stock(pipe, reference, steps),
                     flops.concatenated)]  # fmt: skip
    pipe.text_encoder = pipe.text_encoder_2 = None
    release(device)

    def engine(exact: bool, two_pass: bool) -> Callable[[], list[Image]]:
        how = FluxSettings("random", denoising_steps=steps, exact=exact, compile=settings.compile)
        cache = ReferenceKV(pipe.transformer) if two_pass else None
        speed_up(pipe.transformer, how, device)
        made = Denoiser(how, side, pipe.transformer, pipe.vae, pipe.scheduler, embedded, cache)
        return lambda: made(reference, YAWS, SEEDS)

    rows.append(measured("exact (bits of stock)", engine(True, False), flops.concatenated))
    rows.append(measured("default (rounds differently)", engine(False, False),
                         flops.concatenated))  # fmt: skip
    once = flops.reference / (len(YAWS) * steps)
    rows.append(measured("two-pass reference", engine(False, True), flops.two_pass + once))
    show(rows)


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
        whole = kontext.seconds(call, device, 1)
    calls = len(inside) // 2  # the first call warms up
    outside = 1 - sum(inside[calls:]) / whole
    peak = kontext.peak_of(device)
    return Figures(name, time, memory, None if peak is None else work / time / peak, outside)


def release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def show(rows: list[Figures]) -> None:
    """A table; the ratio is to the first row."""
    heads = ("", "s / 7 views", "x stock", "peak GiB", "MFU", "outside")
    print("{:<30}{:>12}{:>9}{:>10}{:>7}{:>9}".format(*heads))
    for row in rows:
        memory = "-" if row.memory is None else f"{row.memory:.1f}"
        mfu = "-" if row.mfu is None else f"{row.mfu:.0%}"
        ratio = rows[0].seconds / row.seconds
        print(f"{row.name:<30}{row.seconds:>12.3f}{ratio:>9.2f}{memory:>10}{mfu:>7}"
              f"{row.outside:>9.0%}")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(SynthesisBenchmark))
