"""What the answers to a study say: by axis and opponent, with and without raters who failed checks.

Votes are turned to the base's side: G where it was called better, B where the opponent was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from datapipe.errors import UserError
from datapipe.files import Folder
from harmoview.bench.gsb.agreement import (
    GRADES,
    NO_VOTE,
    Votes,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    percent_agreement,
    split,
)
from harmoview.bench.gsb.answers import Answers, read_answers, read_json
from harmoview.bench.gsb.plan import BLURRED, Exclusion
from harmoview.bench.gsb.preference import (
    POINTS,
    bradley_terry,
    elo,
    holm,
    power,
    preference,
)
from harmoview.bench.statistics import case_weights, interval

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Rater:
    """How somebody did on the checks, all packages together."""

    name: str
    votes: int
    gold: int
    gold_wrong: int
    """Gold items where the spoilt copy was not called worse."""
    repeats: int
    repeats_alike: int
    identical: int
    identical_same: int
    left: int
    right: int
    """Of the votes on pairs, those for either side."""
    seconds: float
    """Median time of a vote."""
    excluded: str
    """Why by the plan's rule; empty where kept."""


@dataclass(frozen=True, slots=True)
class _Vote:
    rater: str
    round: int
    axis: str
    opponent: str
    case: str
    seed: int
    grade: str


def study_results(study: Folder, seed: int = 0) -> dict[str, Any]:
    """Everything, for JSON. Raises UserError where there are no answers."""
    plan, key = read_json(study, "plan.json"), read_json(study, "key.json")
    answers = read_answers(study)
    if not answers:
        raise UserError(f"{study.url} has no answers yet: `harmoview bench gsb import` brings them")
    raters = _raters(answers, key, Exclusion(**plan["exclusion"]))
    votes = list(_votes(answers, plan, key))
    left_out = {one.name for one in raters if one.excluded}
    kept = [vote for vote in votes if vote.rater not in left_out]
    sides = sum(one.left for one in raters), sum(one.right for one in raters)
    expected = {name: about["items"] for name, about in plan["assignment"].items()}
    return {
        "base": plan["base"],
        "packages": {"answered": len(answers), "of": len(expected)},
        "unfinished": {
            one.package: [len(one.answers), expected[one.package] * len(plan["axes"])]
            for one in answers
            if len(one.answers) < expected[one.package] * len(plan["axes"])
        },
        "raters": [asdict(one) for one in raters],
        "left_share": sides[0] / sum(sides) if sum(sides) else None,
        "left_p": float(binomtest(sides[0], sum(sides)).pvalue) if sum(sides) else None,
        "axes": {
            axis: {
                "all": _summary([v for v in votes if v.axis == axis], plan, seed),
                "without_excluded": _summary([v for v in kept if v.axis == axis], plan, seed),
            }
            for axis in plan["axes"]
        },
    }


def _grade(vote: str, item: Mapping[str, Any], base: str) -> str:
    if vote == "same":
        return "S"
    return "G" if item[vote] == base else "B"


def _votes(
    answers: Sequence[Answers], plan: Mapping[str, Any], key: Mapping[str, Any]
) -> list[_Vote]:
    found = []
    for one in answers:
        items = key["packages"][one.package]
        for answer in one.answers:
            item = items[answer.item]
            if item["kind"] == "pair":
                number = int(plan["assignment"][one.package]["round"])
                grade = _grade(answer.vote, item, plan["base"])
                who = one.rater.casefold()
                found.append(
                    _Vote(who, number, answer.axis, item["opponent"], item["case"], item["seed"],
                          grade)
                )  # fmt: skip
    return found


