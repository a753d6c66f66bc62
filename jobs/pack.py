"""`harmoview pack`: the rules applied to a run's scores, and what passes written as shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from datapipe.errors import check_range
from jobs.cli import command

if TYPE_CHECKING:
    from datapipe.files import Folder
    from dataset.pack.manifest import Manifest
    from dataset.pack.pack import ShardLimits
    from dataset.selection import OtherReferences, PersonLimits
    from filters.rules import Rules


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
    references: Literal["own", "other", "both"] = "own"
    """Whose references a sample gets: its own clip's; those of another video of the same person, of
    whom background and clothes differ most, else those of another shot of the clip, else its own
    (other); or its own and, as a second sample, those of another video (both)."""
    quiet: bool = False
    """Show no progress and no summary."""

    def __post_init__(self) -> None:
        check_range(self, "shard_samples", "shard_bytes", least=1)
        check_range(self, "same_person", above=0, under=1)
        self.by_person(lambda: 0.5)

    def by_person(self, default: Callable[[], float]) -> PersonLimits | None:
        """How samples are chosen by the people in them; None if they are not."""
        from dataset.selection import PersonLimits

        alone = self.references == "own" and self.same_person is not None
        if self.validation is None and self.max_per_identity is None and not alone:
            return None
        cosine = default() if self.same_person is None else self.same_person
        return PersonLimits(cosine, self.validation, self.max_per_identity)


def execute(settings: PackSettings) -> None:
    """Pack, into one folder or into one for each split, and say what came of it."""
    from datapipe.claim import locked
    from datapipe.files import Folder
    from dataset.pack.pack import ShardLimits
    from dataset.run import run_rules
    from jobs.console.stats import print_packed, print_people

    run = Folder(settings.run)
    out = Folder(settings.out) if settings.out else run.folder("shards")
    rules = run_rules(run, settings.rules)
    by = settings.by_person(lambda: _same_person(run))
    limits = ShardLimits(settings.shard_samples, settings.shard_bytes)
    with locked(out):
        manifests = _packed(settings, run, out, rules, limits, by)
    if not settings.quiet:
        for split, manifest in manifests.items():
            print_packed(manifest, f"{out.url}/{split}" if split else out.url)
        if by is not None:
            print_people(next(iter(manifests.values())), out.url)


def _same_person(run: Folder) -> float:
    """The default of --same-person. It is the package's own, whatever rules are applied: other
    rules must not move people from one split to the other.

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
    rules: Rules,
    limits: ShardLimits,
    by: PersonLimits | None,
) -> Mapping[str | None, Manifest]:
    from dataset.pack.pack import pack, pack_chosen
    from dataset.pack.resume import check_ours
    from dataset.selection import ALL
    from jobs.console.output import progress

    damaged, quiet = settings.skip_damaged, settings.quiet
    check_ours(out)  # before what may take long
    given = _given(settings, run, rules)
    if by is None:
        every = replace(ALL, references=given)
        with progress("pack", quiet=quiet) as show:
            return {None: pack(run, out, rules, limits, show, skip_damaged=damaged,
                               selection=every)}  # fmt: skip
    from dataset.people.choose import choose

    with progress("people", quiet=quiet) as show:
        chosen = choose(run, rules, by, lambda what, done, of: show(Counter({what: done}), of))
    sides = {split: replace(one, references=given) for split, one in chosen.selections.items()}
    chosen = replace(chosen, selections=sides)
    with progress("pack", quiet=quiet) as show:
        return pack_chosen(run, out, rules, limits, chosen, show, skip_damaged=damaged)


def _given(settings: PackSettings, run: Folder, rules: Rules) -> OtherReferences | None:
    """Who gets whose references; None where everyone has their own."""
    from dataset.people.givers import givers
    from jobs.console.output import progress

    if settings.references == "own":
        return None
    same_person = settings.same_person or _same_person(run)
    with progress("references", quiet=settings.quiet) as show:

        def told(what: str, done: int, of: int) -> None:
            show(Counter({what: done}), of)

        found = givers(run, rules, same_person, told, skip_damaged=settings.skip_damaged)
    return replace(found, beside=settings.references == "both")


main = command(
    __name__, PackSettings, execute, first=("rules", "out", "validation", "max-per-identity")
)
