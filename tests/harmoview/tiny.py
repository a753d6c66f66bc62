"""What is tiny: the makers of `harmoview.tiny`, and models, inputs and pictures for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.tiny import (  # noqa: F401 - one name for all that is tiny
    FIVE_B,
    TRANSFORMER,
    VAE,
    VAE_5B,
    VIT_DIM,
    WIDTH,
    save_base,
    text_encoder,
    tokenizer,
    tower,
    tower_config,
    vae,
    wan,
)

torch.set_num_threads(1)


def harmoview(seed: int = 0, **changes: Any) -> HarmoViewTransformer3DModel:
    torch.manual_seed(seed)
    settings = {**TRANSFORMER, "vit_dim": VIT_DIM, "vit_layer": 0, "vit_size": 56}
    settings["reference_size"] = 32
    return HarmoViewTransformer3DModel(**{**settings, **changes}).eval()


def inputs(
    batch: int = 2, identities: int = 2, seed: int = 0, channels: int = 16
) -> dict[str, Any]:
    """Everything that forward takes, all views present: 3 frames of 8 x 6, views of 4 x 4."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    return {
        "hidden_states": normal(batch, channels, 3, 8, 6),
        "timestep": torch.tensor([900.0, 500.0, 100.0])[:batch],
        "encoder_hidden_states": normal(batch, 5, 32),
        "encoder_hidden_states_image": normal(batch, identities, 4, VIT_DIM),
        "reference_latents": normal(batch, identities, 7, channels, 4, 4),
        "reference_mask": torch.ones(batch, identities, 7, dtype=torch.bool),
    }


def portrait(seed: int, size: int = 48) -> np.ndarray:
    """A square picture of smooth random colours."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((size // 6, size // 6, 1), dtype=np.uint8))
