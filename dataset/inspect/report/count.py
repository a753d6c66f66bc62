"""Reads a run once, some segments at a time, into joint counts, histograms and a few examples."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datapipe.files import Folder
from datapipe.run.info import RunInfo
from dataset.inspect.report.bins import Codes, bins, choose_stops, first_failing, pack, unpack
from dataset.inspect.report.cells import ABSENT, MOST_CELLS, MOST_WHILE_READING, Joint
from dataset.inspect.report.histograms import Histograms, compared
from dataset.inspect.report.plan import Check, Plan
from dataset.inspect.report.segments import Identities, Pictures, mixed, read, segments

FIRST_SEGMENTS = 64
"""Spread over the run, they say where the scores lie."""
EXAMPLES = 14
"""Of each fate at each yaw, from which the pictures are chosen."""
PASSED = "passed"


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A picture worth showing: which one, and where its scores are."""

    rank: int
    key: str
    number: int
    yaw: int | None
    """None for the reference."""
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


def count(run: Folder, info: RunInfo, plan: Plan, candidates: int, hold: int) -> Counted:
    """About `hold` of the candidates are held whole, all where there are no more.

    Raises UserError when the tables cannot be read.
    """
    names, yaws = segments(run, info), plan.yaws
    first = list(read(run, names[:: -(-len(names) // FIRST_SEGMENTS) or 1], yaws))
    values = [
        np.concatenate(parts) for parts in zip(*[compared(plan, p) for p in first], strict=True)
    ]
    values = values or [np.empty(0) for _ in plan.thresholds]
    stops = [choose_stops(*pair) for pair in zip(plan.thresholds, values, strict=True)]
    counted = Counted(Joint(plan, stops), Histograms(first, yaws), 0)
    del first, values
    limit = np.uint64(2**64 - 1)
    if candidates > hold:
        limit = np.uint64(2**64 * hold // candidates)
    best: _Best = defaultdict(list)
    for part in read(run, names, yaws):
        codes = code_identities(counted.joint, part)
        struck = _count_part(counted.joint, codes)
        sampled = part.rank <= limit
        keys = part.key[sampled]
        counted.second += [False, *(keys[1:] == keys[:-1]).tolist()][: len(keys)]
        counted.samples += len(np.unique(keys))
        _examples(best, part, struck)
        counted.joint.hold(codes[sampled])
        counted.histograms.add(part)
        counted.joint.shrink(MOST_WHILE_READING)
    counted.joint.finish(MOST_CELLS)
    for (fate, _), found in best.items():
        counted.examples.setdefault(fate, []).extend(found)
    return counted


def code_identities(joint: Joint, part: Identities) -> Codes:
    """The codes of every picture, (identities, groups)."""
    every = [part.references, *(part.views[yaw] for yaw in joint.plan.yaws)]
    known: dict[Check, Codes] = {}  # a cosine is looked at again where others rest on it
    columns = []
    for index, (group, own) in enumerate(zip(joint.groups, every, strict=True)):
        passed = []
        for check in group.checks:
            test = replace(check, reason="")
            if index == 0 or test not in known:
                looked_at: Pictures = own if index == 0 else part.views[check.yaw]
                stops = joint.stops[check.threshold]
                known[test] = bins(check, stops, looked_at.scores[check.column])
            passed.append(known[test])
        if index == 0:
            known.clear()
        code = pack(own.detected, passed)
        columns.append(np.where(own.present, code, ABSENT))
    return np.stack(columns, axis=1)


_Struck = list[tuple[str, int | None, NDArray[np.bool_]]]
"""Fates, yaws (None: references), and which identities they strike; a fate may come in parts."""
_Best = dict[tuple[str, int | None], list[Example]]


def _count_part(joint: Joint, codes: Codes) -> _Struck:
    """Count every picture of a part; what becomes of it by the rules as they are."""
    rules, passing = joint.plan.described, np.zeros(len(codes), np.int64)
    struck: _Struck = []
    sound = np.ones(len(codes), np.bool_)
    yaws = (None, *joint.plan.yaws)
    for index, (group, at, yaw) in enumerate(zip(joint.groups, joint.at(), yaws, strict=True)):
        coded = pa.array(codes[:, index]).dictionary_encode()
        cells, where = coded.dictionary.to_numpy(), coded.indices.to_numpy()
        joint.add(index, cells, np.bincount(where, minlength=len(cells)))
        failing = first_failing(unpack(cells, len(group.checks)), at)
        fate = np.where(cells == ABSENT, -1, failing)[where]
        passed = fate == 1 + len(group.checks)
        if index > 0:
            passing += passed
            struck.append((PASSED, yaw, passed))
        elif rules["reference_must_pass"]:
            sound = passed
        if index > 0 or rules["reference_must_pass"]:
            first = "not_detected" if index else "reference_not_detected"
            reasons = (first, *(check.reason for check in group.checks))
            struck += [(name, yaw, fate == number) for number, name in enumerate(reasons)]
    return [*struck, ("too_few_views", None, sound & (passing < rules["minimum_views"]))]


def _examples(best: _Best, part: Identities, struck: _Struck) -> None:
    """Keep the pictures of lowest rank, for each fate and yaw."""
    for fate, yaw, which in struck:
        here = np.flatnonzero(which)
        # other numbers at every yaw, so that not the same faces stand for all
        ranks = mixed(part.rank[here] + np.uint64(0 if yaw is None else 180 + yaw))
        if len(ranks) > EXAMPLES:
            lowest = np.argpartition(ranks, EXAMPLES)[:EXAMPLES]
            here, ranks = here[lowest], ranks[lowest]
        new = [
            Example(
                rank=int(rank),
                key=part.keys[part.key[row]],
                number=int(part.number[row]),
                yaw=yaw,
                segment=part.segments[part.segment[row]],
            )
            for row, rank in zip(here, ranks, strict=True)
        ]
        best[fate, yaw] = sorted(best[fate, yaw] + new)[:EXAMPLES]
