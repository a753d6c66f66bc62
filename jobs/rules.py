"""`harmoview rules diff`: what other rules would change, on the scores of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from datapipe.errors import check_range
from jobs.cli import command

if TYPE_CHECKING:
    from datapipe.files import Folder
    from filters.rules import Rules


@dataclass(frozen=True)
class RulesDiffSettings:
    """Compare two rules files on the scores of a run: which views and samples change sides.

    `harmoview rules diff A.toml B.toml --run RUN` says what packing with B instead of A would
    change. Needs no model and changes nothing.
    """

    action: Annotated[Literal["diff"], tyro.conf.Positional]
    """What to do."""
    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A.toml")]
    """Rules file; `default` is the package's rules, `packed` what RUN/shards was packed with."""
    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B.toml")]
    """The rules to compare with A; as A."""
    run: Annotated[str, tyro.conf.arg(metavar="RUN")]
    """The run folder that `harmoview synthesize` made."""
    sheet: Path | None = None
    """Also write a contact sheet (JPEG) of views that change sides."""
    sheet_views: int = 24
    """Views on the sheet, at most: of those that leave, and as many of those that come."""
    json: bool = False
    """Print JSON instead of tables; docs/inspect.md describes it."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        check_range(self, "sheet_views", least=1, most=200)


def execute(settings: RulesDiffSettings) -> None:
    """Judge by both, print, draw."""
    from datapipe.files import Folder
    from dataset.inspect.diff import rules_diff
    from jobs.console.output import busy

    run = Folder(settings.run)
    a, b = (_named(run, name) for name in (settings.a, settings.b))
    drawn = settings.sheet_views if settings.sheet else 0
    with busy("judging the scores twice", quiet=settings.quiet):
        diff = rules_diff(run, a, b, drawn)
    changed = _changed(a, b)
    if settings.json:
        print(json.dumps({**diff.as_dict(), "rules": changed}, indent=1))
    else:
        from jobs.console.rules import print_diff

        print_diff(settings.a, settings.b, changed, diff)
    if settings.sheet:
        from dataset.inspect.diff import changes_sheet
        from jobs.console.output import write

        title = f"{settings.a} (A) and {settings.b} (B)"
        with busy("drawing the contact sheet", quiet=settings.quiet):
            write(settings.sheet, changes_sheet(run, title, diff, a, b))
        if not settings.json:
            print(f"contact sheet: {settings.sheet}")


def _named(run: Folder, name: str) -> Rules:
    """Rules by the name of their file, or by one of the two words. Raises UserError."""
    from datapipe.errors import UserError
    from dataset.run import packed_rules, run_rules

    if name == "default":
        return run_rules(run, None)
    if name != "packed":
        return run_rules(run, name)
    rules = packed_rules(run)
    if rules is None:
        raise UserError(
            f"`packed` means the rules of {run.url}/shards, which holds no finished pack by the "
            "current scorers; give a rules file, or `default`"
        )
    return rules


def _changed(a: Rules, b: Rules) -> list[dict[str, Any]]:
    """The settings that differ, by the key that they have in a file."""
    from filters.rules_file import settings

    first, second = settings(a), settings(b)
    return [
        {"key": key, "a": first[key], "b": second[key]}
        for key in first
        if first[key] != second[key]
    ]


main = command(__name__, RulesDiffSettings, execute)
