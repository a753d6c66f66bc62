"""How a corpus's other people compare with those on whom the package's curve was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from filters.calibrate.comparisons import Comparisons
from filters.calibrate.identity import false_accepts
from filters.calibrate.intervals import LEAST_PEOPLE, Share
from filters.rules import IdentityRule
from filters.rules_file import load_rules

CHOSEN_ON: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "sface": {0: (0.26, 0.66), 30: (0.26, 0.61), 60: (0.26, 0.48)}
}
"""99th percentile of the cosines of other people, by recogniser and |yaw|, in the two groups on
whom the package's curve was chosen: sixteen real people, and look-alikes made by an image model
(docs/filters.md)."""


@dataclass(frozen=True, slots=True)
class RulesFar:
    """What the rules that are calibrated do at one |yaw|."""

    yaw: int
    threshold: float
    far: Share
    """The share of other people whom they would accept."""
    seen: float
    """99th percentile of other people's cosines."""


def rules_far(rule: IdentityRule, found: Sequence[Comparisons]) -> list[RulesFar]:
    """What the rule's own thresholds accept, at each |yaw| where the rule looks at the cosine."""
    return [
        RulesFar(
            at.yaw, rule.threshold(at.yaw), false_accepts(at, rule.threshold(at.yaw)),
            float(np.quantile(at.impostor, 0.99)),
        )
        for at in found
        if at.yaw <= rule.judged_to and at.people >= LEAST_PEOPLE and len(at.impostor)
    ]  # fmt: skip


def hint(rule: IdentityRule, rates: Sequence[RulesFar]) -> str:
    """Say how alike people are to whom the rule is applied; "" where nothing can be said."""
    if not rates:
        return ""
    accepted = ", ".join(f"{r.far.value:.1%} at {r.yaw}°" for r in rates)
    text = f"The thresholds before this calibration accept of other people {accepted}."
    known = CHOSEN_ON.get(rule.recogniser, {})
    places = [(r.seen - known[r.yaw][0]) / (known[r.yaw][1] - known[r.yaw][0])
              for r in rates if r.yaw in known]  # fmt: skip
    if not places or rule.curve != _shipped(rule.recogniser):
        return text
    where = fmean(places)
    if where > 1.1:
        return f"{text} People here are more alike than any on whom the package's curve was chosen."
    if where < 0.5:
        return (
            f"{text} People here differ as real people do; the package's curve was chosen on "
            "look-alikes too, and is stricter than it need be here."
        )
    return f"{text} People here are as alike as the look-alikes on whom it was chosen."


def _shipped(recogniser: str) -> tuple[tuple[float, float], ...]:
    rules = load_rules(None, yaws=(0,), recogniser=recogniser, aesthetic_scorer="brisque")
    return rules.identity.curve
