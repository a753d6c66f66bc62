"""Encoding a folder of packed shards: the shards that are left to do, then the manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from datapipe.claim import Claim, check_not_foreign
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Shard
from dataset.pack.manifest import NAME, Manifest, load_manifest
from harmoview.encode.encoder import Encoder
from harmoview.encode.manifest import SKIPPED, EncodedManifest, load_encoded, read_about
from harmoview.encode.settings import EncodeSettings
from harmoview.encode.shard import Models, encode_shard

CLAIM = "encode.json"
Show = Callable[[Counter[str], int], None]
"""Shows how many samples are `encoded` or skipped, by reason, and how many there are in all."""
Work = Callable[[Sequence[Shard]], Iterable[str | None]]
"""Encodes shards in any order, and yields for each sample None, or why it was skipped."""
DONE = "encoded"
SHARD = re.compile(r"\d{6,}\.tar")
"""How pack names shards; any other name in a manifest could lead out of the folder."""


def encode(source: Folder, out: Folder, settings: EncodeSettings, work: Work, show: Show) -> (
    EncodedManifest
):  # fmt: skip
    """Encode the shards that are not encoded yet, then write the manifest; it can be interrupted.

    `work` records the claim on `out` once its models are loaded. Raises UserError where `source`
    holds no packed shards, or `out` holds something else.
    """
    manifest = packed_manifest(source)
    check_not_foreign(out, "encode", CLAIM)
    claim = claim_for(source, manifest, out, settings)
    claim.check()
    if out.exists(NAME):
        return load_encoded(out)
    counts, todo = Counter[str](), []
    for shard in manifest.shards:
        if (before := _done(out, shard)) is None:
            todo.append(shard)
        else:
            counts += before
    total = sum(shard.samples for shard in manifest.shards)
    show(counts, total)
    for skipped in work(todo):
        counts[skipped or DONE] += 1
        show(counts, total)
    _sweep(out)
    encoded = _manifest(out, manifest, claim.inputs, settings)
    encoded.write(out)
    return encoded


def packed_manifest(source: Folder) -> Manifest:
    """Read the manifest of packed shards. Raises UserError where there are none."""
    try:
        manifest = load_manifest(source)
    except FileNotFoundError as missing:
        hint = "it is not a folder of shards, or `harmoview pack` did not finish"
        if source.exists(f"shards/{NAME}"):
            hint = f"did you mean {source.url}/shards?"
        raise UserError(f"{source.url} has no {NAME}: {hint}") from missing
    for shard in manifest.shards:
        if not SHARD.fullmatch(shard.name):
            raise UserError(
                f"{source.path(NAME)} names a shard {shard.name!r}, which pack does not"
            )
    return manifest


def encode_here(source: Folder, out: Folder, settings: EncodeSettings, device: str) -> Work:
    """Return the work of this process, one shard after the other."""

    def work(shards: Sequence[Shard]) -> Iterable[str | None]:
        if shards:
            worker = EncodeWorker(source.url, out.url, settings, device)
            for shard in shards:
                yield from worker.encode(shard)

    return work


class EncodeWorker:
    """Holds the models and encodes one shard after the other; Ray makes an actor of it."""

    def __init__(self, source: str, out: str, settings: EncodeSettings, device: str) -> None:
        self._source, self._out = Folder(source), Folder(out)
        self._settings, self._device = settings, torch.device(device)

    def load(self) -> None:
        """Load the models. Raises UserError where one is missing or does not fit the settings."""
        self._models  # noqa: B018  # the property loads them

    def encode(self, shard: Shard) -> Iterator[str | None]:
        """Encode a shard as `encode_shard` does. Raises UserError where it is damaged."""
        yield from encode_shard(self._source, shard, self._models)  # Ray asks for a generator

    @cached_property
    def _models(self) -> Models:
        # loaded here, since what the constructor of an actor raises would lose its type
        encoder = Encoder(self._settings, self._device)
        manifest = packed_manifest(self._source)
        claim_for(self._source, manifest, self._out, self._settings).record()
        models = Models(encoder, self._out, set())
        models.text("")
        return models


def _sweep(out: Folder) -> None:
    """Remove what workers left unfinished when they were killed, in this run or an earlier one."""
    if out.local is not None:
        for left in out.local.rglob(".*.tmp"):
            left.unlink(missing_ok=True)


def claim_for(source: Folder, manifest: Manifest, out: Folder, settings: EncodeSettings) -> Claim:
    """Return the claim on `out` for these shards, encoded in this way."""
    digest = hashlib.sha256(source.read(NAME)).hexdigest()
    inputs = {"manifest": digest, "samples": manifest.totals.samples}
    return Claim(out, CLAIM, settings.described(), inputs=inputs)


def _done(out: Folder, shard: Shard) -> Counter[str] | None:
    """Count what became of the samples of an encoded shard; None where it is not encoded."""
    found = read_about(out, shard.name)
    if found is None or found[1]["source"] != shard.sha256 or not out.exists(shard.name):
        return None
    return Counter(encoded=found[0].samples) + Counter(o["reason"] for o in found[1]["skipped"])


def _manifest(
    out: Folder, packed: Manifest, source: Mapping[str, Any], settings: EncodeSettings
) -> EncodedManifest:
    shards: list[Shard] = []
    skipped: list[dict[str, str]] = []
    towers: set[str | None] = set()
    for packed_shard in packed.shards:
        found = read_about(out, packed_shard.name)
        if found is None:
            raise RuntimeError(f"{packed_shard.name} was not encoded")
        shards.append(found[0])
        skipped += found[1]["skipped"]
        towers.add(found[1]["tower"])
    if len(towers) > 1:
        raise UserError(
            f"--vit {settings.vit} has changed since {out.url} was begun: its shards hold features "
            "of more than one vision tower; choose another --out"
        )
    reasons = Counter(one["reason"] for one in skipped)
    if not any(shard.samples for shard in shards):
        raise UserError(
            f"none of the {len(skipped)} samples could be encoded ({dict(reasons)}), for instance "
            f"{skipped[0]['key']}: {skipped[0]['detail']!r}; do the clips fill a bucket? "
            "See --buckets"
        )
    out.put(SKIPPED, "".join(json.dumps(one) + "\n" for one in skipped).encode())
    return EncodedManifest(
        source, settings, tuple(shards), dict(sorted(reasons.items())), towers.pop()
    )
