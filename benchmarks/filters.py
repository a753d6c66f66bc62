"""What the default rules let through: true and false accepts on people whose yaw is known exactly.

Every person's reference is lifted to a grid of yaws by the mesh engine; each view is then judged as
what it is (a true accept), and as what it is not: another person of the same sex, a neighbouring
yaw, a blurred, noisy or compressed picture. The people are those of the portraits, and with a
folder of clips its virtual subjects, apart. Run from the repository root:

    harmoview subjects --out people --count 17 --seconds 1 --fps 12
    python -m benchmarks.filters people
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.filter_cases import FAULTS, GRID, Case, measured_people
from datapipe.record import YAWS, Scores
from filters.judge import Judge
from filters.rules import Rules
from filters.rules_file import load_rules

ANGLE_NAMES = ("yaw", "pitch", "roll")
ANGLES = tuple(yaw for yaw in GRID if yaw >= 0)


def column(values: Iterable[float | None]) -> Any:
    return np.array([np.nan if value is None else value for value in values], float)


def both_sides(angle: int) -> tuple[int, ...]:
    return (angle,) if angle == 0 else (-angle, angle)


def other_pairs(cases: Sequence[Case]) -> Iterator[tuple[Case, Case]]:
    """A person's views against the reference of another person of the same sex."""
    for case, other in permutations(cases, 2):
        if case.person.sex == other.person.sex and case.person.who != other.person.who:
            yield case, other


def identity_table(cases: Sequence[Case], rules: Rules) -> None:
    """Cosine of the right person and of others of the same sex, by |yaw|."""
    print("\nIdentity: cosine to the reference, the right person against others of the same sex")
    print(
        "|yaw|   n  same: mean  min   5 %     n  other: mean  95 %  99 %   max   threshold"
        "   same pass  other pass"
    )
    for angle in ANGLES:
        same = column(c.scores(y).identity_cosine for c in cases for y in both_sides(angle))
        pairs = [(c, d, y) for c, d in other_pairs(cases) for y in both_sides(angle)]
        other = column(c.views[y].against(d.reference).identity_cosine for c, d, y in pairs)
        least = rules.identity.threshold(angle)
        used = f"{least:9.3f}" if angle <= rules.identity.judged_to else "   unused"
        print(
            f"{angle:5} {len(same):3}      {np.nanmean(same):6.3f} {np.nanmin(same):5.3f} "
            f"{np.nanpercentile(same, 5):5.3f} {len(other):5}       {np.nanmean(other):6.3f} "
            f"{np.nanpercentile(other, 95):5.3f} {np.nanpercentile(other, 99):5.3f} "
            f"{np.nanmax(other):5.3f}   {used}      {share(same >= least)}      "
            f"{share(other >= least)}"
        )
    reach = rules.identity.verified_to
    alike = Counter(
        " and ".join(sorted((c.person.who, d.person.who)))
        for c, d in other_pairs(cases)
        for y in YAWS
        if abs(y) == reach
        and (c.views[y].against(d.reference).identity_cosine or -1) >= rules.identity.threshold(y)
    )
    found = ", ".join(f"{pair} {count}" for pair, count in alike.most_common()) or "none"
    print(f"others who pass at {reach:g}: {found}")


def pose_table(cases: Sequence[Case], rules: Rules) -> None:
    """Error of the measured yaw, and what a tolerance lets through, by |yaw|."""
    print("\nPose: measured minus true yaw, towards the profile; accepts by tolerance")
    print(
        "|yaw|   n  mean error  spread  |err| 95 %   ±5  ±7.5   ±10  ±12.5   |pitch| 95 %"
        "  |roll| 95 %"
    )
    for angle in ANGLES:
        sides = [(c, y) for c in cases for y in both_sides(angle)]
        error = column(c.scores(y).measured_yaw for c, y in sides) - [y for _, y in sides]
        outward = error * [1 if y >= 0 else -1 for _, y in sides]
        pitch = abs(column(c.scores(y).measured_pitch for c, y in sides))
        roll = abs(column(c.scores(y).measured_roll for c, y in sides))
        accepts = "  ".join(share(abs(error) <= tolerance) for tolerance in (5, 7.5, 10, 12.5))
        print(
            f"{angle:5} {len(sides):3}      {np.nanmean(outward):+6.1f} {np.nanstd(outward):7.1f} "
            f"{np.nanpercentile(abs(error), 95):10.1f}   {accepts}   "
            f"{np.nanpercentile(pitch, 95):10.1f} {np.nanpercentile(roll, 95):10.1f}"
        )
    print("\nPose: a view at another yaw than asked for, accepted by the default rule")
    print("asked for   own yaw  ±15 off  ±30 off")
    judge = Judge(rules)
    for angle in sorted({abs(yaw) for yaw in YAWS}):
        row = []
        for off in (0, 15, 30):
            passed = [
                _reason(judge, c, asked, scores) != "pose"
                for c in cases
                for asked in both_sides(angle)
                for shown in {asked - off, asked + off}
                if shown in GRID and (scores := as_asked(c, asked, shown)) is not None
            ]
            row.append(share(np.array(passed)))
        print(f"{angle:9}      {'     '.join(row)}")


