"""A calibration as tables on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from rich.table import Table

from filters.calibrate.bounds import Bound
from filters.calibrate.comparisons import Share
from filters.calibrate.identity import hint
from filters.calibrate.result import Calibration
from jobs.console.output import new_table, number, numbers, screen, text


def print_calibration(result: Calibration) -> None:
    """Print every table that has rows, with what to know of the first two below them."""
    console = screen()
    for table in (_cosines(result), _thresholds(result)):
        console.print(table)
    for line in _notes(result):
        console.print(text(line))
    for table in (_poses(result), _pictures(result), _changed(result)):
        if table.row_count:
            console.print(table)


def _cosines(result: Calibration) -> Table:
    columns = ("people", "genuine", "median", "impostor", "99 %", "AUC")
    table = new_table(f"Comparisons by {result.recogniser}", "|yaw|", *columns)
    for one in result.identity:
        table.add_row(
            f"{one.yaw}°",
            *numbers(one.people, one.genuine),
            number(one.genuine_median, 3),
            number(one.impostors),
            number(one.impostor_99, 3),
            _share(one.auc, 3),
        )
    return table


def _thresholds(result: Calibration) -> Table:
    title = f"Thresholds for a false-accept rate (FAR) of {100 * result.far:g} %"
    table = new_table(title, "|yaw|", "cosine", "FAR %", "TAR %", "asked")
    for one in result.identity:
        threshold = "–"
        if one.threshold is not None:
            threshold = f"{one.threshold:.3f} [{one.threshold_low:.3f}, {one.threshold_high:.3f}]"
        table.add_row(
            f"{one.yaw}°",
            threshold,
            _share(one.far, 2, 100),
            _share(one.tar, 0, 100),
            "yes" if one.asked == "asked" else "no",
        )
    return table


def _notes(result: Calibration) -> list[str]:
    lines = ["In brackets: 95 % intervals for people who were not drawn."]
    lines += [f"{one.yaw}°: not asked: {one.why}." for one in result.identity if one.why]
    if told := hint(result.base.identity, result.rules_far):
        lines.append(told)
    if result.lost:
        lines.append(f"{result.lost:,} drawn identities have no candidate or no face.")
    if alike := sum(one.alike for one in result.identity):
        worst = max(result.identity, key=lambda one: one.far_with_alike or 0.0)
        lines.append(
            f"{alike:,} comparisons were left out, because the references have a cosine of "
            f"{result.same_person:g} or more and may show one person; were they all different "
            f"people, the FAR would be up to {worst.far_with_alike or 0:.2%} (at {worst.yaw}°)."
        )
    return lines


def _poses(result: Calibration) -> Table:
    """How far the views' yaw is off, and the bound by that."""
    by = result.bounds
    table = new_table("Pose of the views", "|yaw|", "views", "yaw error", "asks for", "within")
    for pose in sorted((*by.pose, *([by.profile] if by.profile else [])), key=lambda p: p.yaw):
        table.add_row(f"{pose.yaw}°", number(pose.views), *_pose(pose, pose is by.profile))
    return table


def _pictures(result: Calibration) -> Table:
    """The median of each score of the views, and the floor by that."""
    by, scorer = result.bounds, result.base.aesthetic.scorer
    columns = ("views", "sharpness", "floor", "ratio", "floor", scorer, "floor")
    table = new_table("Pictures of the views", "|yaw|", *columns)
    found = [{bound.yaw: bound for bound in of} for of in (by.sharpness, by.ratio, by.aesthetic)]
    for yaw in sorted({yaw for by_yaw in found for yaw in by_yaw}):
        views = max(by_yaw[yaw].views for by_yaw in found if yaw in by_yaw)
        floors = (
            _floor(by_yaw.get(yaw), digits) for by_yaw, digits in zip(found, (3, 3, 2), strict=True)
        )
        table.add_row(f"{yaw}°", number(views), *(cell for floor in floors for cell in floor))
    return table


def _pose(bound: Bound, profile: bool) -> tuple[str, str, str]:
    asks = f"{bound.bound:.1f}° or more" if profile else f"±{bound.bound:.1f}°"
    median = bound.median - bound.yaw if profile else bound.median
    return f"{median:+.1f}°", asks, f"{bound.passing:.1%}"


def _floor(bound: Bound | None, digits: int) -> tuple[str, str]:
    if bound is None:
        return "–", "–"
    return f"{bound.median:.{digits}f}", f"{bound.bound:.{digits}f}"


def _changed(result: Calibration) -> Table:
    table = new_table("Rules", "rule", "before", "calibrated")
    for line in result.changed():
        table.add_row(*(text(line[name]) for name in ("key", "before", "after")))
    return table


def _share(share: Share | None, digits: int, times: int = 1) -> str:
    if share is None:
        return "–"
    value, low, high = (f"{times * x:.{digits}f}" for x in (share.value, share.low, share.high))
    return f"{value} [{low}, {high}]"
