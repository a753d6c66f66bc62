"""What an aesthetic scorer offers, and which one a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from datapipe.record import Image

Aesthetic = Literal["auto", "nima", "brisque"]


class AestheticScorer(Protocol):
    """Scores whole pictures; larger is better. Decides nothing."""

    name: str
    """Travels with the scores as `aesthetic_scorer`: rules belong to one scorer."""

    def setup(self) -> None:
        """Load on the worker. Raises UserError when a file is missing or unusable."""

    def provenance(self) -> dict[str, object]:
        """Model files by SHA-256; known before `setup`, free of paths. Raises UserError."""

    def __call__(self, images: Sequence[Image]) -> list[float | None]:
        """A score for each picture; None where it cannot be measured."""


def load_aesthetic(
    wanted: Aesthetic = "auto", *, nima_weights: Path | None = None, device: str = "auto"
) -> AestheticScorer:
    """The scorer that a run uses, chosen once, on the driver; its name goes into the run folder.

    `auto` is NIMA where its package is installed and its weights are on this machine already, else
    BRISQUE: it never downloads, so the same machine gives the same answer. Raises UserError.
    """
    from filters.brisque import Brisque
    from filters.nima import Nima, cached_weights

    if wanted == "brisque":
        return Brisque()
    if wanted == "auto" and nima_weights is None:
        usable = all(find_spec(name) for name in ("torch", "timm"))
        nima_weights = cached_weights() if usable else None
        if nima_weights is None:
            return Brisque()
    return Nima(weights=nima_weights, device=device)
