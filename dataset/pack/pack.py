"""Pack: scores and rules in, shards out; a pure function that needs no model and no GPU.

Packing by person is the same, once for each side of a holdout, or once with a cap.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, replace

from datapipe.concurrent import read_ahead
from datapipe.errors import BadSample, UserError, check_range
from datapipe.files import Folder
from datapipe.run.info import RunInfo, load_info
from datapipe.run.store import CandidateStore, DamagedCandidate
from datapipe.run.tables import tables
from datapipe.shards import Member, Shard, ShardWriter
from dataset.judged import KeptSample, RowColumns, candidate_rows, judge_rows, kept_samples
from dataset.pack.card import data_card
from dataset.pack.manifest import (
    CARD,
    NAME,
    PACKING,
    REPORT,
    HoldoutManifest,
    Manifest,
    PackTotals,
    count,
)
from dataset.pack.payload import load_payload
from dataset.pack.resume import Finished, begin, clear_splits, plan_of, save
from dataset.selection import ALL, Chosen, Given, Group, Selection
from filters.judge_sql import TableJudge
from filters.rules import Rules

BATCH = 2_000
"""Candidates judged at a time; some 50 MB of rows."""
READERS = 8
"""Samples read at a time: an object store answers one request slowly and many at once."""
WARNINGS = 20
"""Skipped samples that are named one by one."""

log = logging.getLogger(__name__)
Show = Callable[[Counter[str], int | None], None]
"""Told how many candidates were packed, left out and skipped, of how many."""


@dataclass(frozen=True)
class ShardLimits:
    """How large a shard may be."""

    samples: int = 1000
    bytes: int = 1 << 30

    def __post_init__(self) -> None:
        check_range(self, "samples", "bytes", least=1, option="--shard-")


def pack(
    run: Folder,
    out: Folder,
    rules: Rules,
    limits: ShardLimits,
    show: Show,
    *,
    skip_damaged: bool = False,
    selection: Selection = ALL,
) -> Manifest:
    """Write the shards of a run and, last, their manifest; shards of an earlier pack go first.

    The same run, rules, limits and selection give the same bytes, also when an interrupted pack
    continues, which keeps its finished shards. Samples whose clip has gone or changed are skipped,
    counted and named in the log; so are those of damaged candidates with `skip_damaged`.

    Raises UserError when `out` holds anything that pack did not write, when the scores are
    incomplete, a candidate is damaged, or `out` cannot be written.
    """
    info = load_info(run)
    plan = plan_of(
        run,
        info,
        rules=rules.as_dict(),
        limits=asdict(limits),
        skip_damaged=skip_damaged,
        selection=selection.digest(),
    )
    try:
        finished = begin(out, plan)
        if selection.split is None:
            clear_splits(out)
        packing = _Packing(run, info, show, skip_damaged, selection, finished)
        with (
            ShardWriter(out, limits.samples, limits.bytes, finished.shards) as writer,
            closing(packing.samples(TableJudge(rules))) as samples,
        ):
            for group, members in samples:
                shards = len(writer.shards)
                writer.write([member for one in members for member in one], len(group))
                if len(writer.shards) > shards:
                    save(out, plan, packing.finished(writer.shards))
                packing.count(group, members)
        if selection.split is not None:  # the others may be interrupted yet
            save(out, plan, packing.finished(writer.shards))
        manifest = Manifest(
            run={"settings": info.settings_hash, "seed": info.seed, **asdict(info.scoring)},
            rules=rules.as_dict(),
            limits=asdict(limits),
            totals=packing.totals(),
            shards=tuple(writer.shards),
            selection=selection.described,
            files=put_all(out, selection.files),
        )
        if selection.split is None:
            out.put(CARD, data_card(info, {None: manifest}).encode())
        manifest.write(out)
        if selection.split is None:
            out.delete(PACKING)
    except OSError as wrong:
        raise explained(wrong, out) from wrong
    return manifest


def pack_chosen(
    run: Folder,
    out: Folder,
    rules: Rules,
    limits: ShardLimits,
    chosen: Chosen,
    show: Show,
    *,
    skip_damaged: bool = False,
) -> dict[str | None, Manifest]:
    """Pack what was chosen by person, with the report beside it; the manifests by split.

    Splits go into `out/train` and `out/validation`, each a folder of shards of its own; the
    manifest above them comes last. Raises UserError as `pack` does.
    """
    files = {REPORT: chosen.report}

    def packed(where: Folder, selection: Selection) -> Manifest:
        return pack(run, where, rules, limits, show, skip_damaged=skip_damaged, selection=selection)

    if None in chosen.selections:
        return {None: packed(out, replace(chosen.selections[None], files=files))}
    try:
        begin(out, "splits")
        manifests = {
            split: packed(out.folder(str(split)), selection)
            for split, selection in chosen.selections.items()
        }
        hashes = {
            str(split): hashlib.sha256(out.read(f"{split}/{NAME}")).hexdigest()
            for split in manifests
        }
        holdout = HoldoutManifest(hashes, chosen.described, put_all(out, files))
        out.put(CARD, data_card(load_info(run), manifests).encode())
        holdout.write(out)
        for name in (PACKING, *(f"{split}/{PACKING}" for split in manifests)):
            out.delete(name)
    except OSError as wrong:
        raise explained(wrong, out) from wrong
    return manifests


class _Packing:
    """One pass over a run: reads ahead, counts, skips."""

    def __init__(
        self,
        run: Folder,
        info: RunInfo,
        show: Show,
        skip_damaged: bool,
        selection: Selection,
        finished: Finished,
    ) -> None:
        self._run, self._info, self._show = run, info, show
        self._skip_damaged = skip_damaged
        self._selection = selection
        self._store = CandidateStore(run, info.settings_hash)
        self._total = 0
        self._left_out = 0
        self._after = finished.after
        self._totals = finished.totals
        self._at_last = (finished.after, deepcopy(finished.totals))

    def samples(self, judge: TableJudge) -> Generator[tuple[Group, list[list[Member]]]]:
        """The kept samples in the order of their keys, with their members."""

        def load(group: Group) -> list[list[Member]]:
            return [load_payload(kept, self._store) for kept in group]

        for group, members in read_ahead(load, self._kept(judge), READERS):
            yield from self._ready(group, members)

    def _kept(self, judge: TableJudge) -> Iterator[Group]:
        with tables(self._run, self._info) as connection:
            count = "SELECT count(*), count(*) FILTER (WHERE key <= ?) FROM ledger"
            query = f"{count} WHERE outcome = 'candidate'"
            whole, place = connection.execute(query, [self._after]).fetchone() or (0, 0)
            self._total = self._selection.candidates(whole)
            references = self._selection.references
            given = Given(connection, references, judge) if references else None
            for rows in candidate_rows(connection, BATCH, RowColumns(windows="*"), self._after):
                end = place + len(rows.candidates)
                part = self._selection.part(rows, place, end)
                place, passing = end, 0
                samples = kept_samples(judge_rows(part, judge))
                for group in given.groups(list(samples)) if given else ((one,) for one in samples):
                    passing += 1
                    yield group
                self._left_out += len(part.candidates) - passing

    def _ready(
        self, group: Group, future: Future[list[list[Member]]]
    ) -> Iterator[tuple[Group, list[list[Member]]]]:
        kept = group[0]
        try:
            members = future.result()
        except BadSample as gone:
            self._skip(kept, "clip", gone)
        except DamagedCandidate as damaged:
            if not self._skip_damaged:
                raise UserError(
                    f"{kept.key} cannot be packed: {damaged}. Put the file back as it was, or "
                    "leave such samples out with --skip-damaged"
                ) from damaged
            self._skip(kept, "candidate", damaged)
        except OSError as broken:
            raise UserError(
                f"{kept.key} cannot be read: {broken}; mend that, then pack"
            ) from broken
        else:
            yield group, members

    def _skip(self, kept: KeptSample, what: str, why: Exception) -> None:
        count(self._totals.skipped, [what])
        if self._totals.all_skipped <= WARNINGS:
            log.warning("%s is skipped: %s", kept.key, why)

    def count(self, group: Group, members: list[list[Member]]) -> None:
        for kept, own in zip(group, members, strict=True):
            self._totals.pack(kept, own)
        self._at_last = (group[0].key, deepcopy(self._totals))
        self._tell()

    def finished(self, shards: list[Shard]) -> Finished:
        """As of the last sample that was counted."""
        return Finished(tuple(shards), *self._at_last)

    def _tell(self) -> None:
        totals = self._totals
        packed = totals.samples - totals.again
        done = Counter({"packed": packed, "left out": self._left_out})
        self._show(done + Counter(skipped=totals.all_skipped), self._total)

    def totals(self) -> PackTotals:
        """Raises UserError when nothing could be packed of what passed."""
        self._tell()
        skipped = self._totals.all_skipped
        if skipped and not self._totals.samples:
            raise UserError(
                f"all {skipped} samples that pass the rules were skipped; "
                "are the corpus and the candidates where the run left them?"
            )
        if skipped:
            log.warning("%d samples were skipped; the manifest counts them", skipped)
        return self._totals.closed(self._total, self._selection.over_cap)


def put_all(out: Folder, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write some files; their SHA-256 by name."""
    for name, data in files.items():
        out.put(name, data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def explained(wrong: OSError, out: Folder) -> UserError:
    """What an OSError means to a user."""
    if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{out.url} is full: free some space or choose another --out, then pack")
    return UserError(f"cannot pack into {out.url}: {wrong}")
