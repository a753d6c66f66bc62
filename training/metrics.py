"""metrics.jsonl, one JSON object a step, and the optional trackers beside it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from datapipe.claim import leaves
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Image
from training import parallel

FILE = "metrics.jsonl"
WANDB = "wandb-id"
"""Holds W&B's name of the run, in its folder."""


def check_trackers(*, tensorboard: bool, wandb: bool) -> None:
    """Raises UserError when the package of a wanted tracker is not installed."""
    for package, wanted in (("tensorboard", tensorboard), ("wandb", wandb)):
        if wanted and importlib.util.find_spec(package) is None:
            raise UserError(f"--{package}: the package is not installed; pip install {package}")


class Metrics:
    """Appends records, in the first process only; a context manager."""

    def __init__(
        self,
        folder: Path,
        done: int,
        *,
        tensorboard: bool,
        wandb: bool,
        project: str,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """A resumed run loses what came after its checkpoint, which holds `done` steps.

        `project` is W&B's, where a resumed run goes on as the same one; it is shown `config`.
        """
        self._path = folder / FILE
        self._first = parallel.rank() == 0
        self._writer: Any = None
        self._wandb: Any = None
        if not self._first:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if json.loads(line)["step"] <= done]
        self._path.write_text("".join(f"{line}\n" for line in kept))
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder / "tensorboard", purge_step=done + 1)
        if wandb:
            service = importlib.import_module("wandb")  # no stubs, and seldom installed
            name = folder / WANDB
            if not name.is_file():
                Folder(folder).put(WANDB, secrets.token_hex(4).encode())  # whole, or not at all
            self._wandb = service.init(
                project=project, dir=folder, id=name.read_text(), resume="allow", config=config
            )

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        wrong: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _lines(self) -> list[str]:
        """Whole lines: a run that was killed may have left half of one."""
        if not self._path.exists():
            return []
        text = self._path.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one step's record; it has the key "step"."""
        if not self._first:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(_in_json(record)) + "\n")
        found = leaves(record, "/").items()
        numbers = {name: float(value) for name, value in found if isinstance(value, int | float)}
        step = int(numbers.pop("step"))
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def show(self, name: str, picture: Image, step: int) -> None:
        """Show a picture in the trackers; `metrics.jsonl` has none."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")
        if self._wandb is not None:
            self._wandb.log({name: importlib.import_module("wandb").Image(picture)}, step=step)


def _in_json(value: Any) -> Any:
    """The value with null for numbers that JSON does not have: NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: _in_json(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
