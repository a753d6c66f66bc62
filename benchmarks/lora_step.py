"""One training step of the LoRA: seconds, views a second, memory, utilisation.

    python -m benchmarks.lora_step                                  # tiny on a CPU, full on a GPU
    python -m benchmarks.lora_step --resolution 1024 --yaws-per-group 2

Weights and latents are random. Model FLOPs are a forward pass and the gradients of activations,
twice a forward pass: the base is frozen. Checkpointing's second forward pass is not counted.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch
import tyro

from benchmarks import kontext
from datapipe.record import YAWS
from lora_engine.flux.groups import Draw, Group
from lora_engine.flux.learner import LoraLearner
from lora_engine.flux.prompts import PromptEmbeddings, prompt
from lora_engine.flux.settings import TrainLoraSettings


@dataclass(frozen=True)
class LoraStepBenchmark:
    """Time training steps, with the reference concatenated and in two passes."""

    size: kontext.Size | None = None
    """Of the model; the default is full on a GPU, tiny on a CPU."""
    resolution: int | None = None
    """Pixels; the default is 512 on a GPU, 64 on a CPU."""
    rank: int = 32
    yaws_per_group: int = 4
    text_length: int = 64
    """T5 tokens, as train-lora has it; 512 is stock Kontext's."""
    repeats: int = 5


def main(settings: LoraStepBenchmark) -> None:
    """Print one line per reference mode and checkpointing."""
    device, size, side = kontext.chosen(settings.size, settings.resolution)
    flops = kontext.count_flops(size, side, settings.text_length)
    print(f"{kontext.machine(device)}; {size} size, {side}x{side}, rank {settings.rank}, "
          f"{settings.yaws_per_group} yaws of one person a step")  # fmt: skip
    print(f"{'':<32}{'s / step':>10}{'views / s':>11}{'peak GiB':>10}{'MFU':>7}")
    for two_pass in (False, True):
        for checkpointing in (False, True):
            name = "two-pass" if two_pass else "concatenated"
            name += ", checkpointing" if checkpointing else ""
            try:
                row = step(settings, size, side, two_pass, checkpointing, device)
            except torch.OutOfMemoryError:
                print(f"{name:<32}{'out of memory':>21}")
                continue
            views = settings.yaws_per_group
            work = views * flops.concatenated
            if two_pass:
                work = views * flops.two_pass + flops.reference
            peak = kontext.peak_of(device)
            mfu = "-" if peak is None else f"{2 * work / row[0] / peak:.0%}"
            memory = "-" if row[1] is None else f"{row[1]:.1f}"
            print(f"{name:<32}{row[0]:>10.3f}{views / row[0]:>11.2f}{memory:>10}{mfu:>7}")


def step(
    settings: LoraStepBenchmark, size: kontext.Size, side: int, two_pass: bool, checkpointing: bool,
    device: torch.device,
) -> tuple[float, float | None]:  # fmt: skip
    """(seconds a step, peak GiB) of a fresh learner."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cuda":
        gc.collect()  # the model before, whose modules know each other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.set_default_dtype(dtype)
    with device:
        model = kontext.transformer(size).train()
    torch.set_default_dtype(torch.float32)
    config, views = model.config, settings.yaws_per_group
    embedded = PromptEmbeddings(
        {yaw: prompt(yaw) for yaw in YAWS},
        settings.text_length,
        {yaw: torch.randn(settings.text_length, config.joint_attention_dim) for yaw in YAWS},
        {yaw: torch.randn(config.pooled_projection_dim) for yaw in YAWS},
    ).to(device, dtype)
    how = TrainLoraSettings("", "", "", rank=settings.rank, yaws_per_group=views,
                        gradient_checkpointing=checkpointing, reference_kv=two_pass)  # fmt: skip
    learner = LoraLearner(how, model, embedded, dtype)
    tokens, channels = (side // 16) ** 2, config.in_channels
    group = Group(
        Draw("random", False, YAWS[:views], 0),
        torch.randn(1, tokens, channels),
        torch.randn(views, tokens, channels),
        torch.randn(views, tokens, channels),
        torch.rand(views),
    )
    time = kontext.seconds(lambda: learner.step([group]), device, settings.repeats)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return time, memory


if __name__ == "__main__":
    main(tyro.cli(LoraStepBenchmark))
