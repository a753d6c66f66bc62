"""An interrupted pack continues: what is being packed, and which of its shards are finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from datapipe.claim import check_not_foreign
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.rows import SCORED
from datapipe.shards import Shard
from dataset.pack.manifest import (
    CARD,
    HOLDOUT_KIND,
    KIND,
    NAME,
    PACKING,
    REPORT,
    SPLITS,
    PackTotals,
    read_manifest,
)


@dataclass(frozen=True)
class Finished:
    """The shards that an interrupted pack has finished, and what they hold."""

    shards: tuple[Shard, ...] = ()
    after: str = ""
    """The last key in them."""
    totals: PackTotals = field(default_factory=PackTotals)
    """Up to that key."""


def plan_of(run: Folder, info: RunInfo, **chosen: Any) -> str:
    """A hash of everything that decides the bytes of the shards, but for the clips themselves.

    The tables count by their files' names and sizes: they are only ever appended to.
    """
    generation = f"g{info.scoring.generation:04d}-*.parquet"
    patterns = ("ledger/*.parquet", *(f"{table}/{generation}" for table in SCORED))
    plan = {
        "settings": info.settings_hash,
        "seed": info.seed,
        "scoring": asdict(info.scoring),
        "tables": [run.sizes(pattern) for pattern in patterns],
        **chosen,
    }
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def check_ours(out: Folder) -> None:
    """Raises UserError when `out` holds anything that pack did not write."""
    check_not_foreign(out, "pack", NAME, PACKING)
    if out.exists(NAME):
        read_manifest(out, KIND, HOLDOUT_KIND)


def begin(out: Folder, plan: str) -> Finished:
    """Make `out` ready: the finished shards of the same plan stay, all else of pack's goes.

    The manifest goes first: no moment has one that lies. Raises UserError when `out` is not ours.
    """
    check_ours(out)
    finished = _finished(out, plan)
    save(out, plan, finished)
    kept = {PACKING, *(shard.name for shard in finished.shards)}
    for name in (NAME, *out.names("*.tar"), CARD, REPORT):
        if name not in kept:
            out.delete(name)
    if out.local is not None:  # of a pack that was killed
        for left in out.local.glob(".*.tmp"):
            left.unlink(missing_ok=True)
    return finished


def clear_splits(out: Folder) -> None:
    """Take away the splits of an earlier pack. `out` is one that `begin` has made ready."""
    for split in SPLITS:
        for name in (f"{split}/{NAME}", *out.names(f"{split}/*.tar"), f"{split}/{PACKING}"):
            out.delete(name)
        if out.local is not None:
            for left in (out.local / split).glob(".lock.json"):
                left.unlink(missing_ok=True)
            with suppress(OSError):  # there is something of someone else's in it
                (out.local / split).rmdir()


def save(out: Folder, plan: str, finished: Finished) -> None:
    """Note what is finished; put after each shard."""
    state = {
        "kind": KIND,
        "plan": plan,
        "after": finished.after,
        "totals": asdict(finished.totals),
        "shards": [asdict(shard) for shard in finished.shards],
    }
    out.put(PACKING, (json.dumps(state) + "\n").encode())


def _finished(out: Folder, plan: str) -> Finished:
    """What the noted state says, if it is of this plan and its shards are there whole."""
    try:
        state: Mapping[str, Any] = json.loads(out.read(PACKING))
        if state["plan"] != plan:
            return Finished()
        shards = tuple(Shard(**shard) for shard in state["shards"])
        totals = PackTotals(**state["totals"])
        after = str(state["after"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return Finished()
    return Finished(shards, after, totals) if _whole(out, shards) else Finished()


def _whole(out: Folder, shards: Sequence[Shard]) -> bool:
    sizes = out.sizes("*.tar") if shards else {}
    return all(sizes.get(shard.name) == shard.bytes for shard in shards)
