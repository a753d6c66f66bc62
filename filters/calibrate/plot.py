"""The picture of a calibration: ROC curves by yaw, and cosines against yaw with the thresholds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from filters.calibrate.comparisons import Comparisons, Floats
from filters.calibrate.identity import YawIdentity
from filters.calibrate.result import Calibration

_SIZE = (11.0, 4.6)
"""Of the picture, inches."""
_GENUINE, _IMPOSTOR, _RULE = "#1b7837", "#b2182b", "#222222"


def draw(result: Calibration, found: Sequence[Comparisons], suffix: str) -> bytes:
    """A `.png` or `.svg`; the same bytes for the same numbers and matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "harmoview", "font.size": 9}):
        figure, (left, right) = plt.subplots(1, 2, figsize=_SIZE, layout="constrained")
        _roc(left, result, found, mpl.colormaps["viridis"])
        _cosines(right, result, found)
        file = io.BytesIO()
        kind = suffix.removeprefix(".")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=130, metadata=metadata)
        plt.close(figure)
    return file.getvalue()


def _roc(axes: Any, result: Calibration, found: Sequence[Comparisons], colours: Any) -> None:
    least = 1.0
    for index, (one, at) in enumerate(zip(result.identity, found, strict=True)):
        if not len(at.genuine) or not len(at.impostor):
            continue
        colour = colours(0.9 * index / max(1, len(found) - 1))
        far, tar = roc(at)
        least = min(least, 1 / len(at.impostor))
        auc = f", AUC {one.auc.value:.3f}" if one.auc else ""
        axes.plot(far, tar, color=colour, label=f"{one.yaw}°{auc}", drawstyle="steps-post")
        if one.far and one.tar:
            axes.errorbar(
                one.far.value,
                one.tar.value,
                xerr=_either_side(one.far.value, one.far.low, one.far.high),
                yerr=_either_side(one.tar.value, one.tar.low, one.tar.high),
                color=colour,
                marker="o" if one.asked == "asked" else "x",
                capsize=2,
            )
    chance = np.geomspace(max(least, 1e-7), 1, 100)
    axes.plot(chance, chance, color="0.7", linestyle=":", label="chance")
    axes.axvline(result.far, color="0.7", linewidth=0.8)
    axes.set(
        xscale="log",
        xlim=(max(least, 1e-7), 1),
        ylim=(0, 1.02),
        xlabel="false-accept rate",
        ylabel="true-accept rate",
        title=f"{result.recogniser}: ROC by |yaw| (x: identity is not asked)",
    )
    axes.legend(loc="lower right")


def roc(at: Comparisons) -> tuple[Floats, Floats]:
    """False- and true-accept rates of every threshold that changes one, rising, from 0 to 1."""
    steps = np.unique(np.concatenate([at.genuine, _thinned(at.impostor)]))[::-1]

    def rates(cosines: Floats) -> Floats:
        reached = 1 - np.searchsorted(np.sort(cosines), steps, "left") / len(cosines)
        return np.concatenate([[0.0], reached])

    return rates(at.impostor), rates(at.genuine)


def _thinned(cosines: Floats, most: int = 4000) -> Floats:
    """The largest, and quantiles of the rest: a curve needs no million points."""
    ordered = np.sort(cosines)
    return np.concatenate([ordered[-most:], np.quantile(ordered, np.linspace(0, 1, most))])


def _cosines(axes: Any, result: Calibration, found: Sequence[Comparisons]) -> None:
    yaws = [one.yaw for one in result.identity]
    for values, colour, name in (
        ([at.genuine for at in found], _GENUINE, "genuine: 5 to 95 %, median"),
        ([at.impostor for at in found], _IMPOSTOR, "impostor: 5 to 95 %, median"),
    ):
        shown = [(yaw, some) for yaw, some in zip(yaws, values, strict=True) if len(some)]
        if shown:
            places = [yaw for yaw, _ in shown]
            low, middle, high = np.array([np.quantile(s, [0.05, 0.5, 0.95]) for _, s in shown]).T
            axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(places, middle, color=colour, marker=".", label=name)
    _thresholds(axes, result.identity, result.far)
    axes.set(xlabel="|yaw|, degrees", ylabel="cosine to the reference", title="Cosines by |yaw|")
    axes.set_xticks(yaws)
    axes.legend(loc="upper right")


def _thresholds(axes: Any, found: Sequence[YawIdentity], far: float) -> None:
    named = False
    for one in found:
        if one.threshold is None or one.threshold_low is None or one.threshold_high is None:
            continue
        asked = one.asked == "asked"
        axes.errorbar(
            one.yaw,
            one.threshold,
            yerr=_either_side(one.threshold, one.threshold_low, one.threshold_high),
            color=_RULE,
            marker="o" if asked else "x",
            capsize=3,
            linestyle="none",
            label=None if named else f"threshold for a rate of {far:g}",
        )
        named = True
    curve = [(one.yaw, one.threshold) for one in found if one.asked == "asked"]
    if curve:
        axes.plot(*zip(*curve, strict=True), color=_RULE, linewidth=1)


def _either_side(value: float, low: float, high: float) -> list[list[float]]:
    """An interval as matplotlib wants it."""
    return [[value - low], [high - value]]
