"""Three-way guidance: which passes a step needs, and how their predictions are mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup


@dataclass(frozen=True, slots=True)
class Guidance:
    """Scales of three-way guidance: neg + references (ref - neg) + text (full - ref).

    The pass neg has neither references nor prompt, ref has the references, full has both. A pass
    without references has a proxy in every slot and no image tokens, which keeps the layout.
    """

    text: float
    references: float

    def weights(self) -> dict[str, float]:
        """Return the factor of each pass, without those that are 0, which need not run.

        Equal scales give guidance against neg in two passes, as in Wan.
        """
        factors = {
            "neg": 1 - self.references,
            "ref": self.references - self.text,
            "full": self.text,
        }
        return {name: factor for name, factor in factors.items() if factor != 0}


def guided(
    weights: Mapping[str, float],
    predict: Callable[[str], Tensor],
    latents: Tensor,
    group: ProcessGroup | None,
) -> Tensor:
    """Return the sum of all passes' predictions by their weights, as float32 like `latents`.

    Without a `group` this process makes every pass; in one, its processes take turns, and each
    gets all predictions.
    """
    own, processes = (0, 1) if group is None else (group.rank(), group.size())
    made = {
        name: predict(name).float()
        for number, name in enumerate(weights)
        if number % processes == own
    }
    total = torch.zeros_like(latents)
    for number, (name, factor) in enumerate(weights.items()):
        prediction = made[name].contiguous() if name in made else torch.empty_like(latents)
        if group is not None:
            distributed.broadcast(prediction, group=group, group_src=number % processes)
        total = total + factor * prediction
    return total
