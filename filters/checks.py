"""The rules of a run, compiled once: for every picture, the checks that decide on it, in order.

Nothing else knows what the rules ask. `filters.judge` interprets the checks in Python and puts
them into words, `filters.judge_sql` does so in SQL for whole tables, and the report draws them and
moves their thresholds. So a new check is added here and works everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from filters.rules import PROFILE, Rules, half_spacing

ViewReason = Literal[
    "not_detected",  # no face was found in the view
    "blurred",  # under the sharpness floor, or too far below the reference
    "aesthetic",  # under the aesthetic minimum
    "pose",  # the measured pose is not the one asked for
    "identity",  # the cosine to the reference is under the curve
    "identity_neighbours",  # a nearer view that this one's identity rests on has failed
]
ReferenceReason = Literal["not_detected", "blurred", "aesthetic", "expression"]
IdentityReason = Literal[
    "reference_not_detected",
    "reference_blurred",
    "reference_aesthetic",
    "reference_expression",  # the face is not calm enough
    "too_few_views",
]
WindowReason = Literal["short", "small", "crowded", "blurred", "still"]
"""Why training does not use a span in which a person is seen."""
SampleReason = Literal["no_identity_left"]
Floats = npt.NDArray[np.float64]
VIEW_REASONS: tuple[ViewReason, ...] = get_args(ViewReason)

Comparison = Literal["at_least", "at_most", "around", "beyond"]
"""How a score x of a view at some yaw passes a threshold t: x >= t; |x| <= t; |x - yaw| <= t;
x >= t on the yaw's side of 0."""


def reference_reason(reason: str) -> str:
    """What an identity is left out for when its reference fails for `reason`."""
    return f"reference_{reason}"


def score_title(scorer: str) -> str:
    """What tables and reports call the scores of an aesthetic scorer."""
    return "Distortion (brisque)" if scorer == "brisque" else f"Aesthetic ({scorer})"


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number of the rules, and what whoever moves it needs to know."""

    key: str
    """Its dotted key in a rules file."""
    value: float
    comparison: Comparison
    section: str
    title: str
    unit: str = ""
    angle: int | None = None
    """The |yaw| of a point of the identity curve, whose points share one key."""
    least: float = -inf
    most: float = inf
    """The range that a rules file may give."""
    decimals: int = 6
    """How finely the rules hold it."""
    steps: int = 24
    """About how many values are worth trying; fewer than 29."""

    @property
    def rejects_upwards(self) -> bool:
        """Whether a larger threshold rejects more."""
        return self.comparison in ("at_least", "beyond")

    def bounds(self, yaw: int, value: float) -> tuple[float, float]:
        """The least and the largest score that passes at a yaw, were this the threshold's value.

        Whatever passes a stricter value passes a looser one too.
        """
        match self.comparison:
            case "at_least":
                return value, inf
            case "at_most":
                return -value, value
            case "around":
                return yaw - value, yaw + value
            case "beyond":
                return (value, inf) if yaw > 0 else (-inf, -value)

    def compared(self, yaw: int, scores: Floats) -> Floats:
        """What of the scores of views at a yaw is compared with the threshold: the strictest value
        that each of them passes, but for rounding."""
        match self.comparison:
            case "at_least":
                return scores
            case "at_most":
                return np.abs(scores)
            case "around":
                return np.abs(scores - yaw)
            case "beyond":
                return scores if yaw > 0 else -scores


@dataclass(frozen=True, slots=True)
class Check:
    """One test of one score of a picture."""

    reason: ViewReason | ReferenceReason | WindowReason
    column: str
    """The score, a field of `datapipe.record.Scores`; of a window, of `filters.judge`'s scores."""
    name: str
    """What a sentence calls the score."""
    threshold: Threshold | None = None
    """None where the score is a yes or a no; yes passes."""
    yaw: int = 0
    """The yaw of the view whose score is tested; 0 for a reference."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest score that passes; a score that is missing never does."""
        if self.threshold is None:
            return 1.0, inf
        return self.threshold.bounds(self.yaw, self.threshold.value)


