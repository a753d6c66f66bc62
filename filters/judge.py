"""The judge: what passes, or the first check that failed and by how much, in words.

It interprets `filters.checks` on the scores of single samples, and defines the steps up: too few
views, or a bad reference, leave an identity out; no identity left leaves the sample out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

from datapipe.record import Sample, Scores
from filters.checks import Check, compile_rules, reference_reason
from filters.rules import Rules


@dataclass(frozen=True, slots=True)
class Verdict:
    """Passed (no reason), or a reason code and the sentence with number and threshold."""

    reason: str | None = None
    """A ViewReason, WindowReason, IdentityReason or SampleReason."""
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
class WindowScores:
    """What the rules look at in a `datapipe.record.Window`."""

    seconds: float
    face_size: float
    face_min: float
    others: int
    sharpness: float | None
    yaw_span: float


def window_scores(row: Mapping[str, Any]) -> WindowScores:
    """Of a row of the windows table."""
    return WindowScores(
        seconds=round(row["end"] - row["start"], 4),
        face_size=row["face_size"],
        face_min=row["face_min"],
        others=row["others"],
        sharpness=row["sharpness"],
        yaw_span=round(row["yaw_high"] - row["yaw_low"], 2),
    )


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """Whether a sample is kept, and what was decided about each identity, in order."""

    verdict: Verdict
    identities: tuple[IdentityVerdict, ...]


class Judge:
    """The rules, made ready for one run's yaws."""

    def __init__(self, rules: Rules) -> None:
        self.checks = compile_rules(rules)
        self._recogniser = rules.identity.recogniser

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

    def window(self, row: Mapping[str, Any]) -> Verdict:
        """Judge a span in which an identity is seen, from its row of the windows table."""
        return first_failure(self.checks.windows, window_scores(row))

    def rows(
        self, references: Iterable[Mapping[str, Any]], views: Iterable[Mapping[str, Any]]
    ) -> SampleVerdict:
        """Judge one sample from its rows of the references and views tables, by what is `shown`."""
        by_identity: dict[int, dict[int, Scores]] = {}
        own = {row["identity"]: scores_of(row) for row in references}
        for row in self.shown(views):
            by_identity.setdefault(row["identity"], {})[row["yaw"]] = scores_of(row)
        return combine([self.identity(own[i], by_identity.get(i, {})) for i in sorted(own)])

    def shown(self, views: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows that count of some samples' views: where a yaw has a real view and a synthesised
        one, the one that the rules choose."""
        rows = list(views)
        real = {_place(row) for row in rows if row["twin"] and row["source"] == "real"}
        good = {_place(row) for row in rows if _place(row) in real and self._prefers(row)}
        return [
            row
            for row in rows
            if _place(row) not in real or (row["source"] == "real") == (_place(row) in good)
        ]

    def _prefers(self, row: Mapping[str, Any]) -> bool:
        """Whether a real view is taken although there is a synthesised one."""
        if row["source"] != "real" or not self.checks.prefer_real:
            return False
        checks = (*self.checks.real[row["yaw"]], *self.checks.views[row["yaw"]].own)
        return first_failure(checks, scores_of(row)).passed

    def identity(self, reference: Scores, views: Mapping[int, Scores]) -> IdentityVerdict:
        """Judge one identity: its reference and its views by yaw.

        Raises ValueError for a view at a yaw that the rules are not for.
        """
        checks = self.checks
        own = first_failure(checks.reference, reference)
        verdicts = {yaw: self._view(yaw, views) for yaw in views}
        if checks.reference_must_pass and own.reason is not None:
            verdict = Verdict(reference_reason(own.reason), f"reference: {own.detail}")
        else:
            passing = sum(verdict.passed for verdict in verdicts.values())
            verdict = PASSED
            if passing < checks.minimum_views:
                least = checks.minimum_views
                detail = f"{passing} of {len(verdicts)} views pass, {least} are needed"
                verdict = Verdict("too_few_views", detail)
        return IdentityVerdict(verdict, own, verdicts)

    def _view(self, yaw: int, views: Mapping[int, Scores]) -> Verdict:
        checks = self.checks.views.get(yaw)
        if checks is None:
            raise ValueError(f"a view at {yaw:+d}°, but the rules are for {(*self.checks.views,)}")
        own = first_failure(checks.own, views[yaw])
        return own if own.reason is not None else self._nearer(yaw, checks.nearer, views)

    def _nearer(self, yaw: int, nearer: Sequence[Check], views: Mapping[int, Scores]) -> Verdict:
        """Whether every nearer view that identity at `yaw` rests on passes its own test."""
        rests: list[str] = []
        for check in nearer:
            rests.append(f"{self._why_not_here(yaw)}, it rests on {check.yaw:+d}°")
            yaw = check.yaw
            if yaw not in views:
                return Verdict(check.reason, f"{_THERE.join(rests)}, where there is no view")
            if complaint := _complaint(check, views[yaw]):
                return Verdict(check.reason, _THERE.join([*rests, complaint]))
        return PASSED

    def _why_not_here(self, yaw: int) -> str:
        judged = any(check.reason == "identity" for check in self.checks.views[yaw].own)
        power = "alone cannot verify" if judged else "cannot judge"
        return f"{self._recogniser} {power} identity at {yaw:+d}°"


def first_failure(checks: Sequence[Check], scores: Scores | WindowScores) -> Verdict:
    """What the first check that one picture fails says; passed where it fails none."""
    for check in checks:
        if complaint := _complaint(check, scores):
            return Verdict(check.reason, complaint)
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


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["key"], row["identity"], row["yaw"]


_COLUMNS = tuple(field.name for field in fields(Scores))


def scores_of(row: Mapping[str, Any]) -> Scores:
    """The scores in a row of the views or references table."""
    return Scores(*[row[name] for name in _COLUMNS])


_THERE = ", and there: "


def _complaint(check: Check, scores: Scores | WindowScores) -> str:
    """Why a picture fails a check, with the number and the threshold; empty where it passes."""
    score, (low, high) = getattr(scores, check.column), check.bounds
    if score is not None and low <= score <= high:
        return ""
    if check.threshold is None:
        return f"no {check.name} was found"
    comparison = check.threshold.comparison
    if score is None:
        return f"{'' if comparison == 'at_least' else 'the '}{check.name} could not be measured"
    if comparison == "at_least":
        return f"{check.name} {score:g} is under {low:g}"
    if comparison == "at_most" and not check.threshold.unit:
        return f"{check.name} {score:g} is over {high:g}"
    if comparison == "at_most":
        return f"{check.name} {score:+.2f}° is beyond ±{high:g}°"
    wanted = f"{low:+g}° to {high:+g}°"
    if high == inf:
        wanted = f"{low:+g}° or more"
    elif low == -inf:
        wanted = f"{high:+g}° or less"
    return f"{check.yaw:+d}° was asked for, {score:+.2f}° measured, {wanted} is needed"
