"""FLUX.1 Kontext with random weights, in memory: full size for a GPU, tiny for a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from datapipe.record import YAWS
from lora_engine.flux import vae
from lora_engine.flux.prompts import PromptEmbeddings, prompt
from lora_engine.flux.reference_kv import USE, ReferenceKV

Size = Literal["tiny", "full"]

PEAK = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200 NVL": 835e12,
        "H200": 989e12, "A100": 312e12, "B200": 2250e12}  # fmt: skip
"""Dense bfloat16 FLOP/s by the vendor's data sheets; the first part of a card's name that fits."""

_TRANSFORMER = {
    "full": {"guidance_embeds": True},  # every other default is FLUX.1's own
    "tiny": {
        "in_channels": 16, "num_layers": 2, "num_single_layers": 4, "attention_head_dim": 16,
        "num_attention_heads": 4, "joint_attention_dim": 64, "pooled_projection_dim": 32,
        "guidance_embeds": True, "axes_dims_rope": (4, 4, 8),
    },
}  # fmt: skip
_VAE = {
    "full": {"latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "groups": 32},
    "tiny": {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "groups": 4},
}
_CLIP = {
    "full": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
             "num_hidden_layers": 12, "projection_dim": 768},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
             "num_hidden_layers": 2, "projection_dim": 32},
}  # fmt: skip
_T5 = {
    "full": {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
    "tiny": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
}


def chosen(size: Size | None, resolution: int | None) -> tuple[torch.device, Size, int]:
    """Device, size and side; None is full at 512 on a GPU, tiny at 64 on a CPU."""
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(1)  # threads only get in each other's way on tiny matrices
    device = torch.device("cuda" if gpu else "cpu")
    return device, size or ("full" if gpu else "tiny"), resolution or (512 if gpu else 64)


def transformer(size: Size) -> Any:
    """A transformer with random weights, on torch's default device and dtype."""
    return FluxTransformer2DModel(**_TRANSFORMER[size]).eval().requires_grad_(False)


def pipeline(size: Size) -> Any:
    """The whole stock pipeline, text encoders and all, on torch's default device and dtype."""
    sizes = dict(_VAE[size])
    groups = sizes.pop("groups")
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2, norm_num_groups=groups, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.1159, scaling_factor=0.3611, **sizes,
    )  # fmt: skip
    clip = CLIPTextConfig(vocab_size=200, bos_token_id=3, eos_token_id=1, pad_token_id=0,
                          max_position_embeddings=77, **_CLIP[size])  # fmt: skip
    t5 = T5Config(vocab_size=200, feed_forward_proj="gated-gelu", is_encoder_decoder=False,
                  use_cache=False, **_T5[size])  # fmt: skip
    pipe = FluxKontextPipeline(
        transformer=transformer(size),
        vae=autoencoder.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
            base_image_seq_len=256, max_image_seq_len=4096,
        ),
        text_encoder=CLIPTextModel(clip).eval(),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer=_tokenizer(77),
        tokenizer_2=_tokenizer(512),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _tokenizer(length: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a token a word: the encoders cost what the padded length costs."""
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    words = sorted({word for yaw in YAWS for word in prompt(yaw).split()})
    known = {word: i for i, word in enumerate([*special, *words])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=length, pad_token="<pad>", eos_token="</s>",
        unk_token="<unk>", bos_token="<s>",
    )  # fmt: skip


def embeddings(pipe: Any, length: int) -> PromptEmbeddings:
    """The seven prompts' embeddings by the pipeline's own encoders."""
    tokens, pooled = {}, {}
    with torch.no_grad():
        for yaw in YAWS:
            found = pipe.encode_prompt(prompt(yaw), None, max_sequence_length=length)
            tokens[yaw], pooled[yaw] = found[0][0], found[1][0]
    return PromptEmbeddings({yaw: prompt(yaw) for yaw in YAWS}, length, tokens, pooled)


@dataclass(frozen=True)
class Flops:
    """FLOPs of one view's forward pass, counted by torch on the meta device."""

    concatenated: float
    reference: float
    """FLOPs of pass 1 of the two-pass reference."""
    two_pass: float
    """FLOPs of pass 2."""


def count_flops(size: Size, resolution: int, text: int) -> Flops:
    """Count matrix multiplications and attention; nothing is computed."""
    with torch.device("meta"):
        model = transformer(size)
    side, config = resolution // 16, model.config
    tokens = torch.empty(1, side * side, config.in_channels, device="meta")
    own, other = (vae.position_ids(side, slot, tokens) for slot in (0, 1))

    def forward(states: torch.Tensor, ids: torch.Tensor, extra: dict[str, str] | None) -> None:
        model(
            hidden_states=states, timestep=states.new_zeros(1), guidance=states.new_ones(1),
            pooled_projections=states.new_zeros(1, config.pooled_projection_dim),
            encoder_hidden_states=states.new_zeros(1, text, config.joint_attention_dim),
            txt_ids=states.new_zeros(text, 3), img_ids=ids, joint_attention_kwargs=extra,
        )  # fmt: skip

    both = torch.cat([tokens, tokens], dim=1), torch.cat([own, other])
    concatenated = _counted(lambda: forward(*both, None))
    cache = ReferenceKV(model)
    reference = _counted(lambda: cache.compute(tokens, other))
    two_pass = _counted(lambda: forward(tokens, own, dict(USE)))
    return Flops(concatenated, reference, two_pass)


def _counted(call: Callable[[], None]) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def peak_of(device: torch.device) -> float | None:
    """FLOP/s of the device, where its data sheet is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK.items() if part in name), None)


def seconds(
    call: Callable[[], object], device: torch.device, repeats: int, *, warm: bool = False
) -> float:
    """The median time of a call, after one that is not counted unless it is warm."""
    if not warm:
        call()
    times = []
    for _ in range(repeats):
        finish(device)
        start = time.perf_counter()
        call()
        finish(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def timed(module: torch.nn.Module, device: torch.device) -> Iterator[list[float]]:
    """Seconds that each call of the module takes within the block."""
    spent: list[float] = []

    def begin(*_: object) -> None:
        finish(device)
        spent.append(-time.perf_counter())

    def end(*_: object) -> None:
        finish(device)
        spent[-1] += time.perf_counter()

    hooks = [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
