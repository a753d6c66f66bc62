"""The rules that a command applies to a run: a file's, the package's, or those it was packed by."""

from __future__ import annotations

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo, load_info
from dataset.pack.manifest import Manifest, load_packed
from filters.rules import Rules
from filters.rules_file import load_rules


def run_rules(run: Folder, path: str | None) -> Rules:
    """A rules file over the defaults, or the defaults, for the yaws and scorers of a run.

    Raises UserError when `run` is not a run, or the file is not one of rules for it.
    """
    return rules_for(load_info(run), path)


def rules_for(info: RunInfo, path: str | None) -> Rules:
    """As `run_rules`, for a run that may not have begun."""
    labels = info.scoring.labels
    return load_rules(
        path,
        yaws=info.settings["yaws"],
        recogniser=labels["recogniser"],
        aesthetic_scorer=labels["aesthetic_scorer"],
    )


def packed_rules(run: Folder) -> Rules | None:
    """The rules of RUN/shards; None and UserError as `packed`."""
    found = packed(run)
    return None if found is None else found[1]


def packed(run: Folder) -> tuple[Manifest, Rules] | None:
    """The pack in RUN/shards, and its rules; None where no pack by the current scorers is finished.

    Raises UserError when its manifest is damaged.
    """
    labels = load_info(run).scoring.labels
    try:
        manifest = load_packed(run.folder("shards"))
    except FileNotFoundError:
        return None
    if manifest.run["labels"] != labels:
        return None
    try:
        return manifest, Rules.from_dict(manifest.rules)
    except (KeyError, TypeError, ValueError) as wrong:
        raise UserError(
            f"the rules in {run.url}/shards/manifest.json are of another version ({wrong}); "
            f"run `harmoview pack {run.url}` again, or give --rules"
        ) from wrong
