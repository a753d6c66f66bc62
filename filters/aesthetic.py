"""What an aesthetic scorer offers, which one a run uses, and the one that needs no network.

BRISQUE (Mittal, Moorthy, Bovik 2012) says how far a picture is from the statistics of clean photos:
a measure of distortion, not of beauty. The features are computed here in OpenCV and numpy, and the
published support vector regression is evaluated directly: the `brisque` package, whose definition
this follows, does not run under numpy 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import UserError
from datapipe.models import model_path
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


Floats = NDArray[np.float64]

_SMALLEST = 32
"""Pixels of a picture's side under which the half-size picture has too few neighbours to fit."""
_SHAPES = np.geomspace(0.2, 10.0, 20001)
"""Shape parameters of the generalised Gaussian that the fit chooses from."""


class Brisque:
    """100 minus BRISQUE, so that larger is better: about 0 for ruined pictures, 100 for clean."""

    name = "brisque"

    def __init__(self) -> None:
        self._regression: _Regression | None = None

    def setup(self) -> None:
        """Raises UserError when the model files are missing."""
        self._regression = _Regression(model_path("brisque-svm"), model_path("brisque-range"))

    def provenance(self) -> dict[str, object]:
        """Model files by SHA-256."""
        from datapipe.models import model

        files = {name: model(name).sha256 for name in ("brisque-svm", "brisque-range")}
        return {"name": self.name, "files": files}

    def __call__(self, images: Sequence[Image]) -> list[float | None]:
        """A score for each picture; None for one without texture, or under 32 pixels a side.

        Raises RuntimeError before `setup`.
        """
        return [self._score(image) for image in images]

    def _score(self, image: Image) -> float | None:
        if self._regression is None:
            raise RuntimeError("setup() comes first")
        found = features(image)
        return None if found is None else 100.0 - self._regression(found)


def features(image: Image) -> Floats | None:
    """The 36 features of BRISQUE, 18 at full and 18 at half size; None where they do not exist."""
    if min(image.shape[:2]) < _SMALLEST:
        return None
    # Weights and constants of the package the regression was published with (skimage's rgb2gray).
    weights = np.array([[0.2125, 0.7154, 0.0721]]) / 255
    # No BLAS on whole pictures: its threads would fight those of the other workers.
    grey = cv2.transform(image.astype(np.float64), weights)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    found = np.array([*_scale_features(grey), *_scale_features(half)])
    return found if np.isfinite(found).all() else None


def _scale_features(grey: Floats) -> list[float]:
    """18 features at one scale: of the normalised picture, and of its products with neighbours."""
    x = _normalised(grey)
    shape, _, left, right = _fit(x)
    out = [shape, (left + right) / 2]
    for product in (
        x[:, :-1] * x[:, 1:],
        x[:-1] * x[1:],
        x[:-1, :-1] * x[1:, 1:],
        x[1:, :-1] * x[:-1, 1:],
    ):
        out += _fit(product)
    return out


def _normalised(grey: Floats) -> Floats:
    """Mean-subtracted, contrast-normalised: each pixel against its 7 x 7 Gaussian surroundings."""
    kernel = cv2.getGaussianKernel(7, 7 / 6)

    def blurred(picture: Floats) -> Floats:
        around: Floats = cv2.sepFilter2D(
            picture, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT
        )
        return around

    mean = blurred(grey)
    spread = np.sqrt(np.abs(blurred(grey * grey) - mean * mean))
    normalised: Floats = (grey - mean) / (spread + 1 / 255)
    # In flat areas only rounding is left, whose sign the fit must not count.
    normalised[np.abs(normalised) < 1e-8] = 0.0
    return normalised


def _fit(x: Floats) -> list[float]:
    """An asymmetric generalised Gaussian by its moments: shape, mean, left and right variance."""
    below = int(np.count_nonzero(x < 0))
    above = x.size - below
    total, lower = float(np.square(x).sum()), float(np.square(np.minimum(x, 0)).sum())
    if not 0 < lower < total:
        return [np.nan] * 4
    left, right = lower / below, (total - lower) / above
    gamma = np.sqrt(left / right)
    ratio = float(np.abs(x).mean()) ** 2 / (total / x.size)
    wanted = ratio * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    ratios, roots, means = _shape_table()
    shape = float(np.interp(wanted, ratios, _SHAPES))
    scale = float(np.interp(shape, _SHAPES, roots) * np.interp(shape, _SHAPES, means))
    return [shape, (np.sqrt(right) - np.sqrt(left)) * scale, left, right]


@cache
def _shape_table() -> tuple[Floats, Floats, Floats]:
    """For each shape a: G(2/a)^2 / (G(1/a) G(3/a)), sqrt(G(1/a) / G(3/a)), G(2/a) / G(1/a)."""
    from scipy.special import gammaln

    one, two, three = (gammaln(n / _SHAPES) for n in (1, 2, 3))
    return np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)


class _Regression:
    """The published support vector regression, a libsvm text file, on features scaled to ±1."""

    def __init__(self, vectors: Path, ranges: Path) -> None:
        with np.load(ranges) as stored:
            self._low, high = stored["min_"].astype(np.float64), stored["max_"].astype(np.float64)
        self._span = high - self._low
        head, _, body = vectors.read_text(encoding="ascii").partition("\nSV\n")
        header = dict(line.split(maxsplit=1) for line in head.splitlines())
        if (header.get("svm_type"), header.get("kernel_type")) != ("epsilon_svr", "rbf"):
            raise UserError(f"{vectors} is not a libsvm epsilon-SVR with an RBF kernel")
        self._gamma, self._rho = float(header["gamma"]), float(header["rho"])
        rows = [line.split() for line in body.splitlines()]
        self._weights = np.array([float(row[0]) for row in rows])
        self._vectors = np.zeros((len(rows), len(self._low)))
        for vector, row in zip(self._vectors, rows, strict=True):
            for entry in row[1:]:
                index, value = entry.split(":")
                vector[int(index) - 1] = float(value)

    def __call__(self, found: Floats) -> float:
        scaled = 2 * (found - self._low) / self._span - 1
        distances = ((self._vectors - scaled) ** 2).sum(axis=1)
        return float(self._weights @ np.exp(-self._gamma * distances) - self._rho)