@dataclass(frozen=True, slots=True)
class ViewChecks:
    """What decides on a view. The first check that fails gives the reason."""

    own: tuple[Check, ...]
    """The checks of its own scores."""
    nearer: tuple[Check, ...]
    """Then, those of the nearer views that its identity rests on, beginning with the outermost;
    each is also among the own checks of its view. All of them fail as `identity_neighbours`, as
    does a nearer view that was not made."""


@dataclass(frozen=True, slots=True)
class RuleChecks:
    """The rules of a run as checks."""

    reference: tuple[Check, ...]
    views: Mapping[int, ViewChecks]
    """By rising yaw."""
    minimum_views: int
    """Least passing views of an identity that is kept."""
    reference_must_pass: bool
    """Whether an identity whose reference fails is left out, whatever its views."""
    windows: tuple[Check, ...]
    """Of the spans in which an identity is seen."""
    prefer_real: bool
    """Whether a real view that passes is taken instead of the synthesised one at its yaw."""
    real: Mapping[int, tuple[Check, ...]]
    """What is asked of it for that, beyond the checks of its yaw."""

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Every number that some check of a picture compares with, once: from the frontal views
        outwards."""
        outwards = sorted(self.views, key=abs)
        checks = [check for yaw in outwards for check in self.views[yaw].own]
        found = [check.threshold for check in (*checks, *self.reference)]
        return tuple(dict.fromkeys(threshold for threshold in found if threshold is not None))


def compile_rules(rules: Rules) -> RuleChecks:
    """The checks of a run's references and views.

    Raises ValueError when identity at some yaw rests on a nearer view and the run has none.
    """
    return RuleChecks(
        reference=tuple(_reference_checks(rules)),
        views={
            yaw: ViewChecks(tuple(_view_checks(rules, yaw)), tuple(_nearer_checks(rules, yaw)))
            for yaw in sorted(rules.yaws)
        },
        minimum_views=rules.minimum_views,
        reference_must_pass=rules.reference_must_pass,
        windows=tuple(_window_checks(rules)),
        prefer_real=rules.prefer_real,
        real={yaw: tuple(_real_checks(rules, yaw)) for yaw in sorted(rules.yaws)},
    )


def _reference_checks(rules: Rules) -> Iterator[Check]:
    yield _DETECTED
    sharp = Threshold(
        "sharpness.reference",
        rules.sharpness.reference,
        *("at_least", "Picture", "Sharpness of references"),
        least=0.0,
    )
    yield Check("blurred", "sharpness", "sharpness", sharp)
    title = f"{score_title(rules.aesthetic.scorer)} of references"
    yield from _aesthetic_check(rules, "reference", rules.aesthetic.reference, title)
    calm = Threshold(
        "expression.reference",
        rules.expression.reference,
        *("at_most", "Picture", "Expression of references"),
        least=0.0,
        most=1.0,
    )
    yield Check("expression", "expression", "expression", calm)


def _view_checks(rules: Rules, yaw: int) -> Iterator[Check]:
    for check in _quality_checks(rules):
        yield replace(check, yaw=yaw)
    yield from _pose_checks(rules, yaw)
    if abs(yaw) <= rules.identity.judged_to:
        yield _identity_check(rules, yaw)


def _nearer_checks(rules: Rules, yaw: int) -> Iterator[Check]:
    nearer = rules.identity.rests_on(yaw, rules.yaws)
    while nearer is not None:
        yield replace(_identity_check(rules, nearer), reason="identity_neighbours")
        nearer = rules.identity.rests_on(nearer, rules.yaws)


_DETECTED = Check("not_detected", "detected", "face")


def _quality_checks(rules: Rules) -> Iterator[Check]:
    yield _DETECTED
    sharp = Threshold(
        "sharpness.minimum",
        rules.sharpness.minimum,
        *("at_least", "Picture", "Sharpness of views"),
        least=0.0,
    )
    yield Check("blurred", "sharpness", "sharpness", sharp)
    ratio = Threshold(
        "sharpness.ratio",
        rules.sharpness.ratio,
        *("at_least", "Picture", "Sharpness over reference"),
        least=0.0,
        steps=12,
    )
    yield Check("blurred", "sharpness_ratio", "sharpness over the reference's", ratio)
    title = score_title(rules.aesthetic.scorer)
    yield from _aesthetic_check(rules, "minimum", rules.aesthetic.minimum, title)


def _aesthetic_check(rules: Rules, key: str, least: float | None, title: str) -> Iterator[Check]:
    if least is not None:
        scorer = rules.aesthetic.scorer
        minimum = Threshold(f"aesthetic.{scorer}.{key}", least, "at_least", "Picture", title)
        yield Check("aesthetic", "aesthetic", scorer, minimum)


def _pose_checks(rules: Rules, yaw: int) -> Iterator[Check]:
    pose, half = rules.pose, min(45.0, half_spacing(rules.yaws))
    if abs(yaw) < PROFILE:
        off = Threshold(
            "pose.tolerance",
            pose.tolerance,
            *("around", "Pose", "Pose tolerance", "°"),
            least=1,
            most=half,
        )
    else:  # estimators end here, so that what they read beyond is 90 or less
        off = Threshold(
            "pose.profile_minimum",
            pose.profile_minimum,
            *("beyond", "Pose", "A profile is turned at least", "°"),
            least=max(45.0, PROFILE - half),
            most=89.0,
        )
    yield Check("pose", "measured_yaw", "pose", off, yaw)
    if abs(yaw) <= pose.level_to:
        for name, value, most in (("pitch", pose.pitch, 90), ("roll", pose.roll, 180)):
            within = Threshold(
                f"pose.{name}",
                value,
                *("at_most", "Pose", f"{name.capitalize()} within", "°"),
                least=1,
                most=most,
                steps=6,
            )
            yield Check("pose", f"measured_{name}", name, within, yaw)


def _identity_check(rules: Rules, yaw: int) -> Check:
    rule, angle = rules.identity, abs(yaw)
    least = Threshold(
        f"identity.{rule.recogniser}.curve",
        rule.threshold(angle),
        *("at_least", "Identity", f"Identity at {'±' if angle else ''}{angle}°", "cosine"),
        angle=angle,
        least=-1.0,
        most=1.0,
        decimals=4,  # `IdentityRule.threshold` rounds to so many
    )
    name = f"{rule.recogniser} cosine to the reference"
    return Check("identity", "identity_cosine", name, least, yaw)


def _real_checks(rules: Rules, yaw: int) -> Iterator[Check]:
    real = rules.real
    off = Threshold("real.tolerance", real.tolerance, "around", "Real views", "Tolerance", "°")
    yield Check("pose", "measured_yaw", "pose", off, yaw)
    least: tuple[tuple[str, str, float], ...] = (
        ("sharpness", "sharpness", real.sharpness),
        ("sharpness_ratio", "ratio", real.ratio),
        ("face_size", "face_size", real.face_size),
    )
    for column, key, value in least:
        minimum = Threshold(f"real.{key}", value, "at_least", "Real views", key, least=0)
        yield Check("blurred", column, key, minimum, yaw)


def _window_checks(rules: Rules) -> Iterator[Check]:
    rule = rules.windows
    least: tuple[tuple[WindowReason, str, str, str, float], ...] = (
        ("short", "seconds", "length", "s", rule.seconds),
        ("small", "face_size", "median face", "pixels", rule.face_size),
        ("small", "face_min", "smallest face", "pixels", rule.face_min),
        ("blurred", "sharpness", "sharpness", "", rule.sharpness),
        ("still", "yaw_span", "yaw span", "°", rule.yaw_span),
    )
    for reason, column, name, unit, value in least:
        if value:
            minimum = Threshold(
                f"windows.{column}", value, "at_least", "Windows", name.capitalize(), unit, least=0
            )
            yield Check(reason, column, name, minimum)
    most = Threshold("windows.others", rule.others, "at_most", "Windows", "Other people", least=0)
    yield Check("crowded", "others", "other people", most)
