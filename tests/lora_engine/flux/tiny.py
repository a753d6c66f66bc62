"""Tiny random FLUX.1 Kontext models, saved in the real on-disk format."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from datapipe.record import YAWS
from lora_engine.flux.prompts import prompt

TRANSFORMER = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 4, 8),
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (8, 8, 8, 8),  # four blocks: the real factor of 8
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": 0.1159,
    "scaling_factor": 0.3611,
}
CLIP = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "projection_dim": 32,
    "bos_token_id": 3,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "max_position_embeddings": 77,
}
T5 = {
    "vocab_size": 200,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 37,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
    "use_cache": False,
}
SCHEDULER = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def save_base(folder: Path, seed: int = 0) -> Path:
    """A whole Kontext folder of random weights, about half a megabyte."""
    torch.manual_seed(seed)
    pipe = FluxKontextPipeline(
        transformer=FluxTransformer2DModel(**TRANSFORMER),
        vae=AutoencoderKL(**VAE),
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP)).eval(),
        text_encoder_2=T5EncoderModel(T5Config(**T5)).eval(),
        tokenizer=tokenizer(77),
        tokenizer_2=tokenizer(512),
    )
    pipe.save_pretrained(folder)
    return folder


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    """One token a word of the prompts; needs no download."""
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    known = sorted({word for yaw in YAWS for word in prompt(yaw).split()})
    vocabulary = {word: i for i, word in enumerate([*special, *known])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
    )
