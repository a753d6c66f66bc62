"""`harmoview verify`: a folder of shards checked against its manifest."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.cli import command


@dataclass(frozen=True)
class VerifySettings:
    """Check shards against their manifest: hashes, sizes, members of each sample, counts.

    Names every mismatch; the exit status is 1 when there is one. Extracts nothing.
    """

    folder: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR")]
    """The folder with manifest.json, or a run with shards; local or on an object store."""
    quiet: bool = False
    """Show no progress and nothing when all is well."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if not self.folder:
            raise ValueError("DIR must not be empty")


def execute(settings: VerifySettings) -> int:
    """Print each mismatch as it is found; 1 where there is one."""
    from datapipe.files import Folder
    from dataset.pack.verify import CaptionCount, verify
    from jobs.console.output import transfer

    folder = Folder(settings.folder)
    if not folder.exists("manifest.json") and folder.exists("shards/manifest.json"):
        folder = folder.folder("shards")
    wrong, captions = 0, CaptionCount()
    with transfer("verify", quiet=settings.quiet) as show:
        for mismatch in verify(folder, show, captions):
            wrong += 1
            print(mismatch, file=sys.stderr, flush=True)
    if wrong:
        print(f"{wrong} mismatches: {folder.url} is not what was packed", file=sys.stderr)
        return 1
    if not settings.quiet:
        print(f"{folder.url} is as its manifest says; captions: {captions}")
    return 0


main = command(__name__, VerifySettings, execute)
