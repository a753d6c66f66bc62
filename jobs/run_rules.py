"""The rules that a command applies to a run, ready for `datapipe`."""

from __future__ import annotations

from datapipe.files import Folder
from datapipe.pack import AppliedRules
from datapipe.run import load_info
from filters.judge_table import TableJudge
from filters.rules import Rules
from filters.rules_file import load_rules


def run_rules(run: Folder, path: str | None) -> Rules:
    """A rules file over the defaults, or the defaults, for the yaws and scorers of a run.

    Raises UserError when `run` is not a run, or the file is not one of rules for it.
    """
    info = load_info(run)
    labels = info.scoring.labels
    return load_rules(
        path,
        yaws=info.settings["yaws"],
        recogniser=labels["recogniser"],
        aesthetic_scorer=labels["aesthetic_scorer"],
    )


def applied(rules: Rules) -> AppliedRules:
    return AppliedRules(TableJudge(rules), rules.as_dict())
