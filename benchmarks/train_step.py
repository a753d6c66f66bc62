"""Seconds per training step, MFU and memory at real sizes with random weights, and on a CPU tiny.

    python benchmarks/train_step.py --model 5B|A14B|tiny [--frames 81] [--identities 1]
    torchrun --nproc-per-node 8 benchmarks/train_step.py --model 5B    # on several GPUs

5B trains fully, one A14B expert with a LoRA. Each is measured with references and, for comparison,
as plain Wan on a clip with as many tokens: the difference is what references cost beyond tokens.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harmoview.attention import use_best_attention
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.sharded import shard
from harmoview.trainable import Lora, TrainSet, add_lora, select
from training import parallel
from training.optimizer import adamw

PEAK = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200 NVL": 835e12,
        "H200": 989e12, "A100": 312e12}  # fmt: skip
"""Dense bfloat16 FLOP/s by the makers' data sheets; the first part of a card's name that fits."""
TEXT, IMAGE = 512, 256
"""Tokens of the caption and of one identity's features."""


@dataclass(frozen=True)
class Case:
    """A model and the latents that it sees."""

    config: dict[str, Any]
    train: TrainSet
    size: tuple[int, int]
    """Height and width of the video's latents."""
    reference: int
    """Side of a reference's latents."""


CASES = {
    "5B": Case(
        {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336,
         "num_layers": 30, "reference_timestep": "zero"}, "full", (44, 80), 32,
    ),
    "A14B": Case({}, "new_parts_and_lora", (60, 104), 64),
    "tiny": Case(
        {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "ffn_dim": 32,
         "num_layers": 2, "vit_dim": 128}, "full", (8, 8), 4,
    ),
}  # fmt: skip


def main() -> None:
    """Build, warm up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=CASES, required=True)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--identities", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    case = CASES[options.model]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with parallel.process_group(device):
        model = build(case, device, dtype)
        learned = [p for p in model.parameters() if p.requires_grad]
        optimizer = adamw([(1e-5, learned)], 0.01)
        with_references = inputs(model, case, options.frames, options.identities, device, dtype)
        plain = plain_inputs(model, case, with_references, device, dtype)
        speeds = [
            report(name, model, optimizer, values, options.steps, device, case)
            for name, values in (("references", with_references), ("plain Wan", plain))
        ]
        if parallel.rank() == 0:
            slower = speeds[1] / speeds[0] - 1
            print(f"a FLOP with references takes {slower:+.1%} of plain Wan's time")


def build(case: Case, device: torch.device, dtype: torch.dtype) -> Any:
    """A random model on the device, sharded, with the case's parameters learning."""
    full = case.train == "full"
    with device:
        torch.set_default_dtype(torch.float32 if full else dtype)
        model = HarmoViewTransformer3DModel(**case.config)
        torch.set_default_dtype(torch.float32)
    if not full:
        add_lora(model, Lora())
    select(model, case.train)
    exact = set(model._keep_in_fp32_modules)
    for name, parameter in model.named_parameters():
        # float32: what learns, and what Wan keeps in it
        if parameter.requires_grad or not exact.isdisjoint(name.split(".")):
            parameter.data = parameter.data.float()
    model.enable_gradient_checkpointing()
    model.train()
    use_best_attention(model, device, dtype, learns=True)
    shard(model, device, dtype)
    return model


def inputs(
    model: Any, case: Case, frames: int, identities: int, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Random inputs with all views present and a text of 512 tokens."""
    config, side = model.config, case.reference
    shapes = {
        "hidden_states": (1, config.in_channels, (frames - 1) // 4 + 1, *case.size),
        "encoder_hidden_states": (1, TEXT, config.text_dim),
        "encoder_hidden_states_image": (1, identities, IMAGE, config.vit_dim),
        "reference_latents": (1, identities, 7, config.in_channels, side, side),
    }
    made = {name: torch.randn(shape, device=device, dtype=dtype) for name, shape in shapes.items()}
    mask = torch.ones(1, identities, 7, dtype=torch.bool, device=device)
    return {**made, "timestep": torch.full((1,), 500.0, device=device), "reference_mask": mask}


def token_count(values: dict[str, Tensor]) -> tuple[int, int]:
    """Tokens of the video with the references, and of the condition."""
    _, _, frames, height, width = values["hidden_states"].shape
    tokens, condition = frames * height * width // 4, values["encoder_hidden_states"].shape[1]
    if "reference_latents" in values:
        _, identities, views, _, high, wide = values["reference_latents"].shape
        tokens += identities * views * high * wide // 4
        condition += identities * IMAGE
    return tokens, condition


def plain_inputs(
    model: Any, case: Case, like: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """A clip of about as many tokens without references, and as long a condition."""
    tokens, condition = token_count(like)
    frame = case.size[0] * case.size[1] // 4
    shape = (1, model.config.in_channels, max(1, round(tokens / frame)), *case.size)
    return {
        "hidden_states": torch.randn(shape, device=device, dtype=dtype),
        "encoder_hidden_states": torch.randn(
            1, condition, model.config.text_dim, device=device, dtype=dtype
        ),
        "timestep": torch.full((1,), 500.0, device=device),
    }


def report(
    name: str, model: Any, optimizer: torch.optim.Optimizer, values: dict[str, Tensor], steps: int,
    device: torch.device, case: Case,
) -> float:  # fmt: skip
    """Two steps of warming up, then the mean of `steps`; FLOP a second."""
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    for index in range(steps + 2):
        if index == 2:
            _wait(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
        output = model(**values, return_dict=False)[0]
        torch.autograd.backward(output.float().square().mean())
        parallel.average_gradients(learned)
        parallel.clip_gradients(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    _wait(device)
    seconds = (time.perf_counter() - start) / steps
    tokens, condition = token_count(values)
    speed = flops(model, tokens, condition, case) / seconds
    text = f"{name:<11} {tokens:>7,} tokens {seconds:8.3f} s/step"
    if device.type == "cuda":
        kind = next((k for k in PEAK if k in torch.cuda.get_device_name()), None)
        memory = torch.cuda.max_memory_allocated() / 2**30
        text += f" {memory:6.1f} GiB"
        if kind:
            text += f" MFU {speed / PEAK[kind]:.1%}"
    if parallel.rank() == 0:  # each has as much to do
        print(text, flush=True)
    return speed


def flops(model: Any, tokens: int, condition: int, case: Case) -> float:
    """Of a step without recomputation: matrices and attention; frozen weights need no gradient.

    Left out as small: embeddings, the LoRA, keys and values of the condition.
    """
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    layers = config.num_layers
    # self-attention and output projections, queries and output of cross-attention, feed-forward
    linear = 2 * tokens * layers * (6 * width * width + 2 * width * config.ffn_dim)
    attention = 4 * layers * width * (tokens * tokens + tokens * condition)
    backward = 2 * linear if case.train == "full" else linear
    return linear + backward + 3 * attention


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
