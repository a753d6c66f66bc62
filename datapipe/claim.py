"""Claiming a folder for work of certain settings, so that work of others is not mixed in.

A command checks its claim before it loads anything, and records it with the first work: a mistake
that shows in between has not bound the folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.nested import leaves

_SHOWN = 80
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Claim:
    """What a folder is to hold, and the file in it that says so."""

    folder: Folder
    file: str
    settings: Mapping[str, Any]
    """The command's own, by the names of its options with underscores."""
    may_change: Collection[str] = ()
    """Settings that may have other values when the work is continued."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What else must agree, as hashes of what is worked on; may be nested."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of libraries; recorded only."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the command, as a settings file has them; recorded only."""

    def check(self) -> bool:
        """Whether the folder holds such work already.

        Raises UserError when the work there is of other settings, naming each, or cannot be told.
        """
        if not self.is_recorded():
            return False
        try:
            found = json.loads(self.folder.read(self.file))
            there = {**self._options(found["settings"]), **found["inputs"]}
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            path = self.folder.path(self.file)
            raise UserError(f"{path} is damaged ({wrong!r}); give another --out") from wrong
        check_same(self.folder, there, {**self._options(self.settings), **self.inputs})
        return True

    def is_recorded(self) -> bool:
        """Whether some work has begun in the folder, of these settings or others."""
        return self.folder.exists(self.file)

    def record(self) -> None:
        """Write the file that `check` reads."""
        names = ("settings", "inputs", "versions", "options")
        record = {name: getattr(self, name) for name in names}
        self.folder.put(self.file, (json.dumps(record, indent=1, default=str) + "\n").encode())

    def _options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that must agree, named as on the command line."""
        kept = {name: value for name, value in settings.items() if name not in self.may_change}
        return {f"--{name.replace('_', '-')}": value for name, value in kept.items()}


def check_same(
    folder: Folder,
    there: Mapping[str, Any],
    wanted: Mapping[str, Any],
    remedy: str = "use the settings it was made with, or give another --out",
) -> None:
    """Raises UserError naming each setting of the work in a folder that is not as `wanted`."""
    old, new = (leaves(json.loads(json.dumps(each, default=str))) for each in (there, wanted))
    differing = sorted(name for name in old | new if old.get(name) != new.get(name))
    if differing:
        lines = [
            f"  {name}: made with {old.get(name, 'nothing')!s:.{_SHOWN}}, "
            f"asked for {new.get(name, 'nothing')!s:.{_SHOWN}}"
            for name in differing
        ]
        raise UserError(
            "\n".join(
                [f"{folder.url} was made with other settings:", *lines, f"Instead, {remedy}."]
            )
        )


def check_not_foreign(folder: Folder, command: str, *own: str) -> None:
    """Raises UserError when a folder holds files, but none of those that are the command's own."""
    found = folder.names("*")
    if found and not set(own) & set(found):
        raise UserError(
            f"{folder.url} holds files that `harmoview {command}` did not write ({found[0]}, …); "
            "choose another --out"
        )
