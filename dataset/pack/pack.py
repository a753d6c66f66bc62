"""Pack: scores and rules in, shards out; a pure function that needs no model and no GPU."""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo, load_info
from datapipe.run.store import CandidateStore, DamagedCandidate
from datapipe.run.tables import tables
from datapipe.shards import Member, Shard, ShardWriter
from dataset.judged import AppliedRules, Columns, Decide, KeptSample, batches, kept_samples
from dataset.pack.card import data_card
from dataset.pack.manifest import CARD, PACKING, Manifest, Totals
from dataset.pack.payload import load_payload
from dataset.pack.resume import Finished, begin, clear_splits, plan_of, save
from dataset.selection import ALL, Selection

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
class Limits:
    """How large a shard may be."""

    samples: int = 1000
    bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("bytes", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"shard {name} must be at least {least}, not {value}")


def pack(
    run: Folder,
    out: Folder,
    rules: AppliedRules,
    limits: Limits,
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
        rules=rules.described,
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
            closing(packing.samples(rules.decide)) as samples,
        ):
            for kept, members in samples:
                shards = len(writer.shards)
                writer.write(members)
                if len(writer.shards) > shards:
                    save(out, plan, packing.finished(writer.shards))
                packing.count(kept, members)
        if selection.split is not None:  # the others may be interrupted yet
            save(out, plan, packing.finished(writer.shards))
        manifest = Manifest(
            run={"settings": info.settings_hash, "seed": info.seed, **asdict(info.scoring)},
            rules=rules.described,
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
        self._counts = finished.counts
        self._at_last = (finished.after, deepcopy(finished.counts))

    def samples(self, decide: Decide) -> Generator[tuple[KeptSample, list[Member]]]:
        """The kept samples in the order of their keys, with their members."""
        waiting: deque[tuple[KeptSample, Future[list[Member]]]] = deque()
        with ThreadPoolExecutor(READERS, "pack") as pool:
            try:
                for kept in self._kept(decide):
                    waiting.append((kept, pool.submit(load_payload, kept, self._store)))
                    if len(waiting) > READERS:
                        yield from self._ready(*waiting.popleft())
                while waiting:
                    yield from self._ready(*waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _kept(self, decide: Decide) -> Iterator[KeptSample]:
        with tables(self._run, self._info) as connection:
            count = "SELECT count(*), count(*) FILTER (WHERE key <= ?) FROM ledger"
            query = f"{count} WHERE outcome = 'candidate'"
            whole, place = connection.execute(query, [self._after]).fetchone() or (0, 0)
            self._total = self._selection.candidates(whole)
            for batch in batches(connection, BATCH, Columns(), self._after):
                end = place + len(batch.candidates)
                part = self._selection.part(batch, place, end)
                place, passing = end, 0
                for kept in kept_samples(part, decide(part.references, part.views)):
                    passing += 1
                    yield kept
                self._left_out += len(part.candidates) - passing

    def _ready(
        self, kept: KeptSample, future: Future[list[Member]]
    ) -> Iterator[tuple[KeptSample, list[Member]]]:
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
            yield kept, members

    def _skip(self, kept: KeptSample, what: str, why: Exception) -> None:
        self._counts.skipped[what] += 1
        if self._counts.skipped.total() <= WARNINGS:
            log.warning("%s is skipped: %s", kept.key, why)

    def count(self, kept: KeptSample, members: list[Member]) -> None:
        self._counts.add(kept, members)
        self._at_last = (kept.key, deepcopy(self._counts))
        self._tell()

    def finished(self, shards: list[Shard]) -> Finished:
        """As of the last sample that was counted."""
        return Finished(tuple(shards), *self._at_last)

    def _tell(self) -> None:
        counts = self._counts
        done = Counter({"packed": counts.samples, "left out": self._left_out})
        self._show(done + Counter({"skipped": counts.skipped.total()}), self._total)

    def totals(self) -> Totals:
        """Raises UserError when nothing could be packed of what passed."""
        self._tell()
        skipped = self._counts.skipped.total()
        if skipped and not self._counts.samples:
            raise UserError(
                f"all {skipped} samples that pass the rules were skipped; "
                "are the corpus and the candidates where the run left them?"
            )
        if skipped:
            log.warning("%d samples were skipped; the manifest counts them", skipped)
        return self._counts.totals(self._total, self._selection.over_cap)


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
