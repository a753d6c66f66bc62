"""What an aesthetic scorer offers, and which one a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from datapipe.record import Image
from filters.rules import PYIQA


class AestheticScorer(Protocol):
    """Scores whole pictures; larger is better. Decides nothing."""

    name: str
    """Travels with the scores as `aesthetic_scorer`: rules belong to one scorer."""

    def setup(self) -> None:
        """Load on the worker. Raises UserError when a file is missing or unusable."""

    def provenance(self) -> dict[str, object]:
        """Models by SHA-256; known before `setup`, free of paths. Raises UserError."""

    def __call__(self, images: Sequence[Image]) -> list[float | None]:
        """A score for each picture; None where it cannot be measured."""


def check_aesthetic(wanted: str) -> None:
    """Raises ValueError for what names no scorer; the metric's own name is not looked at."""
    named = wanted.startswith(PYIQA) and wanted != PYIQA
    if wanted not in ("auto", "nima", "brisque") and not named:
        raise ValueError(f"--aesthetic must be auto, nima, brisque or pyiqa:NAME, not {wanted}")


def load_aesthetic(
    wanted: str = "auto", *, weights: Path | None = None, device: str = "cpu"
) -> tuple[AestheticScorer, str]:
    """The scorer that a run uses, chosen once, on the driver, and a sentence that says so.

    `auto` is NIMA where pyiqa is installed and its weights are on this machine already, else
    BRISQUE: it never downloads, so the same machine gives the same answer. `weights` is the
    checkpoint of a metric of pyiqa's.
    """
    from filters.brisque import Brisque
    from filters.pyiqa_metric import PyiqaMetric, why_not_nima

    why = ""
    if wanted == "auto":
        lack = "" if weights is not None else why_not_nima()
        wanted = "brisque" if lack else "nima"
        why = f", because {lack}" if lack else ", because pyiqa and its weights are here"
    if wanted == "brisque":
        return Brisque(), f"Aesthetic scores: brisque, which tells distortion, not beauty{why}."
    scorer = PyiqaMetric(wanted.removeprefix(PYIQA), weights, device)
    rules = ""
    if scorer.name.startswith(PYIQA):
        rules = (
            f'; they decide where the rules have [aesthetic."{scorer.name}"], which '
            "`harmoview calibrate` can find"
        )
    return scorer, f"Aesthetic scores: {scorer.name}, by pyiqa{why}{rules}."
