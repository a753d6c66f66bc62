"""CurricularFace's backbone, in whatever size its file of weights has (IR-101 as published)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from datapipe.errors import UserError
from harmoview.bench.opens2v.aes import load_state

SIDE = 112
"""Pixels of a crop."""


class Unit(nn.Module):
    """A residual unit: normalisation first, PReLU between two convolutions."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inside != outside:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.PReLU(outside),
            nn.Conv2d(outside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return found


class Backbone(nn.Module):
    """Crops (n, 3, 112, 112) in -1..1 to embeddings."""

    def __init__(self, widths: list[tuple[int, int]], dimensions: int) -> None:
        """`widths` are the channels into and out of every unit; each change halves the picture,
        as the first unit does."""
        super().__init__()
        first, last = widths[0][0], widths[-1][1]
        strides = [2 if not place or a != b else 1 for place, (a, b) in enumerate(widths)]
        side = -(-SIDE // 2 ** sum(stride == 2 for stride in strides))
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        self.body = nn.Sequential(
            *(Unit(a, b, stride) for (a, b), stride in zip(widths, strides, strict=True))
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(last * side * side, dimensions),
            nn.BatchNorm1d(dimensions, affine=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, dimensions), not normalised."""
        found: Tensor = self.output_layer(self.body(self.input_layer(x)))
        return found


def load_backbone(path: Path) -> Backbone:
    """The network of a file. Raises UserError where it holds none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        widths, dimensions = _shape(state)
    except (RuntimeError, OSError, KeyError, AttributeError, TypeError, ValueError) as wrong:
        raise UserError(f"{path} is no CurricularFace backbone: {wrong}") from wrong
    model = Backbone(widths, dimensions)
    load_state(model, path)
    return model.eval()


def _shape(state: Mapping[str, Tensor]) -> tuple[list[tuple[int, int]], int]:
    places = {
        int(match[1])
        for name in state
        if (match := re.fullmatch(r"body\.(\d+)\.res_layer\.1\.weight", name))
    }
    if not places or places != set(range(len(places))):
        raise ValueError("its units are not numbered from 0")
    widths = []
    for place in range(len(places)):
        outside, inside = state[f"body.{place}.res_layer.1.weight"].shape[:2]
        widths.append((int(inside), int(outside)))
    return widths, int(state["output_layer.3.weight"].shape[0])
