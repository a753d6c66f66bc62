"""The parameters that HarmoView adds to Wan: their names and their first values.

Settings name these parts, so torch is imported only to draw the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PROXY = "proxy_token"
WEIGHT = "condition_embedder.image_embedder.weight"
BIAS = "condition_embedder.image_embedder.bias"
NEW_PARTS = (PROXY, WEIGHT, BIAS)


def initialize(model: nn.Module, seed: int = 0) -> None:
    """Draw those added parameters that are not on meta, the same on every machine.

    The proxy token is random (paper, 3.1.2), with a norm of about 1; the linear layer makes tokens
    of unit mean square from such features.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name not in NEW_PARTS or parameter.is_meta:
            continue
        values = parameter.new_zeros(parameter.shape)
        if name != BIAS:
            draw = torch.randn(parameter.shape, generator=generator, device="cpu")
            values.copy_(draw * parameter.shape[-1] ** -0.5)
        parameter.data.copy_(values)
