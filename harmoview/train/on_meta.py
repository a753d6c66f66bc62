"""Running a model on the meta device: tensors without values, counted as if they had memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Dequantized(nn.Module):
    """A linear layer whose weight is made whole when it is used, as layers in fewer bits do.

    torchao's keep it so for the backward pass, bitsandbytes' make it once more there (`again`).
    """

    def __init__(self, layer: nn.Linear, *, again: bool) -> None:
        super().__init__()
        self.weight, self.bias, self._again = layer.weight, layer.bias, again

    def forward(self, x: Tensor) -> Tensor:
        if self._again:
            made: Tensor = _MadeTwice.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return made
        return F.linear(x, self.weight.clone(), self.bias)


class _MadeTwice(torch.autograd.Function):
    """A product with a weight that is made whole for it, and again for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.linear(x, weight.clone(), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0] @ weight.clone(), None, None


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations have made and that are still referred to."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        """`known` tensors, and views of them, are not counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: Any) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name not in self._seen:
            self._seen.add(name)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, name, size)

    def _gone(self, name: int, size: int) -> None:
        self._seen.discard(name)
        self.now -= size


class OnMeta(TorchFunctionMode):
    """Answers what a tensor without values cannot: every view is present.

    Attention is FlashAttention's, which keeps no matrix of tokens by tokens; on meta torch would
    take its reference implementation, which does.
    """

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.__bool__:
            return True
        if func is torch.Tensor.nonzero:
            return torch.arange(args[0].numel(), device="meta")[:, None]
        if func is F.scaled_dot_product_attention:
            names = ("query", "key", "value")
            tensors = [*args, *(kwargs[name] for name in names if name in kwargs)][:3]
            return torch.ops.aten._scaled_dot_product_flash_attention(*tensors)[0]
        return func(*args, **kwargs)
