"""metrics.jsonl, one JSON object a step, and the optional trackers beside it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datapipe.nested import leaves

FILE = "metrics.jsonl"


class Metrics:
    """Appends records; a resumed run first forgets what came after its checkpoint."""

    def __init__(
        self,
        folder: Path,
        done: int,
        tensorboard: bool,
        wandb: bool,
        project: str = "harmoview-lora",
    ) -> None:
        """`done`: steps that the checkpoint holds; `project`: W&B's."""
        self._path = folder / FILE
        kept = [line for line in self._lines() if json.loads(line)["step"] <= done]
        self._path.write_text("".join(f"{line}\n" for line in kept))
        self._writer: Any = None
        self._wandb: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(folder / "tensorboard", purge_step=done + 1)
        if wandb:
            service = importlib.import_module("wandb")  # no stubs, and seldom installed
            self._wandb = service.init(project=project, dir=folder, resume="allow")

    def _lines(self) -> list[str]:
        """Whole lines: a run that was killed may have left half of one."""
        if not self._path.exists():
            return []
        text = self._path.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one step's record; it has the key "step"."""
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        found = leaves(record, "/").items()
        numbers = {name: float(value) for name, value in found if isinstance(value, int | float)}
        step = int(numbers.pop("step"))
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()
