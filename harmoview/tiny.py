"""Tiny random Wan folders and vision towers in the real format, for demos and tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from harmoview.model.references import normalized_latents

WIDTH = 24
VIT_DIM = 4 * 32
TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
FIVE_B: dict[str, Any] = {**TRANSFORMER, "in_channels": 48, "out_channels": 48}
VAE: dict[str, Any] = {
    "base_dim": 3,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
VAE_5B: dict[str, Any] = {
    **VAE,
    "z_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "patch_size": 2,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
    "scale_factor_spatial": 16,
}


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Let torch draw from a seed within the block, and leave the caller's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def wan(seed: int = 0, **changes: Any) -> WanTransformer3DModel:
    """Make a random transformer; `changes` are of its settings."""
    with _drawn_from(seed):
        return WanTransformer3DModel(**{**TRANSFORMER, **changes}).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with a token for each printable character; like T5's, it ends with </s>."""
    words = ["<pad>", "</s>", "<unk>", *map(chr, range(32, 127))]
    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=512,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def text_encoder() -> UMT5EncoderModel:
    """Make a random text encoder."""
    config = UMT5Config(
        vocab_size=200, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4,
        relative_attention_num_buckets=8,
    )  # fmt: skip
    with _drawn_from(2):
        return UMT5EncoderModel(config).eval()


def vae(**changes: Any) -> AutoencoderKLWan:
    """Make a random VAE; `changes` are of its settings."""
    with _drawn_from(3):
        return AutoencoderKLWan(**{**VAE, **changes}).eval()


def calibrated_vae(**changes: Any) -> AutoencoderKLWan:
    """Make a VAE whose latents tell pictures apart, with mean 0 and variance 1 in each channel.

    It has no biases: random ones make the latents of all pictures nearly the same, so that nothing
    could be learned from a reference. The statistics are those of clips of coloured boards.
    """
    channels = {**VAE, **changes}["z_dim"]
    with _drawn_from(5):
        boards = torch.rand(8, 3, 9, 8, 8).repeat_interleave(8, -1).repeat_interleave(8, -2)
    neutral = {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
    latents = normalized_latents(_without_biases(vae(**{**changes, **neutral})), 2 * boards - 1)
    over = (0, 2, 3, 4)
    statistics = {"latents_mean": latents.mean(over).tolist(),
                  "latents_std": latents.std(over).tolist()}  # fmt: skip
    return _without_biases(vae(**{**changes, **statistics}))


@torch.no_grad()
def _without_biases(model: AutoencoderKLWan) -> AutoencoderKLWan:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    return model


def tower() -> Qwen2_5_VisionTransformerPretrainedModel:
    """Make a random vision tower."""
    with _drawn_from(4):
        return Qwen2_5_VisionTransformerPretrainedModel(tower_config()).eval()


def tower_config() -> Qwen2_5_VLVisionConfig:
    """Return the settings of the tiny tower."""
    return Qwen2_5_VLVisionConfig(
        depth=2, hidden_size=32, intermediate_size=48, num_heads=4, patch_size=14,
        spatial_merge_size=2, temporal_patch_size=2, window_size=56, out_hidden_size=24,
        fullatt_block_indexes=[1], in_channels=3,
    )  # fmt: skip


def save_base(
    folder: Path, kind: str = "1.3B", *, calibrated: bool = False, **changes: Any
) -> Path:
    """Write a Wan pipeline as diffusers lays it out, of the kind 1.3B, A14B or 5B.

    `changes` are of the transformer's settings; a base to train on should be `calibrated`.
    """
    five = kind == "5B"
    config = {**(FIVE_B if five else TRANSFORMER), **changes}
    make_vae = calibrated_vae if calibrated else vae
    parts: dict[str, Any] = {
        "tokenizer": tokenizer(),
        "text_encoder": text_encoder(),
        "vae": make_vae(**(VAE_5B if five else {})),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        "transformer": wan(0, **config),
    }
    if kind == "A14B":
        parts["transformer_2"] = wan(1, **config)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index: dict[str, Any] = {"_class_name": "WanPipeline", "_diffusers_version": "0.42.1"}
    index |= {name: _library(part) for name, part in parts.items()}
    index |= {"boundary_ratio": 0.875 if kind == "A14B" else None, "expand_timesteps": five}
    index.setdefault("transformer_2", [None, None])
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _library(part: Any) -> list[str]:
    return [type(part).__module__.split(".")[0], type(part).__name__]
