"""The words and names that settings are made of; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

Quantize = Literal["none", "fp8", "nf4"]

PACKAGE = {"fp8": "torchao", "nf4": "bitsandbytes"}
"""What quantises."""

ReferenceMode = Literal["concatenated", "two-pass"]
"""How the reference is seen: its tokens beside the target's at every step (stock Kontext), or
once, through its keys and values (`lora_engine.flux.reference_kv`)."""

TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    "proj_mlp",
)
"""The modules of diffusers' own Kontext LoRA example."""
