"""Any no-reference metric of pyiqa as the aesthetic scorer: NIMA, TOPIQ, MUSIQ, CLIP-IQA and more.

pyiqa brings network and preprocessing. Added here is what a run needs: a larger score is better, a
hash of the weights, nothing on the screen, and no download of a backbone whose ImageNet weights the
metric's own checkpoint then replaces.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import pickle
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from datapipe.errors import UserError, install
from datapipe.record import Image

if TYPE_CHECKING:
    import torch

NIMA_FILE = "NIMA_InceptionV2_ava-b0c77c00.pth"
"""pyiqa's checkpoint of its metric `nima`: InceptionResNetV2, trained on AVA."""
BATCH = 16
"""Pictures that go through the network at once."""


class PyiqaMetric:
    """Scores pictures by a metric of pyiqa, on a GPU, or slowly on a CPU.

    A metric of which pyiqa says that lower is better counts negatively.
    """

    def __init__(self, metric: str, weights: Path | None = None, device: str = "cpu") -> None:
        """`weights` is the metric's checkpoint; None takes it from pyiqa's cache or its hub."""
        self.metric, self.weights, self.device = metric, weights, device
        self.name = "nima" if metric == "nima" else f"pyiqa:{metric}"
        self._sha256: str | None = None
        self._network: Any = None
        self._sign = 1.0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}

    def provenance(self) -> dict[str, object]:
        """pyiqa's version and a hash over every tensor of the network, wherever its file lies.

        Builds the network once, so that its files are there before the workers want them. Raises
        UserError when that fails.
        """
        if self._sha256 is None:
            self._sha256 = digest_of(self._built()[0])
        version = _pyiqa().__version__
        return {"name": self.name, "pyiqa": version, "weights": self._sha256}

    def setup(self) -> None:
        """Raises UserError when the package, the weights or the device is missing."""
        network, lower_better = self._built()
        if self._sha256 not in (None, found := digest_of(network)):
            raise UserError(
                f"the weights of {self.name} on this machine hash to {found}, but the run started "
                f"with {self._sha256}"
            )
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(
                f"{self.name} was asked to run on CUDA, but this torch finds no CUDA device"
            )
        self._network = network.to(self.device)
        self._sign = -1.0 if lower_better else 1.0

    def __call__(self, images: Sequence[Image]) -> list[float | None]:
        """The score of each picture; None where the network gives no number.

        Raises RuntimeError before `setup`.
        """
        if self._network is None:
            raise RuntimeError("setup() comes first")
        scores: dict[int, float] = {}
        by_shape = sorted(range(len(images)), key=lambda i: images[i].shape)
        for _, same in groupby(by_shape, key=lambda i: images[i].shape):
            indices = list(same)
            for start in range(0, len(indices), BATCH):
                some = indices[start : start + BATCH]
                scores |= zip(some, self._batch([images[i] for i in some]), strict=True)
        return [scores[i] if np.isfinite(scores[i]) else None for i in range(len(images))]

    def _batch(self, images: Sequence[Image]) -> list[float]:
        """Scores of pictures of one size."""
        import torch

        pixels = torch.from_numpy(np.stack(images)).to(self.device)
        # No TF32, no choice of algorithm by timing: a GPU and a CPU agree to three decimals.
        # pyiqa's own call would allow TF32, so the network is called.
        exact = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        with torch.inference_mode(), exact:
            found = self._network(pixels.permute(0, 3, 1, 2).float() / 255)
        values = found.double().reshape(len(images)).cpu() * self._sign
        return [float(value) for value in values]

    def _built(self) -> tuple[torch.nn.Module, bool]:
        """The metric's network on the CPU, and whether its lower scores are better."""
        pyiqa = _pyiqa()
        _check_metric(self.metric)
        options = {} if self.weights is None else {"pretrained_model_path": str(self.weights)}
        state = None if self.weights is None else _checkpoint(self.weights)
        try:
            with _silent(), _no_backbones() as left_out:
                made = pyiqa.create_metric(self.metric, device="cpu", **options)
        except OSError as wrong:  # every failure of a download is one
            raise UserError(
                f"pyiqa's weights of {self.metric} are neither in its cache nor to be fetched "
                f"({wrong}): give their file with --aesthetic-weights, let this machine reach the "
                "hub once, or take --aesthetic brisque"
            ) from wrong
        except (AssertionError, KeyError, TypeError, RuntimeError, ImportError) as wrong:
            reason = str(wrong).strip().split("\n", 1)[0]
            weights = "" if self.weights is None else f" with {self.weights}"
            raise UserError(f"pyiqa cannot make {self.metric}{weights}: {reason}") from wrong
        if state is not None and left_out and not set(made.net.state_dict()) <= state:
            raise UserError(f"{self.weights} does not hold the whole network of {self.metric}")
        return made.net.eval().requires_grad_(False), bool(made.lower_better)


