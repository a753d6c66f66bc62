"""Reads a run once, some segments at a time, into joint counts, histograms and a few examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.files import Folder
from datapipe.inspect.report.joint import ABSENT, MOST_CELLS, Joint
from datapipe.inspect.report.plan import Plan
from datapipe.inspect.report.segments import Identities, Pictures, read, segments
from datapipe.inspect.report.spread import Histograms, tested
from datapipe.inspect.report.stops import Codes, bins, choose_stops, first_failing, unpack
from datapipe.run.info import RunInfo

FIRST_SEGMENTS = 64
"""Spread over the run, they say where the scores lie."""
SAMPLED = 20_000
"""Samples whose identities the report holds one by one; a run with fewer is held whole."""
EXAMPLES = 3
"""Of each fate at each yaw, from which the pictures are chosen."""
PASSED = "passed"


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A picture worth showing: which one, and where its scores are."""

    rank: int
    key: str
    number: int
    yaw: int
    segment: str


@dataclass
class Counted:
    """What a run comes to."""

    joint: Joint
    histograms: Histograms
    samples: int
    """Of which identities are held one by one."""
    second: list[bool] = field(default_factory=list)
    """Of each such identity, whether it belongs to the sample of the one before."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    """By fate: `PASSED`, or the reason of a rejection; lowest ranks of each yaw."""


def count(run: Folder, info: RunInfo, plan: Plan, candidates: int) -> Counted:
    """Raises UserError when the tables cannot be read."""
    names, yaws = segments(run, info), plan.yaws
    first = list(read(run, names[:: -(-len(names) // FIRST_SEGMENTS) or 1], yaws))
    values = [
        np.concatenate(parts) for parts in zip(*[tested(plan, p) for p in first], strict=True)
    ]
    values = values or [np.empty(0) for _ in plan.thresholds]
    stops = [choose_stops(*pair) for pair in zip(plan.thresholds, values, strict=True)]
    counted = Counted(Joint(plan, stops), Histograms(first, yaws), 0)
    del first, values
    limit = np.uint64(2**64 - 1)
    if candidates > SAMPLED:
        limit = np.uint64(2**64 * SAMPLED // candidates)
    best: dict[tuple[str, int], list[Example]] = defaultdict(list)
    for part in read(run, names, yaws):
        codes = code_identities(counted.joint, part)
        sampled = part.rank <= limit
        keys = part.key[sampled]
        counted.second += [False, *(keys[1:] == keys[:-1]).tolist()][: len(keys)]
        counted.samples += len(np.unique(keys))
        _examples(best, counted.joint, part, codes)
        counted.joint.add(codes, sampled)
        counted.histograms.add(part)
    counted.joint.shrink(MOST_CELLS)
    for (fate, _), found in sorted(best.items(), key=lambda item: (item[0][0], abs(item[0][1]))):
        counted.examples.setdefault(fate, []).extend(found)
    return counted


def code_identities(joint: Joint, part: Identities) -> Codes:
    """The codes of every picture, (identities, groups)."""
    every = [part.references, *(part.views[yaw] for yaw in joint.plan.yaws)]
    columns = []
    for index, (group, own) in enumerate(zip(joint.groups, every, strict=True)):
        passed = []
        for check in group.checks:
            looked_at: Pictures = own if index == 0 else part.views[check.yaw]
            stops = joint.stops[check.threshold]
            passed.append(bins(check, stops, looked_at.scores[check.column]))
        code = joint.code(index, own.detected, passed)
        columns.append(np.where(own.present, code, ABSENT))
    return np.stack(columns, axis=1)


def fates(joint: Joint, codes: Codes) -> list[tuple[tuple[str, ...], NDArray[np.int64]]]:
    """By group, the names of what can become of a picture, and which it is for each identity."""
    found = []
    for index, (group, at) in enumerate(zip(joint.groups, joint.at(), strict=True)):
        start = "reference_not_detected" if index == 0 else "not_detected"
        reasons = (start, *(check.reason for check in group.checks), PASSED)
        rows = unpack(codes[:, index], len(group.checks))
        found.append((reasons, first_failing(rows, at)))
    return found


def _examples(
    best: dict[tuple[str, int], list[Example]], joint: Joint, part: Identities, codes: Codes
) -> None:
    """Keep the pictures of lowest rank, for each fate and yaw; references have yaw 0."""
    for fate, yaw, struck in _struck(joint, codes):
        here = np.flatnonzero(struck)
        ranks = _shuffled(part.rank[here], yaw)
        lowest = np.argsort(ranks, kind="stable")[:EXAMPLES]
        new = [
            Example(
                rank=int(rank),
                key=part.keys[part.key[row]],
                number=int(part.number[row]),
                yaw=yaw,
                segment=part.segments[part.segment[row]],
            )
            for row, rank in zip(here[lowest], ranks[lowest], strict=True)
        ]
        best[fate, yaw] = sorted(best[fate, yaw] + new)[:EXAMPLES]


def _shuffled(ranks: NDArray[np.uint64], yaw: int) -> NDArray[np.uint64]:
    """Other numbers at every yaw, so that not the same faces stand for all (splitmix64)."""
    mixed = ranks + np.uint64((yaw + 180) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))


def _struck(joint: Joint, codes: Codes) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Fates, yaws, and which identities they strike there; the same fate may come in parts."""
    rules, passing = joint.plan.described, np.zeros(len(codes), np.int64)
    (reasons, own), *views = fates(joint, codes)
    for column, (yaw, (names, fate)) in enumerate(zip(joint.plan.yaws, views, strict=True), 1):
        present = codes[:, column] != ABSENT
        passing += present & (fate == len(names) - 1)
        for number, name in enumerate(names):
            yield name, yaw, present & (fate == number)
    sound = (own == len(reasons) - 1) | (not rules["reference_must_pass"])
    if rules["reference_must_pass"]:
        for number, name in enumerate(reasons[:-1]):
            yield name, 0, own == number
    yield "too_few_views", 0, sound & (passing < rules["minimum_views"])
