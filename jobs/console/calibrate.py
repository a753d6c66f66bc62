"""A calibration as tables on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from rich.table import Table

from filters.calibrate.bounds import Bound
from filters.calibrate.intervals import Share
from filters.calibrate.result import Calibration
from jobs.console.output import new_table, number, numbers, screen, text


def print_calibration(result: Calibration) -> None:
    """Print every table that has rows, with what to know of the first two below them."""
    console = screen()
    for table in (_cosines(result), _thresholds(result)):
        console.print(table)
    for line in _notes(result):
        console.print(text(line))
    for table in (_bounds(result), _changed(result)):
        if table.row_count:
            console.print(table)


def _cosines(result: Calibration) -> Table:
    columns = ("people", "genuine", "impostor", "genuine 50 %", "impostor 99 %", "AUC")
    table = new_table(f"Comparisons by {result.recogniser}", "|yaw|", *columns)
    for one in result.identity:
        table.add_row(
            f"{one.yaw}°",
            *numbers(one.people, one.genuine, one.impostors),
            number(one.genuine_median, 3),
            number(one.impostor_99, 3),
            _share(one.auc, 3),
        )
    return table


def _thresholds(result: Calibration) -> Table:
    title = f"Thresholds for a false-accept rate (FAR) of {100 * result.far:g} %"
    columns = ("cosine", "FAR %", "TAR %", "identity is")
    table = new_table(title, "|yaw|", *columns, words=("identity is",))
    for one in result.identity:
        threshold = "–"
        if one.threshold is not None:
            threshold = f"{one.threshold:.3f} [{one.threshold_low:.3f}, {one.threshold_high:.3f}]"
        table.add_row(
            f"{one.yaw}°",
            threshold,
            _share(one.far, 2, 100),
            _share(one.tar, 1, 100),
            "asked" if one.asked == "asked" else "not asked",
        )
    return table


def _notes(result: Calibration) -> list[str]:
    lines = ["In brackets: 95 % intervals for people who were not drawn."]
    lines += [f"{one.yaw}°: not asked: {one.why}." for one in result.identity if one.why]
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


def _bounds(result: Calibration) -> Table:
    by, scorer = result.bounds, result.base.aesthetic.scorer
    columns = ("yaw error", "asks for", "within", "sharpness", "floor", "ratio", "floor", scorer)
    table = new_table("Pose and pictures of the views", "|yaw|", "views", *columns, "floor")
    at = {bound.yaw: bound for bound in (*by.pose, *([by.profile] if by.profile else []))}
    sharp = {bound.yaw: bound for bound in by.sharpness}
    ratio = {bound.yaw: bound for bound in by.ratio}
    beauty = {bound.yaw: bound for bound in by.aesthetic}
    for yaw in sorted(at.keys() | sharp.keys() | ratio.keys() | beauty.keys()):
        pose = at.get(yaw)
        views = max(found[yaw].views for found in (at, sharp, ratio, beauty) if yaw in found)
        table.add_row(
            f"{yaw}°",
            f"{views:,}",
            *_pose(pose, pose is by.profile),
            *_floor(sharp.get(yaw)),
            *_floor(ratio.get(yaw)),
            *_floor(beauty.get(yaw), 2),
        )
    return table


def _pose(bound: Bound | None, profile: bool) -> tuple[str, str, str]:
    if bound is None:
        return "–", "–", "–"
    asks = f"{bound.bound:.1f}° or more" if profile else f"±{bound.bound:.1f}°"
    median = bound.median - bound.yaw if profile else bound.median
    return f"{median:+.1f}°", asks, f"{bound.passing:.1%}"


def _floor(bound: Bound | None, digits: int = 3) -> tuple[str, str]:
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
