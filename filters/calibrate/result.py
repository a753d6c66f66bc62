"""What a calibration found, as JSON and as the rules that it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from datapipe.faces.base import FaceAnalyzer
from filters.calibrate.bounds import Bounds, bounds
from filters.calibrate.comparisons import CONFIDENCE, Comparisons, Share, comparisons, people
from filters.calibrate.identity import RulesFar, YawIdentity, calibrate, rules_far
from filters.calibrate.people import Drawn
from filters.rules import PROFILE, AestheticRule, Rules, half_spacing
from filters.rules_file import as_file, settings

_TOP = 89.5
"""Largest `profile_minimum`: a pose estimator hardly reads more."""


def calibrated(base: Rules, recogniser: str, found: Sequence[YawIdentity], by: Bounds) -> Rules:
    """`base` with identity, pose, sharpness and aesthetic as measured; the rest as it is.

    Identity is asked up to the last |yaw| in a row where the recogniser has power, and its cosine
    alone decides there: every threshold has the wanted false-accept rate. Raises ValueError where
    there is no such |yaw|, or a view of the run would have none to rest on.
    """
    asked = [one for one in found if one.asked == "asked"]
    curve = tuple((float(one.yaw), one.threshold) for one in asked if one.threshold is not None)
    if not curve:
        raise ValueError("identity cannot be asked at any yaw")
    if curve[0][0] > 0:
        curve = ((0.0, curve[0][1]), *curve)
    reach = curve[-1][0]
    identity = replace(
        base.identity, recogniser=recogniser, curve=curve, verified_to=reach, judged_to=reach
    )
    for yaw in base.yaws:
        identity.rests_on(yaw, base.yaws)
    return replace(
        base,
        identity=identity,
        pose=replace(
            base.pose,
            tolerance=_or(tolerance(base, by), base.pose.tolerance),
            profile_minimum=_or(profile_minimum(base, by), base.pose.profile_minimum),
        ),
        sharpness=replace(
            base.sharpness,
            minimum=_or(by.least_sharpness, base.sharpness.minimum),
            ratio=_or(by.least_ratio, base.sharpness.ratio),
        ),
        aesthetic=aesthetic(base.aesthetic, by.least_aesthetic),
    )


def aesthetic(base: AestheticRule, found: float | None) -> AestheticRule:
    """The floor as measured, which a reference without one of its own gets too."""
    if found is None:
        return base
    return replace(
        base, minimum=found, reference=found if base.reference is None else base.reference
    )


def tolerance(base: Rules, by: Bounds) -> float | None:
    """The tolerance as measured, but no wider than half the spacing of the yaws."""
    found = by.tolerance
    return None if found is None else min(found, 45.0, half_spacing(base.yaws))


def profile_minimum(base: Rules, by: Bounds) -> float | None:
    """The least |yaw| as measured, but so high that a neighbouring yaw does not pass as 90."""
    found = by.profile_minimum
    if found is None:
        return None
    return min(max(found, 45.0, PROFILE - half_spacing(base.yaws)), _TOP)


def _or(found: float | None, otherwise: float) -> float:
    return otherwise if found is None else found


FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """Everything that a calibration reports."""

    recogniser: str
    faces: Mapping[str, object]
    """Provenance of the face models."""
    far: float
    """The false-accept rate that was wanted."""
    least_tar: float
    """The share of genuine pairs that must pass where identity is asked."""
    same_person: float
    """The cosine of references from which they were not taken for two people."""
    identities: int
    """Identities that were compared."""
    lost: int
    """Identities that were drawn, but have no candidate or no face."""
    groups: int
    """Groups of identities that look like one person; as many as identities if none do."""
    identity: Sequence[YawIdentity]
    rules_far: Sequence[RulesFar]
    """What the thresholds of `base` do to the same people."""
    bounds: Bounds
    base: Rules
    """The rules that were calibrated."""
    rules: Rules | None
    """The same with the thresholds that were found; None where none can be given."""
    problem: str
    """Why there are no rules; "" where there are."""
    given: Mapping[str, Any] | None
    """By dotted key what --rules says itself, where identity alone was calibrated; else None."""

    def written(self) -> dict[str, Any]:
        """The settings for the rules file.

        Where there were no scores these are the ones of identity, and what --rules says: the other
        `rules` are the package's, made to fit the yaws of the pairs, which are not a run's.
        """
        found = settings(self.rules) if self.rules is not None else {}
        if self.given is None:
            return found
        of_identity = {key: found[key] for key in found if key.startswith("identity.")}
        return {**self.given, **of_identity}

    def changed(self) -> list[dict[str, Any]]:
        """The settings that the calibration changes."""
        if self.rules is None:
            return []
        before, after = settings(self.base), settings(self.rules)
        return [
            {"key": key, "before": before.get(key), "after": value}
            for key, value in after.items()
            if before.get(key) != value
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON types; docs/calibrate.md describes them."""
        return {
            "format": FORMAT,
            "recogniser": self.recogniser,
            "faces": dict(self.faces),
            "far": self.far,
            "least_tar": self.least_tar,
            "confidence": CONFIDENCE,
            "same_person": self.same_person,
            "identities": self.identities,
            "lost": self.lost,
            "groups": self.groups,
            "identity": [asdict(one) for one in self.identity],
            "rules_far": [asdict(one) for one in self.rules_far],
            "bounds": asdict(self.bounds),
            "changed": self.changed(),
            "rules": None if self.rules is None else self.written(),
            "problem": self.problem or None,
        }


