"""The identity threshold at each |yaw| for a wanted false-accept rate, and where it ends.

The other people of a corpus are compared with those on whom the package's curve was chosen, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from filters.calibrate.comparisons import (
    DECIMALS,
    LEAST_PEOPLE,
    Bools,
    Comparisons,
    Floats,
    Share,
    crossed_share,
    interval,
    people_needed,
    share,
)
from filters.rules import IdentityRule
from filters.rules_file import load_rules

STEP = 10.0**-DECIMALS
"""Between two thresholds that differ."""

Asked = Literal["asked", "no_power", "too_few", "beyond"]
"""Whether the rules ask for identity at a |yaw|; or why not: for what was measured there, for too
few people there, or because identity is not asked at a smaller |yaw|."""


@dataclass(frozen=True, slots=True)
class YawIdentity:
    """What the recogniser can do at one |yaw|; None where there is nothing to tell it from."""

    yaw: int
    people: int
    genuine: int
    impostors: int
    alike: int
    """Comparisons that were left out, because the references look alike."""
    genuine_median: float | None
    genuine_5: float | None
    """5th percentile."""
    impostor_99: float | None
    """99th percentile."""
    auc: Share | None
    """How often a genuine cosine is above an impostor's."""
    threshold: float | None
    """Least cosine that passes."""
    threshold_low: float | None
    threshold_high: float | None
    """95 % interval of the threshold that has the wanted rate in the whole population."""
    far: Share | None
    """False-accept rate of `threshold`."""
    far_with_alike: float | None
    """The false-accept rate, were all that look alike different people."""
    tar: Share | None
    """True-accept rate of `threshold`."""
    asked: Asked
    why: str
    """Why identity is not asked; "" where it is."""


def calibrate(found: Sequence[Comparisons], far: float, least_tar: float) -> list[YawIdentity]:
    """What holds at each |yaw|, rising; `far` is the wanted false-accept rate.

    Identity is asked as long as a share `least_tar` of genuine pairs passes. Beyond the first |yaw|
    where it is not asked, it is not asked.
    """
    out: list[YawIdentity] = []
    for one in found:
        ended = next((f"not asked at {past.yaw}°" for past in out if past.asked != "asked"), None)
        out.append(_yaw(one, far, least_tar, ended))
    return out


def _yaw(at: Comparisons, far: float, least_tar: float, ended: str | None) -> YawIdentity:
    has_genuine, has_impostors = len(at.genuine) > 0, len(at.impostor) > 0
    auc = area(at) if has_genuine and has_impostors else None
    threshold = rate = tar = low = high = with_alike = None
    if has_impostors:
        ordered = np.sort(at.impostor)
        threshold = threshold_for(ordered, far)
        rate = false_accepts(at, threshold)
        # Woodruff (1952): the interval of a quantile is the quantiles of the share's interval
        low, high = threshold_for(ordered, rate.high), threshold_for(ordered, rate.low)
        low, high = min(low, threshold), max(high, threshold)
        everyone = np.concatenate([at.impostor, at.alike])
        with_alike = float(np.mean(everyone >= threshold))
        tar = true_accepts(at, threshold) if has_genuine else None
    asked, why = _asked(at, auc, tar, far, least_tar, ended)
    return YawIdentity(
        yaw=at.yaw,
        people=at.people,
        genuine=len(at.genuine),
        impostors=len(at.impostor),
        alike=len(at.alike),
        genuine_median=float(np.median(at.genuine)) if has_genuine else None,
        genuine_5=float(np.quantile(at.genuine, 0.05)) if has_genuine else None,
        impostor_99=float(np.quantile(at.impostor, 0.99)) if has_impostors else None,
        auc=auc,
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        far=rate,
        far_with_alike=with_alike,
        tar=tar,
        asked=asked,
        why=why,
    )


