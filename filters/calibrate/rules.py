"""The rules that a calibration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from filters.calibrate.bounds import Bounds
from filters.calibrate.identity import YawIdentity
from filters.rules import PROFILE, AestheticRule, Rules, half_spacing

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
