"""`harmoview pack`: the rules applied to a run's scores, and what passes written as shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from jobs.cli import command

if TYPE_CHECKING:
    from datapipe.files import Folder
    from dataset.judged import AppliedRules
    from dataset.pack.manifest import Manifest
    from dataset.pack.pack import Limits
    from dataset.selection import ByPerson


@dataclass(frozen=True)
class PackSettings:
    """Apply the rules to the scores of a run and write what passes as WebDataset shards.

    Needs no model. The same run and rules give the same bytes; an earlier pack in the same folder
    is replaced, an interrupted one is continued.
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
    validation: float | None = None
    """Share of the run's samples that becomes a validation set without anyone of the training set;
    shards then go to OUT/train and OUT/validation."""
    max_per_identity: int | None = None
    """Most samples of one person; those with the most and the best views stay."""
    same_person: float | None = None
    """Least cosine of two references that count as one person, for the two options above; the
    default is the package's threshold of the recogniser at yaw 0. Given alone, it only reports who
    is in several videos (OUT/identities.jsonl)."""
    quiet: bool = False
    """Show no progress and no summary."""

    def __post_init__(self) -> None:
        for name in ("shard_samples", "shard_bytes"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, not {getattr(self, name)}")
        self.by_person(lambda: 0.5)

    def by_person(self, default: Callable[[], float]) -> ByPerson | None:
        """How samples are chosen by the people in them; None if they are not."""
        from dataset.selection import ByPerson

        if self.validation is None and self.max_per_identity is None and self.same_person is None:
            return None
        cosine = default() if self.same_person is None else self.same_person
        return ByPerson(cosine, self.validation, self.max_per_identity)


def execute(settings: PackSettings) -> None:
    """Pack and say what came of it."""
    from datapipe.files import Folder
    from datapipe.run.lock import locked
    from dataset.pack.pack import Limits
    from jobs.options.run_rules import applied, run_rules

    run = Folder(settings.run)
    out = Folder(settings.out) if settings.out else run.folder("shards")
    rules = run_rules(run, settings.rules)
    by = settings.by_person(lambda: _same_person(run))
    limits = Limits(settings.shard_samples, settings.shard_bytes)
    with locked(out):
        manifests = _packed(settings, run, out, applied(rules), limits, by)
    if not settings.quiet:
        for split, manifest in manifests.items():
            print(summary(manifest, f"{out.url}/{split}" if split else out.url))
        if by is not None:
            print(people(next(iter(manifests.values())), out.url))


def _same_person(run: Folder) -> float:
    """Of the run alone: by a rules file's own, other rules would move people to the other split.

    Raises UserError where the package knows no threshold of the recogniser.
    """
    from datapipe.errors import UserError
    from datapipe.run.info import load_info
    from filters.rules_file import default_identity

    recogniser = load_info(run).scoring.labels["recogniser"]
    rule = default_identity(recogniser)
    if rule is None:
        raise UserError(
            f"the package has no threshold for {recogniser}: give --same-person, the least cosine "
            "of two references that count as one person"
        )
    return rule.threshold(0)


def _packed(
    settings: PackSettings,
    run: Folder,
    out: Folder,
    rules: AppliedRules,
    limits: Limits,
    by: ByPerson | None,
) -> Mapping[str | None, Manifest]:
    from dataset.pack.pack import pack
    from jobs.console.progress import progress

    damaged, quiet = settings.skip_damaged, settings.quiet
    if by is None:
        with progress("pack", quiet=quiet) as show:
            return {None: pack(run, out, rules, limits, show, skip_damaged=damaged)}
    from dataset.pack.resume import check_ours
    from dataset.pack.splits import pack_chosen
    from dataset.people.choose import choose

    check_ours(out)  # before what may take long
    with progress("people", quiet=quiet) as show:
        chosen = choose(run, rules, by, lambda what, done, of: show(Counter({what: done}), of))
    with progress("pack", quiet=quiet) as show:
        return pack_chosen(run, out, rules, limits, chosen, show, skip_damaged=damaged)


def summary(manifest: Manifest, where: str) -> str:
    """What was packed, in a sentence or two."""
    totals = manifest.totals
    text = (
        f"packed {totals.samples:,} of {totals.candidates:,} candidates into {where}: "
        f"identities {totals.identities:,}, views {sum(totals.views.values()):,}, "
        f"shards {len(manifest.shards):,}, {totals.bytes / 1e6:,.1f} MB"
    )
    if totals.over_cap:
        text += f"\nleft out as too many of a person: {totals.over_cap:,}"
    skipped = ", ".join(f"{count:,} for their {what}" for what, count in totals.skipped.items())
    return f"{text}\nskipped: {skipped}" if skipped else text


def people(manifest: Manifest, where: str) -> str:
    """Who is in several videos, in a sentence."""
    found = manifest.selection
    return (
        f"of {found['identities']:,} identities, {found['people_in_several_videos']:,} people are "
        f"in several videos ({found['videos_of_these']:,} videos; cosine "
        f"{found['same_person']:g} by {found['recogniser']}): {where}/identities.jsonl"
    )


main = command(__name__, PackSettings, execute)
