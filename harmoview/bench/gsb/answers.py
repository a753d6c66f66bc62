"""Raters' answers: checked as they come in, then joined with the key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder

FORMAT = 1
VOTES = ("left", "same", "right")


@dataclass(frozen=True, slots=True)
class Answer:
    """One vote."""

    item: str
    axis: str
    vote: str
    ms: float
    plays: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one rater to one package."""

    package: str
    rater: str
    answers: tuple[Answer, ...]


def import_answers(study: Folder, files: Sequence[Path]) -> list[Answers]:
    """Check and keep files of answers; nothing is kept where one is wrong.

    Refuses packages of another study, unknown items and axes, doubled votes, a package answered
    twice, and a rater who answered packages of two rounds. Raises UserError.
    """
    plan, key = read_json(study, "plan.json"), read_json(study, "key.json")
    kept = {one.package: one for one in read_answers(study)}
    new = []
    for file in files:
        try:
            data = json.loads(file.read_bytes())
        except (OSError, ValueError) as wrong:
            raise UserError(f"{file} cannot be read as JSON: {wrong}") from wrong
        name, answers = _checked(data, plan, key, str(file))
        if name in kept:
            raise UserError(f"{file}: {name} was answered already, by {kept[name].rater!r}")
        kept[name] = answers
        new.append((name, data, answers))
    _one_round_each(kept, plan)
    for name, data, _ in new:
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        study.put(f"answers/{name}.json", text.encode())
    return [answers for _, _, answers in new]


def read_answers(study: Folder) -> list[Answers]:
    """Everything that was imported, by package. Raises UserError."""
    plan, key = read_json(study, "plan.json"), read_json(study, "key.json")
    return [
        _checked(read_json(study, name), plan, key, f"{study.url}/{name}")[1]
        for name in study.names("answers/*.json")
    ]


def read_json(folder: Folder, name: str) -> dict[str, Any]:
    """Raises UserError where it is not there or is no object."""
    try:
        data = json.loads(folder.read(name))
    except (FileNotFoundError, ValueError) as wrong:
        raise UserError(f"{folder.url} is no human study: {name}: {wrong}") from wrong
    if not isinstance(data, dict):
        raise UserError(f"{folder.url}/{name} is not an object")
    return data


def _checked(
    data: Any, plan: Mapping[str, Any], key: Mapping[str, Any], where: str
) -> tuple[str, Answers]:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{where} is no file of answers of format {FORMAT}")
    names = {sha256: name for name, sha256 in plan["packages"].items()}
    name = names.get(data.get("package"))
    if name is None:
        raise UserError(f"{where} is of a package that is not of this study")
    rater = data.get("rater")
    if not isinstance(rater, str) or not rater.strip():
        raise UserError(f"{where} names no rater")
    rows = data.get("answers")
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{where} holds no answers")
    found: dict[tuple[str, str], Answer] = {}
    for row in rows:
        answer = _answer(row, where)
        if answer.item not in key["packages"][name]:
            raise UserError(f"{where}: {name} has no item {answer.item!r}")
        if answer.axis not in plan["axes"]:
            raise UserError(f"{where}: nobody was asked about {answer.axis!r}")
        if (answer.item, answer.axis) in found:
            raise UserError(f"{where}: two votes on {answer.item}, {answer.axis}")
        found[answer.item, answer.axis] = answer
    return name, Answers(name, rater.strip(), tuple(found.values()))


def _answer(row: Any, where: str) -> Answer:
    try:
        item, axis, vote = str(row["item"]), str(row["axis"]), row["vote"]
        ms, plays = float(row["ms"]), int(row["plays"])
    except (KeyError, TypeError, ValueError) as wrong:
        raise UserError(f"{where}: {row!r} is no answer"[:300]) from wrong
    if vote not in VOTES:
        raise UserError(f"{where}: {vote!r} is no vote: {', '.join(VOTES)}"[:300])
    return Answer(item, axis, vote, ms, plays)


def _one_round_each(kept: Mapping[str, Answers], plan: Mapping[str, Any]) -> None:
    rounds: dict[str, int] = {}
    for name, answers in sorted(kept.items()):
        number = int(plan["assignment"][name]["round"])
        before = rounds.setdefault(answers.rater.casefold(), number)
        if before != number:
            raise UserError(
                f"{answers.rater!r} answered packages of rounds {before} and {number}: one person "
                "would vote twice on the same videos"
            )
