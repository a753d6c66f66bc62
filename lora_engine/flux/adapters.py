"""The adapters of a training: one folder for each step, the best by validation marked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from datapipe.files import Folder
from lora_engine.flux import prompts
from lora_engine.flux.adapter import FILE, AdapterHeader
from lora_engine.flux.card import CARD, card

FOLDER = "adapters"
BEST = "best"
"""Name of the link to the step whose validation has the highest score."""


class Adapters:
    """OUT/adapters: `step-N/` with all that synthesis needs, and the link `best`."""

    def __init__(self, out: Path, keep: int) -> None:
        """Takes the folder of a training and how many of the latest adapters stay in it."""
        self._out, self._folder, self._keep = out, out / FOLDER, keep

    def add(self, header: AdapterHeader, data: bytes) -> None:
        """Write the adapter of a step, and into OUT, as its latest; drop those of older steps.

        A step's folder has its adapter last, so one without is of a run that was killed.
        """
        figures = self._figures().get(header.steps)
        step = Folder(self._folder / _name(header.steps))
        step.put(prompts.FILE, (self._out / prompts.FILE).read_bytes())
        for folder in (step, Folder(self._out)):
            folder.put(CARD, card(header, figures).encode())
            folder.put(FILE, data)
        best = self.best()
        if best is not None:
            link = self._folder / f".{BEST}"
            link.unlink(missing_ok=True)
            link.symlink_to(_name(best))
            link.replace(self._folder / BEST)
        for old in self.steps()[: -self._keep]:
            if old != best:
                shutil.rmtree(self._folder / _name(old))

    def steps(self) -> list[int]:
        """Return the steps of which there is an adapter, in order."""
        return sorted(int(p.parent.name[5:]) for p in self._folder.glob(f"step-*/{FILE}"))

    def best(self) -> int | None:
        """Return the step, of those there are, with the highest score; None without validation.

        Of equal ones it is the first.
        """
        figures = self._figures()
        scores = {step: figures[step]["score"] for step in self.steps() if step in figures}
        return max(scores, key=lambda step: (scores[step], -step), default=None)

    def _figures(self) -> dict[int, dict[str, float]]:
        """Read what validation measured, by step."""
        files = (self._out / "validation").glob("[0-9]*.json")
        return {int(file.stem): json.loads(file.read_text()) for file in files}


def _name(step: int) -> str:
    return f"step-{step}"