def as_asked(case: Case, asked: int, shown: int) -> Scores | None:
    """The scores of a view that was asked for at one yaw and shows another; None: no face found."""
    turned, straight = case.scores(shown), case.scores(0)
    pose = {f"measured_{name}": getattr(turned, f"measured_{name}") for name in ANGLE_NAMES}
    return replace(straight, **pose) if turned.detected else None


def quality_table(cases: Sequence[Case], rules: Rules) -> None:
    """Sharpness, its ratio and the aesthetic score of clean and spoilt views."""
    print("\nQuality: percentiles 1, 5, 50, 95 over all default yaws, and the share that passes")
    print(
        "views            sharpness                  ratio                     "
        "100 - BRISQUE           sharp  ratio  aesthetic"
    )
    clean = {"clean": {c.person.name: {y: c.views[y] for y in YAWS} for c in cases}}
    spoilt = {name: {c.person.name: c.faulty[name] for c in cases} for name in FAULTS}
    for name, by_person in (clean | spoilt).items():
        scores = [by_person[c.person.name][y].against(c.reference) for c in cases for y in YAWS]
        sharp = column(s.sharpness for s in scores)
        ratio = column(s.sharpness_ratio for s in scores)
        beauty = column(s.aesthetic for s in scores)
        parts = [
            " ".join(f"{np.nanpercentile(x, q):6.2f}" for q in (1, 5, 50, 95))
            for x in (sharp, ratio, beauty)
        ]
        passes = "  ".join(
            share(x >= least)
            for x, least in (
                (sharp, rules.sharpness.minimum),
                (ratio, rules.sharpness.ratio),
                (beauty, rules.aesthetic.minimum),
            )
        )
        print(f"{name:10}  {'  '.join(parts)}   {passes}")


def outcome_table(cases: Sequence[Case], rules: Rules) -> None:
    """All rules together: accepted views by |yaw|, and the reasons of the rest."""
    print("\nAll rules together: views accepted, by the yaw asked for")
    angles = sorted({abs(yaw) for yaw in YAWS})
    print(
        "views            " + "".join(f"{angle:>7}" for angle in angles) + "   sets kept   reasons"
    )
    judge = Judge(rules)

    def row(name: str, sets: Iterable[tuple[Scores, dict[int, Scores]]]) -> None:
        passed: dict[int, list[bool]] = {angle: [] for angle in angles}
        reasons: Counter[str] = Counter()
        found = [judge.identity(reference, views) for reference, views in sets]
        for identity in found:
            for yaw, verdict in identity.views.items():
                passed[abs(yaw)].append(verdict.passed)
                if verdict.reason is not None:
                    reasons[verdict.reason] += 1
        shares = "".join(f"{share(np.array(passed[angle])):>7}" for angle in angles)
        kept = f"{sum(identity.verdict.passed for identity in found)}/{len(found)}"
        whys = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        print(f"{name:17}{shares}  {kept:>9}   {whys}")

    row("clean", [(c.reference.alone(0.0), {y: c.scores(y) for y in YAWS}) for c in cases])
    others = [
        (d.reference.alone(0.0), {y: c.views[y].against(d.reference) for y in YAWS})
        for c, d in other_pairs(cases)
    ]
    row("another person", others)
    for name in FAULTS:
        sets = [
            (c.reference.alone(0.0), {y: c.faulty[name][y].against(c.reference) for y in YAWS})
            for c in cases
        ]
        row(name, sets)


def _reason(judge: Judge, case: Case, asked: int, scores: Scores) -> str | None:
    views = {yaw: case.scores(yaw) for yaw in YAWS} | {asked: scores}
    return judge.identity(case.reference.alone(0.0), views).views[asked].reason


def share(passed: Any) -> str:
    return f"{100 * np.mean(passed):4.0f}%" if len(passed) else "    -"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.filters", description=__doc__)
    parser.add_argument("clips", type=Path, nargs="?", help="folder of `harmoview subjects`")
    parser.add_argument("--rules", help="a rules file over the defaults")
    arguments = parser.parse_args(argv)
    rules = load_rules(arguments.rules, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")
    begin = time.perf_counter()
    cases = []
    for case in measured_people(arguments.clips):
        cases.append(case)
        print(f"\r{len(cases)} references", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{len(cases)} references measured in {time.perf_counter() - begin:.0f} s")
    for group in dict.fromkeys(case.person.group for case in cases):
        members = [case for case in cases if case.person.group == group]
        print(f"\n{group}: {len(members)} references")
        for table in (identity_table, pose_table, quality_table, outcome_table):
            table(members, rules)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
