"""A run from Python: what the commands stats, show and pack do, without a terminal.

Its rules are a file's, the package's, or those that it was packed by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from datapipe.claim import locked
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo, load_info
from dataset.inspect.stats import Stats, stats_of, views_table, windows_table
from dataset.judged import JudgedRun, judged_run
from dataset.pack.manifest import Manifest, load_packed
from dataset.pack.pack import ShardLimits, pack
from filters.rules import Rules
from filters.rules_file import load_rules

if TYPE_CHECKING:
    from dataset.inspect.show import Story


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


RulesLike = Rules | str | Path
"""Rules, or a file of rules, which is read for the yaws and scorers of the run."""


class Run:
    """A run folder that `synthesize` made, finished or not.

    Where `rules` are not given, `pack` takes the package's, as the command does; the other methods
    take those that RUN/shards was packed with, else the package's. Every method reads the run as it
    is now and raises UserError where it cannot be read, or the rules are not for it.
    """

    def __init__(self, path: str | Path) -> None:
        """`path` is a folder or a URL of an object store. Raises UserError where no run is."""
        self.folder = Folder(path)
        load_info(self.folder)

    def __repr__(self) -> str:
        return f"Run({self.folder.url!r})"

    def rules(self, rules: RulesLike | None = None) -> Rules:
        """The rules for this run; None: the package's.

        Raises UserError where they are for other yaws or scorers than the run's.
        """
        if not isinstance(rules, Rules):
            return run_rules(self.folder, None if rules is None else str(rules))
        own = run_rules(self.folder, None)
        for what, given, wanted in (
            ("yaws", rules.yaws, own.yaws),
            ("recogniser", rules.identity.recogniser, own.identity.recogniser),
            ("aesthetic scorer", rules.aesthetic.scorer, own.aesthetic.scorer),
        ):
            if given != wanted:
                raise UserError(
                    f"these rules are for the {what} {given}, {self.folder.url} has {wanted}; "
                    "give the rules file itself"
                )
        return rules

    def stats(self, rules: RulesLike | None = None) -> Stats:
        """What became of the run; `.as_dict()` is what `harmoview stats --json` prints."""
        with self._judged(rules) as judged:
            return stats_of(judged)

    def views(self, rules: RulesLike | None = None) -> pa.Table:
        """Every view with every score and what the rules say: `reason` why it fails, whether it is
        `kept`, `identity_reason` why its identity is left out. In memory, by key, identity, yaw.
        """
        with self._judged(rules) as judged:
            return views_table(judged)

    def windows(self, rules: RulesLike | None = None) -> pa.Table:
        """Every span in which an identity is seen, with the `reason` why training does not use it.

        In memory, by key, identity and start.
        """
        with self._judged(rules) as judged:
            return windows_table(judged)

    def show(self, key: str, rules: RulesLike | None = None) -> Story:
        """Everything that is known of one sample: `.as_dict()`, and `.picture()` as a JPEG.

        Raises UserError with the nearest keys where the run has not this one.
        """
        from dataset.inspect.show import tell  # draws sheets, which hardly any command does

        try:
            found = packed(self.folder)
        except UserError:
            if rules is None:
                raise
            found = None
        by = found[1] if found and rules is None else self.rules(rules)
        return tell(self.folder, key, by, found)

    def pack(
        self,
        rules: RulesLike | None = None,
        out: str | Path | None = None,
        *,
        shard_samples: int = 1000,
        shard_bytes: int = 1 << 30,
        skip_damaged: bool = False,
    ) -> Manifest:
        """Write what passes as shards, by default to RUN/shards, in place of an earlier pack there.

        Splits and caps by person are the command's. Raises UserError where a candidate is damaged
        and `skip_damaged` is not given, or `out` cannot be written.
        """
        where = self.folder.folder("shards") if out is None else Folder(out)
        by, limits = self.rules(rules), ShardLimits(shard_samples, shard_bytes)
        with locked(where):
            return pack(self.folder, where, by, limits, _silent, skip_damaged=skip_damaged)

    @contextmanager
    def _judged(self, rules: RulesLike | None) -> Iterator[JudgedRun]:
        given = packed_rules(self.folder) if rules is None else None
        with judged_run(self.folder, given or self.rules(rules)) as judged:
            yield judged


def _silent(counts: Counter[str], total: int | None) -> None:
    """Shows no progress."""
