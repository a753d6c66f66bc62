"""Which segments of a run's tables there are, also while a store's listing lags behind.

A listing may miss the latest objects for a while; asking for one by its name does not. Segments are
numbered without gaps, so the next names tell what a listing leaves out.
"""

from __future__ import annotations

from datapipe.files import Folder


def ledger_segments(run: Folder) -> list[str]:
    """`ledger/NNNNNN.parquet`, in order."""
    return _from_zero(run, "ledger/")


def score_segments(run: Folder, table: str, generation: int) -> list[str]:
    """Of `table` (views, references) in a scoring generation: `score`'s, and the ledger's own."""
    prefix = f"{table}/g{generation:04d}-"
    own = set(run.names(f"{prefix}[0-9]*.parquet"))
    number = len(ledger_segments(run)) - 1
    while number >= 0 and (name := f"{prefix}{number:06d}.parquet") not in own and run.exists(name):
        own.add(name)
        number -= 1
    return sorted({*own, *_from_zero(run, f"{prefix}r")})


def _from_zero(run: Folder, prefix: str) -> list[str]:
    found = set(run.names(f"{prefix}[0-9]*.parquet"))
    last = max((int(name.removeprefix(prefix)[:-8]) for name in found), default=-1)
    missed = [name for number in range(last) if (name := _name(prefix, number)) not in found]
    found.update(name for name in missed if run.exists(name))
    while run.exists(name := _name(prefix, last + 1)):
        found.add(name)
        last += 1
    return sorted(found)


def _name(prefix: str, number: int) -> str:
    return f"{prefix}{number:06d}.parquet"