def conclude(
    drawn: Drawn,
    base: Rules,
    faces: FaceAnalyzer,
    *,
    given: Mapping[str, Any],
    far: float,
    least_tar: float,
    same_person: float | None,
) -> tuple[Calibration, list[Comparisons]]:
    """Compare everyone with everyone; returns the comparisons too, for the plot.

    `given` is what --rules says itself, by dotted key; `same_person` None is the threshold of the
    rules at yaw 0, and for virtual people none.
    """
    if same_person is None:
        same_person = 1.0 if drawn.rendered else base.identity.threshold(0)
    who = people(drawn.embedded.references, same_person)
    found = comparisons(drawn.embedded, who)
    identity = calibrate(found, far, least_tar)
    stored = drawn.scores
    by = Bounds() if stored is None else bounds(stored.yaw, stored.columns)
    rules, problem = None, ""
    try:
        rules = calibrated(base, faces.recogniser, identity, by)
    except ValueError as wrong:
        problem = str(wrong)
    result = Calibration(
        recogniser=faces.recogniser,
        faces=faces.provenance(),
        far=far,
        least_tar=least_tar,
        same_person=same_person,
        identities=len(drawn.embedded.references),
        lost=drawn.lost,
        groups=who.groups,
        identity=identity,
        rules_far=rules_far(base.identity, found),
        bounds=by,
        base=base,
        rules=rules,
        problem=problem,
        given=given if drawn.scores is None else None,
    )
    return result, found


def rules_file(result: Calibration) -> str:
    """The rules with what they were found from, as comments."""
    lines = [
        f"harmoview calibrate: {result.identities} identities, {result.recogniser}, false-accept "
        f"rate {result.far:g} wanted; intervals are 95 %",
        f"face models {json.dumps(dict(result.faces), sort_keys=True)}",
        *(_line(one) for one in result.identity),
    ]
    return "".join(f"# {line}\n" for line in lines) + "\n" + as_file(result.written())


def _line(one: YawIdentity) -> str:
    counts = f"{one.yaw} degrees: {one.people} people, {one.genuine} genuine and {one.impostors} "
    if one.threshold is None or one.far is None:
        return f"{counts}impostor pairs; not asked: {one.why}"
    text = (
        f"{counts}impostor pairs; {one.threshold:.4f} ({one.threshold_low:.4f} to "
        f"{one.threshold_high:.4f}), FAR {_share(one.far)}"
    )
    text += "" if one.tar is None else f", TAR {_share(one.tar)}"
    return text if one.asked == "asked" else f"{text}; not asked: {one.why}"


def _share(share: Share) -> str:
    return f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f})"