def _raters(answers: Sequence[Answers], key: Mapping[str, Any], rule: Exclusion) -> list[Rater]:
    """By name; checks count on the first axis, overall as a rule."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    times: dict[str, list[float]] = defaultdict(list)
    for one in answers:
        items, mine = key["packages"][one.package], counts[one.rater.casefold()]
        times[one.rater.casefold()] += [answer.ms / 1000 for answer in one.answers]
        mine["votes"] += len(one.answers)
        axis = one.answers[0].axis
        given = {answer.item: answer.vote for answer in one.answers if answer.axis == axis}
        for name, vote in given.items():
            item = items[name]
            if item["kind"] == "gold":
                mine["gold"] += 1
                good = "left" if item["right"] == BLURRED else "right"
                mine["gold_wrong"] += vote != good
            elif item["kind"] == "identical":
                mine["identical"] += 1
                mine["identical_same"] += vote == "same"
            elif item["kind"] == "repeat" and item["repeats"] in given:
                mine["repeats"] += 1
                before = _grade(given[item["repeats"]], items[item["repeats"]], key["base"])
                mine["repeats_alike"] += _grade(vote, item, key["base"]) == before
            elif item["kind"] == "pair" and vote != "same":
                mine[vote] += 1
    names = (
        "votes", "gold", "gold_wrong", "repeats", "repeats_alike", "identical", "identical_same",
        "left", "right",
    )  # fmt: skip
    return [
        Rater(
            name=name,
            **{what: mine[what] for what in names},
            seconds=round(float(np.median(times[name])), 2),
            excluded=_why(mine, rule),
        )
        for name, mine in sorted(counts.items())
    ]


def _why(mine: Mapping[str, int], rule: Exclusion) -> str:
    if mine["gold_wrong"] > rule.wrong_gold:
        return f"{mine['gold_wrong']} of {mine['gold']} gold items wrong"
    alike, of = mine["repeats_alike"], mine["repeats"]
    if of and alike / of < rule.repeat_agreement:
        return f"{alike} of {of} repeats answered alike"
    return ""


def _summary(votes: Sequence[_Vote], plan: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One axis: every opponent, and the strengths of all methods."""
    by_opponent: dict[str, list[_Vote]] = defaultdict(list)
    for vote in votes:
        by_opponent[vote.opponent].append(vote)
    rounds = sorted({int(about["round"]) for about in plan["assignment"].values()})
    opponents, points = {}, {}
    for name in plan["opponents"]:
        items = sorted({(v.case, v.seed) for v in by_opponent[name]})
        if not items:
            continue
        table = np.full((len(items), len(rounds)), NO_VOTE, np.int64)
        for v in by_opponent[name]:
            table[items.index((v.case, v.seed)), rounds.index(v.round)] = GRADES.index(v.grade)
        opponents[name], points[name] = _opponent(items, table, seed)
    adjusted = holm({name: float(one["p"]) for name, one in opponents.items()})
    for name, one in opponents.items():
        one["p_holm"] = adjusted[name]
    return {"opponents": opponents, "strengths": _strengths(points, plan["base"], seed)}


Points = dict[str, tuple[float, float]]
"""By case: points of the base, and majorities that they are out of."""


def _opponent(
    items: Sequence[tuple[str, int]], votes: Votes, seed: int
) -> tuple[dict[str, Any], Points]:
    decided = majority(votes)
    by_case: Points = {}
    net: dict[str, float] = defaultdict(float)
    for (case, _), grade in zip(items, decided, strict=True):
        if grade is not None:
            got, of = by_case.get(case, (0.0, 0.0))
            by_case[case] = got + POINTS[grade], of + 1
            net[case] += 2 * POINTS[grade] - 1
    wins, least, short = power(len(items))
    found = {
        **preference(decided).as_dict(),
        "n": len(items),
        "net_interval": _resampled(list(net.values()), [n for _, n in by_case.values()], seed),
        "win_rate_interval": _resampled(
            [got for got, _ in by_case.values()], [n for _, n in by_case.values()], seed
        ),
        "agreement": percent_agreement(votes),
        "alpha_ordinal": krippendorff_alpha(votes, "ordinal"),
        "alpha_nominal": krippendorff_alpha(votes, "nominal"),
        "kappa": fleiss_kappa(votes),
        "one_of_each": split(votes),
        "power": {"wins": wins, "p": least, "p_one_fewer": short},
    }
    return found, by_case


def _resampled(sums: Sequence[float], counts: Sequence[float], seed: int) -> list[float] | None:
    """The interval of a ratio over cases; None of fewer than two cases."""
    if len(sums) < 2:
        return None
    drawn = case_weights(len(sums), seed, RESAMPLES)
    found = interval((drawn @ np.array(sums)) / (drawn @ np.array(counts)))
    return None if found is None else [found.low, found.high]


def _strengths(points: Mapping[str, Points], base: str, seed: int) -> dict[str, Any]:
    """Bradley and Terry's, as Elo with the base at 0; intervals by resampling cases."""
    names = [base, *points]
    cases = sorted({case for some in points.values() for case in some})
    if not cases:
        return {}
    got, of = np.zeros((2, len(points), len(cases)))
    for row, some in enumerate(points.values()):
        for case, (mine, count) in some.items():
            got[row, cases.index(case)], of[row, cases.index(case)] = mine, count
    best = _elo(got.sum(axis=1), of.sum(axis=1))
    drawn = case_weights(len(cases), seed, RESAMPLES // 10)
    spread = np.stack([_elo(got @ weights, of @ weights) for weights in drawn])
    return {
        name: {
            "elo": float(best[k]),
            "interval": _ends(spread[:, k]) if len(cases) > 1 and k else None,
        }
        for k, name in enumerate(names)
    }


def _elo(won: Floats, of: Floats) -> Floats:
    """Of the base (first) and its opponents, from the base's points against each.

    NaN for an opponent of whom no case was drawn.
    """
    met = np.flatnonzero(of)
    wins = np.zeros((len(met) + 1, len(met) + 1))
    wins[0, 1:], wins[1:, 0] = won[met], of[met] - won[met]
    strengths = elo(bradley_terry(wins, tolerance=1e-7, rounds=2000))
    found = np.full(len(of) + 1, np.nan)
    found[[0, *(met + 1)]] = strengths - strengths[0]
    return found


def _ends(samples: Floats) -> list[float] | None:
    found = interval(samples)
    return None if found is None else [found.low, found.high]
