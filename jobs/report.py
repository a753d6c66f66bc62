"""The HTML report of a run: the rules as it draws and moves them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datapipe.files import Folder
from dataset.inspect.report.plan import Check, Plan, Threshold
from filters.rules import PROFILE, Rules, half_spacing
from jobs.console.output import write

if TYPE_CHECKING:
    from dataset.inspect.stats import Stats


def write_report(run: Folder, rules: Rules, stats: Stats, path: Path) -> None:
    """Write the report of a run, already counted by the same rules. Raises UserError."""
    from dataset.inspect.report.report import report

    write(path, report(run, plan_of(rules), stats.as_dict(), rules))


def plan_of(rules: Rules) -> Plan:
    """The thresholds with the ranges that a rules file may give, and the tests in their order."""
    thresholds = tuple(_thresholds(rules))
    place = {threshold.path: index for index, threshold in enumerate(thresholds)}
    sharp = place["sharpness", "minimum"]
    reference = place["aesthetic", "reference"]
    return Plan(
        thresholds=thresholds,
        references=(
            Check(sharp, "reference_blurred", "at_least", "sharpness"),
            Check(reference, "reference_aesthetic", "at_least", "aesthetic"),
        ),
        views={
            yaw: (
                Check(sharp, "blurred", "at_least", "sharpness", yaw),
                Check(place["sharpness", "ratio"], "blurred", "at_least", "sharpness_ratio", yaw),
                Check(place["aesthetic", "minimum"], "aesthetic", "at_least", "aesthetic", yaw),
                *_pose_checks(yaw, rules, place),
                *_identity_checks(yaw, rules, place),
            )
            for yaw in rules.yaws
        },
        described=rules.as_dict(),
    )


def _pose_checks(yaw: int, rules: Rules, place: dict[tuple[str | int, ...], int]) -> list[Check]:
    name, kind = "tolerance", "around"
    if abs(yaw) >= PROFILE:
        name, kind = "profile_minimum", "beyond"
    checks = [Check(place["pose", name], "pose", kind, "measured_yaw", yaw)]  # type: ignore[arg-type]
    if abs(yaw) <= rules.pose.level_to:
        checks += [
            Check(place["pose", name], "pose", "at_most", f"measured_{name}", yaw)
            for name in ("pitch", "roll")
        ]
    return checks


def _identity_checks(
    yaw: int, rules: Rules, place: dict[tuple[str | int, ...], int]
) -> list[Check]:
    """The view's own cosine where it has power, then those of the views it rests on."""
    checks, column = [], "identity_cosine"
    if abs(yaw) <= rules.identity.judged_to:
        own = place["identity", "curve", abs(yaw)]
        checks.append(Check(own, "identity", "at_least", column, yaw))
    nearer = rules.identity.rests_on(yaw, rules.yaws)
    while nearer is not None:
        threshold = place["identity", "curve", abs(nearer)]
        checks.append(Check(threshold, "identity_neighbours", "at_least", column, nearer))
        nearer = rules.identity.rests_on(nearer, rules.yaws)
    return checks


def _thresholds(rules: Rules) -> list[Threshold]:
    sharp, beauty = rules.sharpness, rules.aesthetic
    angles = sorted({abs(yaw) for yaw in rules.yaws})
    return [
        Threshold(("sharpness", "minimum"), "Sharpness", "", sharp.minimum, "up", least=0.0),
        Threshold(
            path=("sharpness", "ratio"),
            title="Sharpness over reference",
            unit="",
            value=sharp.ratio,
            stricter="up",
            least=0.0,
            steps=12,
        ),
        Threshold(
            ("aesthetic", "minimum"), f"Aesthetic ({beauty.scorer})", "", beauty.minimum, "up"
        ),
        Threshold(
            ("aesthetic", "reference"), "Aesthetic of references", "", beauty.reference, "up"
        ),
        *_pose_thresholds(rules, angles),
        *(
            Threshold(
                path=("identity", "curve", angle),
                title=f"Identity at {'±' if angle else ''}{angle}°",
                unit="cosine",
                value=rules.identity.threshold(angle),
                stricter="up",
                least=-1.0,
                most=1.0,
                decimals=4,  # `IdentityRule.threshold` rounds to so many
            )
            for angle in angles
            if angle <= rules.identity.judged_to
        ),
    ]


def _pose_thresholds(rules: Rules, angles: list[int]) -> list[Threshold]:
    pose, half = rules.pose, min(45.0, half_spacing(rules.yaws))
    found = []
    if angles[0] < PROFILE:
        found.append(
            Threshold(("pose", "tolerance"), "Pose tolerance", "°", pose.tolerance, "down", 1, half)
        )
    if angles[-1] >= PROFILE:
        found.append(
            Threshold(
                ("pose", "profile_minimum"),
                *("Least |yaw| at ±90°", "°", pose.profile_minimum, "up"),
                *(max(45.0, PROFILE - half), 89.0),
            )
        )
    if angles[0] <= pose.level_to:
        found += [
            Threshold(("pose", "pitch"), "Pitch within", "°", pose.pitch, "down", 1, 90, steps=6),
            Threshold(("pose", "roll"), "Roll within", "°", pose.roll, "down", 1, 180, steps=6),
        ]
    return found
