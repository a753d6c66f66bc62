"""Pack: scores and rules in, shards out; a pure function that needs no model and no GPU."""

from __future__ import annotations

import errno
import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.pack.kept import KeptSample, kept_samples
from datapipe.pack.manifest import KIND, NAME, PACKING, Manifest, Totals, load_manifest
from datapipe.pack.payload import load_payload
from datapipe.pack.scored import AppliedRules, Columns, Decide, batches, tables
from datapipe.pack.shards import Member, ShardWriter
from datapipe.run.info import RunInfo, load_info
from datapipe.run.store import CandidateStore, DamagedCandidate

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
) -> Manifest:
    """Write the shards of a run and, last, their manifest; shards of an earlier pack go first.

    The same run, rules and limits give the same bytes. Samples whose clip has gone or changed are
    skipped, counted and named in the log; so are those of damaged candidates with `skip_damaged`.

    Raises UserError when `out` holds anything that pack did not write, when the scores are
    incomplete, a candidate is damaged, or `out` cannot be written.
    """
    info = load_info(run)
    try:
        _clear(out)
        packing = _Packing(run, info, show, skip_damaged)
        with (
            ShardWriter(out, limits.samples, limits.bytes) as writer,
            closing(packing.samples(rules.decide)) as samples,
        ):
            for kept, members in samples:
                writer.write(members)
                packing.count(kept, members)
        manifest = Manifest(
            run={"settings": info.settings_hash, "seed": info.seed, **asdict(info.scoring)},
            rules=rules.described,
            limits=asdict(limits),
            totals=packing.totals(),
            shards=tuple(writer.shards),
        )
        manifest.write(out)
        out.delete(PACKING)
    except OSError as wrong:
        raise _explained(wrong, out) from wrong
    return manifest


class _Packing:
    """One pass over a run: reads ahead, counts, skips."""

    def __init__(self, run: Folder, info: RunInfo, show: Show, skip_damaged: bool) -> None:
        self._run, self._info, self._show = run, info, show
        self._skip_damaged = skip_damaged
        self._store = CandidateStore(run, info.settings_hash)
        self._total: int | None = None
        self._done: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._views: Counter[int] = Counter()
        self._identities = 0
        self._bytes = 0

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
            count = "SELECT count(*) FROM ledger WHERE outcome = 'candidate'"
            (self._total,) = connection.execute(count).fetchone() or (0,)
            for batch in batches(connection, BATCH, Columns()):
                passing = 0
                for kept in kept_samples(batch, decide(batch.references, batch.views)):
                    passing += 1
                    yield kept
                self._done["left out"] += len(batch.candidates) - passing

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
        self._done["skipped"] += 1
        self._skipped[what] += 1
        if self._done["skipped"] <= WARNINGS:
            log.warning("%s is skipped: %s", kept.key, why)

    def count(self, kept: KeptSample, members: list[Member]) -> None:
        self._done["packed"] += 1
        self._bytes += sum(member.size for member in members)
        self._identities += len(kept.identities)
        for identity in kept.identities.values():
            self._views.update(identity.views.keys())
        self._show(self._done, self._total)

    def totals(self) -> Totals:
        """Raises UserError when nothing could be packed of what passed."""
        done = self._done
        self._show(done, self._total)
        if done["skipped"] and not done["packed"]:
            raise UserError(
                f"all {done['skipped']} samples that pass the rules were skipped; "
                "are the corpus and the candidates where the run left them?"
            )
        if done["skipped"]:
            log.warning("%d samples were skipped; the manifest counts them", done["skipped"])
        return Totals(
            candidates=done.total(),
            samples=done["packed"],
            identities=self._identities,
            views={str(yaw): self._views[yaw] for yaw in sorted(self._views)},
            bytes=self._bytes,
            left_out=done["left out"],
            skipped=dict(sorted(self._skipped.items())),
        )


def _clear(out: Folder) -> None:
    """Take away an earlier pack, the manifest first: no moment has a manifest that lies."""
    found = out.names("*")
    if NAME in found:
        load_manifest(out)
    elif found and PACKING not in found:
        raise UserError(
            f"{out.url} holds files that `harmoview pack` did not write ({found[0]}, …); "
            "choose another --out"
        )
    out.put(PACKING, f'{{"kind": "{KIND}"}}\n'.encode())
    out.delete(NAME)
    for name in out.names("*.tar"):
        out.delete(name)
    if out.local is not None:  # of a pack that was killed
        for left in out.local.glob(".*.tar.*.tmp"):
            left.unlink(missing_ok=True)


def _explained(wrong: OSError, out: Folder) -> UserError:
    if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{out.url} is full: free some space or choose another --out, then pack")
    return UserError(f"cannot pack into {out.url}: {wrong}")
