"""Decides from stored scores and rules: what passes, or the first rule that failed and by how much.

Pure and cheap (microseconds a view): `pack` may think again about millions of views at any time.
The steps up are here and nowhere else: too few views leave an identity out, no identity left
leaves the sample out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal

from datapipe.record import Sample, Scores
from filters.rules import PROFILE, Rules

ViewReason = Literal[
    "not_detected",  # no face was found in the view
    "blurred",  # under the sharpness floor, or too far below the reference
    "aesthetic",  # under the aesthetic minimum
    "pose",  # the measured pose is not the one asked for
    "identity",  # the cosine to the reference is under the curve
    "identity_neighbours",  # a nearer view that this one's identity rests on has failed
]
IdentityReason = Literal[
    "reference_not_detected", "reference_blurred", "reference_aesthetic", "too_few_views"
]
SampleReason = Literal["no_identity_left"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Passed (no reason), or a reason code and the sentence with number and threshold."""

    reason: str | None = None
    """A ViewReason, IdentityReason or SampleReason."""
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.reason is None


PASSED = Verdict()


@dataclass(frozen=True, slots=True)
class IdentityVerdict:
    """Whether an identity is kept, and what was decided about each of its pictures."""

    verdict: Verdict
    reference: Verdict
    views: Mapping[int, Verdict]
    """By yaw; judged also when the identity is left out for its reference."""


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """Whether a sample is kept, and what was decided about each identity, in order."""

    verdict: Verdict
    identities: tuple[IdentityVerdict, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules at one yaw."""

    low: float
    high: float
    """Measured yaw."""
    level: bool
    """Whether pitch and roll are tested."""
    cosine: float | None
    """None where the recogniser has no power."""
    rests_on: int | None
    """The nearer yaw that must pass identity too; None where the cosine alone decides."""


class Judge:
    """The rules, made ready for one run's yaws."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._limits = {yaw: limits_at(yaw, rules) for yaw in rules.yaws}

    def sample(self, sample: Sample) -> SampleVerdict:
        """Judge a scored sample. Raises ValueError when a picture has no scores."""
        identities = []
        for index, identity in enumerate(sample.identities):
            views = {view.yaw: view.scores for view in identity.views}
            scored = {yaw: scores for yaw, scores in views.items() if scores is not None}
            if identity.scores is None or len(scored) < len(views):
                raise ValueError(f"{sample.key}, identity {index}: not scored")
            identities.append(self.identity(identity.scores, scored))
        return combine(identities)

    def rows(
        self, references: Iterable[Mapping[str, Any]], views: Iterable[Mapping[str, Any]]
    ) -> SampleVerdict:
        """Judge one sample from its rows of the references and views tables."""
        by_identity: dict[int, dict[int, Scores]] = {}
        own = {row["identity"]: scores_of(row) for row in references}
        for row in views:
            by_identity.setdefault(row["identity"], {})[row["yaw"]] = scores_of(row)
        return combine([self.identity(own[i], by_identity.get(i, {})) for i in sorted(own)])

    def identity(self, reference: Scores, views: Mapping[int, Scores]) -> IdentityVerdict:
        """Judge one identity: its reference and its views by yaw."""
        own = self._quality(reference, None, self.rules.aesthetic.reference)
        verdicts = {yaw: self._view(yaw, views) for yaw in views}
        if self.rules.reference_must_pass and own.reason is not None:
            verdict = Verdict(f"reference_{own.reason}", f"reference: {own.detail}")
        else:
            passing = sum(verdict.passed for verdict in verdicts.values())
            wanted = self.rules.minimum_views
            verdict = PASSED
            if passing < wanted:
                detail = f"{passing} of {len(verdicts)} views pass, {wanted} are needed"
                verdict = Verdict("too_few_views", detail)
        return IdentityVerdict(verdict, own, verdicts)

    def _view(self, yaw: int, views: Mapping[int, Scores]) -> Verdict:
        scores, limits = views[yaw], self._limits.get(yaw)
        if limits is None:
            raise ValueError(f"a view at {yaw:+d}°, but the rules are for {self.rules.yaws}")
        rules = self.rules
        quality = self._quality(scores, rules.sharpness.ratio, rules.aesthetic.minimum)
        if quality.reason is not None:
            return quality
        pose = self._pose(yaw, scores, limits)
        return pose if pose.reason is not None else self._identity(yaw, views)

    def _quality(self, scores: Scores, ratio: float | None, beauty: float) -> Verdict:
        rules = self.rules
        if not scores.detected:
            return Verdict("not_detected", "no face was found")
        if (low := _under("sharpness", scores.sharpness, rules.sharpness.minimum)) or (
            ratio is not None
            and (low := _under("sharpness over the reference's", scores.sharpness_ratio, ratio))
        ):
            return Verdict("blurred", low)
        if low := _under(rules.aesthetic.scorer, scores.aesthetic, beauty):
            return Verdict("aesthetic", low)
        return PASSED

    def _pose(self, yaw: int, scores: Scores, limits: Limits) -> Verdict:
        measured = scores.measured_yaw
        if measured is None:
            return Verdict("pose", "the pose could not be measured")
        if not limits.low <= measured <= limits.high:
            return Verdict("pose", f"{yaw:+d}° was asked for, {_span(measured, limits)}")
        if limits.level:
            for name, angle, most in (
                ("pitch", scores.measured_pitch, self.rules.pose.pitch),
                ("roll", scores.measured_roll, self.rules.pose.roll),
            ):
                if angle is None:
                    return Verdict("pose", f"the {name} could not be measured")
                if not -most <= angle <= most:
                    return Verdict("pose", f"{name} {angle:+.2f}° is beyond ±{most:g}°")
        return PASSED

    def _identity(self, yaw: int, views: Mapping[int, Scores]) -> Verdict:
        limits = self._limits[yaw]
        name = self.rules.identity.recogniser
        if limits.cosine is not None:
            what = f"{name} cosine to the reference"
            if low := _under(what, views[yaw].identity_cosine, limits.cosine):
                return Verdict("identity", low)
        if limits.rests_on is None:
            return PASSED
        power = "cannot judge" if limits.cosine is None else "alone cannot verify"
        rests = f"{name} {power} identity at {yaw:+d}°, it rests on {limits.rests_on:+d}°"
        if limits.rests_on not in views:
            return Verdict("identity_neighbours", f"{rests}, where there is no view")
        nearer = self._identity(limits.rests_on, views)
        if nearer.reason is not None:
            return Verdict("identity_neighbours", f"{rests}, and there: {nearer.detail}")
        return PASSED


def combine(identities: Sequence[IdentityVerdict]) -> SampleVerdict:
    """The sample's verdict from its identities'."""
    verdict = PASSED
    if not any(identity.verdict.passed for identity in identities):
        whys = "; ".join(
            f"identity {index}: {identity.verdict.reason}, {identity.verdict.detail}"
            for index, identity in enumerate(identities)
        )
        verdict = Verdict("no_identity_left", whys or "the sample has no identities")
    return SampleVerdict(verdict, tuple(identities))


_COLUMNS = tuple(field.name for field in fields(Scores))


def scores_of(row: Mapping[str, Any]) -> Scores:
    """The scores in a row of the views or references table."""
    return Scores(*[row[name] for name in _COLUMNS])


def limits_at(yaw: int, rules: Rules) -> Limits:
    angle, pose, identity = abs(yaw), rules.pose, rules.identity
    low, high = yaw - pose.tolerance, yaw + pose.tolerance
    if angle >= PROFILE:  # estimators end here; what they read beyond is 90 or less
        low, high = (pose.profile_minimum, inf) if yaw > 0 else (-inf, -pose.profile_minimum)
    judged = angle <= identity.judged_to
    return Limits(
        low=low,
        high=high,
        level=angle <= pose.level_to,
        cosine=identity.threshold(yaw) if judged else None,
        rests_on=identity.rests_on(yaw, rules.yaws),
    )


def _under(name: str, score: float | None, least: float) -> str:
    """The complaint, or an empty text when the score reaches the threshold."""
    if score is None:
        return f"{name} could not be measured"
    return "" if score >= least else f"{name} {score:g} is under {least:g}"


def _span(measured: float, limits: Limits) -> str:
    wanted = f"{limits.low:+g}° to {limits.high:+g}°"
    if limits.high == inf:
        wanted = f"{limits.low:+g}° or more"
    elif limits.low == -inf:
        wanted = f"{limits.high:+g}° or less"
    return f"{measured:+.2f}° measured, {wanted} is needed"
