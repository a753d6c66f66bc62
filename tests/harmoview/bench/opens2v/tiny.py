"""Tiny random weights in the real formats of OpenS2V-Eval's models."""

import json

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)


def save_clip(folder):
    """A CLIP vision model whose projection has the 768 numbers that the head takes."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16, projection_dim=768,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return folder


def save_head(path):
    """aesthetic-model.pth as LAION's module writes it, dropout counted; and that module."""

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2),
                nn.Linear(128, 64), nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
            )  # fmt: skip

    torch.manual_seed(1)
    head = Head().eval()
    torch.save(head.state_dict(), path)
    return head.layers


def save_backbone(path):
    """A CurricularFace file of four stages, one unit each, and 8 numbers."""
    from harmoview.bench.opens2v.curricular import Backbone

    torch.manual_seed(2)
    model = Backbone([(4, 4), (4, 6), (6, 8), (8, 10), (10, 10)], 8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.save(model.state_dict(), path)
    return model.eval()


def save_gme(folder):
    """A Qwen2-VL of two layers, with a tokenizer that knows its marks."""
    torch.manual_seed(3)
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
             "<|video_pad|>", "<|endoftext|>"]  # fmt: skip
    words = ["<unk>", *marks, "\n", *map(chr, range(32, 127))]
    places = {word: place for place, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(places, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", additional_special_tokens=marks
    )
    tokenizer.save_pretrained(folder)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "bos_token_id": places["<|endoftext|>"], "eos_token_id": places["<|endoftext|>"],
        },
        vision_config={
            "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=places["<|image_pad|>"], video_token_id=places["<|video_pad|>"],
        vision_start_token_id=places["<|vision_start|>"],
        vision_end_token_id=places["<|vision_end|>"],
    )  # fmt: skip
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder


CODE = '''
"""A stand-in for mPLUG-Owl2 with its call: ids with -200 for the picture, one tensor a video."""
import torch
from transformers import PretrainedConfig, PreTrainedModel


class TinyConfig(PretrainedConfig):
    model_type = "tiny_owl"


class TinyOwl(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.post_init()

    def forward(self, input_ids, images):
        assert ((input_ids == -200).sum(dim=1) == 1).all()
        assert all(video.shape == (3, 3, 32, 32) for video in images)
        level = torch.stack([video.mean() for video in images]) * self.scale
        logits = torch.zeros(len(images), input_ids.shape[1], VOCABULARY)
        logits[:, -1, EXCELLENT] = 4 * level
        return {"logits": logits}
'''


def save_one_align(folder):
    """A folder with its own code: the brighter a video, the better it finds it."""
    folder.mkdir(parents=True)
    words = [
        "<s>",
        "<unk>",
        "excellent",
        "good",
        "fair",
        "poor",
        "bad",
        *map(chr, range(32, 127)),
        "\n",
    ]
    places = {word: place for place, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(places, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"excellent|good|fair|poor|bad|[\s\S]"), "isolated"
    )
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(folder)
    code = CODE.replace("VOCABULARY", str(len(words))).replace("EXCELLENT", "2")
    (folder / "modeling_tiny.py").write_text(code)
    auto = {"AutoConfig": "modeling_tiny.TinyConfig",
            "AutoModelForCausalLM": "modeling_tiny.TinyOwl"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny_owl", "auto_map": auto}))
    torch.save({"scale": torch.ones(1)}, folder / "pytorch_model.bin")
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