def why_not_nima() -> str:
    """Why `auto` does not take NIMA on this machine; "" where it does. Never asks the network."""
    missing = [name for name in ("torch", "timm", "pyiqa") if find_spec(name) is None]
    if missing:
        return f"{missing[0]} is not installed ({install('iqa')})"
    import torch

    if not (Path(torch.hub.get_dir()) / "pyiqa" / NIMA_FILE).is_file():
        return f"pyiqa's cache has no {NIMA_FILE} (give it with --aesthetic-weights)"
    return ""


def digest_of(network: torch.nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, by name.

    Networks that a metric keeps in a list, where torch does not see them (CLIP-IQA does), count.
    """
    import torch

    whole = hashlib.sha256()
    waiting = [network]
    while waiting:
        one = waiting.pop()
        for name, tensor in sorted(one.state_dict().items()):
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            whole.update(memoryview(flat.view(torch.uint8).numpy()))
        for part in one.modules():
            kept = [value for value in vars(part).values() if isinstance(value, list | tuple)]
            waiting += [x for value in kept for x in value if isinstance(x, torch.nn.Module)]
    return whole.hexdigest()


def _pyiqa() -> Any:
    """The package. Raises UserError when it cannot be imported."""
    try:
        with _silent():
            import pyiqa
    except (ImportError, RuntimeError) as wrong:  # the latter: torchvision made for another torch
        raise UserError(
            f"pyiqa cannot be imported ({wrong}): {install('iqa')}, or take --aesthetic brisque"
        ) from wrong
    return pyiqa


def _check_metric(name: str) -> None:
    """Raises UserError for what is no metric that needs the picture alone."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    known = [key for key, value in DEFAULT_CONFIGS.items() if value.get("metric_mode") == "NR"]
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(known)}"
    what = "needs a reference picture" if name in DEFAULT_CONFIGS else "is no metric of this pyiqa"
    raise UserError(f"--aesthetic pyiqa:{name}: {name} {what}{hint}")


def _checkpoint(path: Path) -> set[str]:
    """The names of a checkpoint's tensors. Raises UserError where it is none.

    pyiqa would run any code that the file holds; here only tensors are read.
    """
    import torch

    if not path.is_file():
        raise UserError(f"--aesthetic-weights {path} is not a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("params", state)
        return {name.removeprefix("module.") for name in state}
    except (RuntimeError, AttributeError, EOFError, pickle.PickleError) as wrong:
        reason = str(wrong).strip().split("\n", 1)[0]
        raise UserError(
            f"--aesthetic-weights {path} is not a checkpoint of pyiqa's: {reason}"
        ) from wrong


@contextlib.contextmanager
def _no_backbones() -> Iterator[list[str]]:
    """Lets pyiqa make timm's networks without their ImageNet weights; yields which they are.

    The checkpoints of pyiqa's no-reference metrics hold them, and are loaded strictly.
    """
    import timm

    made: list[str] = []
    create = timm.create_model

    def bare(name: str, *args: Any, **options: Any) -> Any:
        made.append(name)
        return create(name, *args, **{**options, "pretrained": False})

    with patch.object(timm, "create_model", bare):
        yield made


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps what pyiqa prints, logs and draws off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
