"""`harmoview pack`: the rules applied to a run's scores, and what passes written as shards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from jobs import entry

if TYPE_CHECKING:
    from datapipe.pack.manifest import Manifest


@dataclass(frozen=True)
class Settings:
    """Apply the rules to the scores of a run and write what passes as WebDataset shards.

    Needs no model. The same run and rules give the same bytes; an earlier pack in the same folder
    is replaced.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run folder that `harmoview synthesize` made."""
    rules: str | None = None
    """Rules file (TOML); it names only what it changes of the default rules."""
    out: str | None = None
    """Folder of the shards, local or on an object store; the default is RUN/shards."""
    shard_samples: int = 1000
    """Most samples in a shard."""
    shard_bytes: int = 1 << 30
    """Most bytes of a shard; a larger sample gets a shard of its own."""
    skip_damaged: bool = False
    """Leave out samples whose candidate is missing or damaged, instead of stopping there."""
    quiet: bool = False
    """Show no progress and no summary."""

    def __post_init__(self) -> None:
        for name in ("shard_samples", "shard_bytes"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, not {getattr(self, name)}")


def execute(settings: Settings) -> None:
    """Pack and say what came of it."""
    from datapipe.files import Folder
    from datapipe.pack.pack import Limits, pack
    from datapipe.run.lock import locked
    from jobs.progress import progress
    from jobs.run_rules import applied, run_rules

    run = Folder(settings.run)
    out = Folder(settings.out) if settings.out else run.folder("shards")
    rules = applied(run_rules(run, settings.rules))
    limits = Limits(settings.shard_samples, settings.shard_bytes)
    with locked(out), progress("pack", quiet=settings.quiet) as show:
        manifest = pack(run, out, rules, limits, show, skip_damaged=settings.skip_damaged)
    if not settings.quiet:
        print(summary(manifest, out.url))


def summary(manifest: Manifest, where: str) -> str:
    """What was packed, in a sentence or two."""
    totals = manifest.totals
    text = (
        f"packed {totals.samples:,} of {totals.candidates:,} candidates into {where}: "
        f"identities {totals.identities:,}, views {sum(totals.views.values()):,}, "
        f"shards {len(manifest.shards):,}, {totals.bytes / 1e6:,.1f} MB"
    )
    skipped = ", ".join(f"{count:,} for their {what}" for what, count in totals.skipped.items())
    return f"{text}\nskipped: {skipped}" if skipped else text


def main(argv: Sequence[str] | None = None) -> int:
    return entry.run(Settings, execute, argv, "pack")


if __name__ == "__main__":
    sys.exit(main())