def _asked(
    at: Comparisons,
    auc: Share | None,
    tar: Share | None,
    far: float,
    least_tar: float,
    ended: str | None,
) -> tuple[Asked, str]:
    needed = people_needed(far)
    if at.people < needed:
        return "too_few", f"{at.people} different people there; a rate of {far:g} needs {needed}"
    with_own = len(np.unique(at.genuine_person))
    if 0 < with_own < LEAST_PEOPLE:
        return "too_few", f"{with_own} people with a genuine pair; {LEAST_PEOPLE} are needed"
    if auc is not None and auc.low <= 0.5:
        return "no_power", f"the AUC's interval, {auc.low:.3f} to {auc.high:.3f}, reaches 0.5"
    if tar is not None and tar.value < least_tar:
        return "no_power", f"{tar.value:.1%} of genuine pairs pass, under {least_tar:.0%}"
    return ("beyond", ended) if ended else ("asked", "")


def threshold_for(impostors: Floats, far: float) -> float:
    """The least threshold that at most the share `far` of the cosines, sorted, reaches."""
    reach = int(np.floor(far * len(impostors) + 1e-9))
    if reach >= len(impostors):
        return float(impostors[0])
    return round(float(impostors[len(impostors) - 1 - reach]) + STEP, DECIMALS)


def false_accepts(at: Comparisons, threshold: float) -> Share:
    """The false-accept rate: a U-statistic, as both people of a comparison are in others too."""
    hit = at.impostor >= threshold
    return crossed_share(_crossed(at, hit), _crossed(at, np.ones(len(hit))))


def true_accepts(at: Comparisons, threshold: float) -> Share:
    """The true-accept rate; both sides of a face are of one person."""
    hit = at.genuine >= threshold
    count = np.bincount(at.genuine_person, minlength=at.groups)
    hits = np.bincount(at.genuine_person, hit, minlength=at.groups)
    return share(hits[count > 0], count[count > 0])


def area(at: Comparisons) -> Share:
    """The area under the ROC curve (ties count half), jackknifed over people."""
    above, all_impostors = _above(at.impostor, at.genuine), len(at.impostor)
    below = _above(-at.genuine, -at.impostor)  # of each genuine cosine, the impostors under it
    own = np.bincount(at.genuine_person, minlength=at.groups)
    own_below = np.bincount(at.genuine_person, below, minlength=at.groups)
    met, met_above = _crossed(at, np.ones(all_impostors)), _crossed(at, above)
    both = _both(at)
    total = float(below.sum())
    left = (len(at.genuine) - own) * (all_impostors - met)
    seen = ((own > 0) | (met > 0)) & (left > 0)
    without = (total - own_below - met_above + both)[seen] / left[seen]
    return interval(total / (len(at.genuine) * all_impostors), without)


def _above(values: Floats, others: Floats) -> Floats:
    """For each value, how many of the others are above it; ties count half."""
    ordered = np.sort(others)
    under, upto = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    above: Floats = len(others) - (under + upto) / 2
    return above


def _both(at: Comparisons) -> Floats:
    """For each person, how often their genuine cosines are above impostor cosines they are in."""
    out = np.zeros(at.groups)
    sides = [(side, np.argsort(side, kind="stable")) for side in
             (at.genuine_person, at.reference_person, at.view_person)]  # fmt: skip
    people = np.arange(at.groups + 1)
    cuts = [np.searchsorted(side[order], people) for side, order in sides]
    for person in range(at.groups):
        own, as_reference, as_view = (
            order[cut[person] : cut[person + 1]]
            for (_, order), cut in zip(sides, cuts, strict=True)
        )
        if len(own):
            met = at.impostor[np.concatenate([as_reference, as_view])]
            out[person] = _above(-at.genuine[own], -met).sum()
    return out


def _crossed(at: Comparisons, weight: Floats | Bools) -> Floats:
    """For each person the weights of all impostor comparisons they are in, on either side."""
    out = np.zeros(at.groups)
    for side in (at.reference_person, at.view_person):
        out += np.bincount(side, weight, minlength=at.groups)
    return out


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
