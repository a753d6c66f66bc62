"""The parameters that HarmoView adds to Wan: their names and their first values.

Settings name these parts, so torch is imported only to draw the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

PROXY = "proxy_token"
WEIGHT = "condition_embedder.image_embedder.weight"
BIAS = "condition_embedder.image_embedder.bias"
IDENTITY = "identity_vectors"
NEW_PARTS = (PROXY, WEIGHT, BIAS, IDENTITY)


def initialize(model: nn.Module, seed: int = 0) -> None:
    """Give their first values to those added parameters that are not on meta."""
    values = first_values(model, seed)
    for name, parameter in model.named_parameters():
        if name in values and not parameter.is_meta:
            parameter.data.copy_(values[name])


def first_values(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Draw the added parameters of a model, float32 on the CPU, the same on every machine.

    The proxy token is random (paper, 3.1.2), with a norm of about 1; the linear layer makes tokens
    of unit mean square from such features. The identities' embedding begins at zero.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, parameter in model.named_parameters():
        if name in (BIAS, IDENTITY):
            found[name] = torch.zeros(parameter.shape, device="cpu")
        elif name in NEW_PARTS:
            draw = torch.randn(parameter.shape, generator=generator, device="cpu")
            found[name] = draw * parameter.shape[-1] ** -0.5
    return found
