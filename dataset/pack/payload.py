"""The members of a packed sample: the clip, its caption, its description and its pictures."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import IO, Any

from datapipe.corpus import open_source
from datapipe.errors import BadSample
from datapipe.pictures import reference_name, view_name
from datapipe.record import Scores, Source, Window
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate, Pictures
from datapipe.shards import Member
from dataset.judged import KeptIdentity, KeptSample, Row

IN_MEMORY = 16 << 20
"""Bytes of a clip that wait in memory for their turn; larger ones wait in a temporary file."""

_LABELS = ("aesthetic_scorer", "recogniser", "pose_estimator")
_MADE = ("source", "seed", "attempt", "timestamp")
_OF_WINDOWS = tuple(field.name for field in fields(Window))
_SCORES = tuple(Scores.__dataclass_fields__)


def load_payload(kept: KeptSample, store: CandidateStore) -> list[Member]:
    """Everything of a sample, read and checked before a byte of it enters a shard.

    Raises BadSample when the clip is gone or no longer the one that was prepared, and
    DamagedCandidate when the candidate is gone, damaged, or does not hold what was scored.
    """
    return _members(kept, _candidate(kept, store), _given(kept, store), _clip(kept.source))


def payload_bytes(kept: KeptSample, store: CandidateStore) -> int:
    """What a sample takes in a shard; its clip is measured and not read. Raises as above."""
    candidate = _candidate(kept, store)
    with open_source(_whole(kept.source)) as (_, size):
        members = _members(kept, candidate, _given(kept, store), (size, io.BytesIO()))
    return sum(member.tar_size() for member in members)


def _members(
    kept: KeptSample,
    candidate: Candidate,
    given: Mapping[int, Pictures],
    clip: tuple[int, IO[bytes]],
) -> list[Member]:
    key = kept.key
    members = [
        Member(f"{key}{kept.row['suffix']}", *clip),
        Member.of(f"{key}.txt", kept.row["caption"].encode()),
        Member.of(f"{key}.json", _description(kept, candidate.provenance).encode()),
    ]
    for index, identity in kept.identities.items():
        pictures = given.get(index, candidate.pictures[index])
        members.append(Member.of(f"{key}.{reference_name(index)}", pictures.reference))
        for yaw, row in identity.views.items():
            if (picture := pictures.of(yaw, row["source"])) is not None:
                members.append(Member.of(f"{key}.{view_name(index, yaw)}", picture))
    return members


def _candidate(kept: KeptSample, store: CandidateStore) -> Candidate:
    name = kept.row["candidate"]
    candidate = _read(name, store)
    for index, identity in kept.identities.items():
        if identity.giver is None:
            _check(candidate, index, identity, store)
    return candidate


def _given(kept: KeptSample, store: CandidateStore) -> dict[int, Pictures]:
    """The pictures of identities that have another video's."""
    found = {}
    for index, identity in kept.identities.items():
        if (giver := identity.giver) is not None:
            candidate = _read(giver.candidate, store)
            _check(candidate, giver.identity, identity, store)
            found[index] = candidate.pictures[giver.identity]
    return found


def _read(name: str, store: CandidateStore) -> Candidate:
    try:
        return store.read(name)
    except FileNotFoundError as missing:
        raise DamagedCandidate(f"{store.run.path(name)} is missing") from missing


def _check(candidate: Candidate, index: int, identity: KeptIdentity, store: CandidateStore) -> None:
    stored = candidate.pictures
    if index >= len(stored) or not all(
        stored[index].of(yaw, row["source"]) for yaw, row in identity.views.items()
    ):
        name = store.run.path(str(candidate.sample.candidate))
        raise DamagedCandidate(f"{name} lacks views that the run has scored")


def _clip(source: Source) -> tuple[int, IO[bytes]]:
    with open_source(_whole(source)) as (file, size):
        if source.size is not None and size != source.size:
            raise BadSample(
                "unreadable", f"{source}: {size:,} bytes, but {source.size:,} when it was prepared"
            )
        spool = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, prefix="harmoview-")  # noqa: SIM115
        shutil.copyfileobj(file, spool, 1 << 20)
    spool.seek(0)
    return size, spool


def _whole(source: Source) -> Source:
    """A whole file is measured again: it may have grown since it was prepared."""
    return replace(source, size=None) if source.member is None else source


def _description(kept: KeptSample, provenance: Mapping[str, Any]) -> str:
    first = next(iter(kept.identities.values())).reference
    description = {
        "key": kept.key,
        **{name: kept.row[name] for name in ("captions", "caption_problem") if kept.row[name]},
        "identities": [_identity(index, one) for index, one in kept.identities.items()],
        "others": kept.row["others"],
        "scorers": {name: first[name] for name in _LABELS},
        "provenance": provenance,
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _identity(index: int, identity: KeptIdentity) -> dict[str, Any]:
    reference = identity.reference
    origin: dict[str, Any] = {}
    if (giver := identity.giver) is not None:
        origin = {"references_from": {"key": giver.key, "identity": giver.identity}}
    elif identity.other_shots:
        origin = {"references_from": {"key": reference["key"], "identity": index}}
    return {
        "identity": index,
        **origin,
        "yaws": list(identity.views),
        "reference": {
            "timestamp": reference["timestamp"],
            "frame": reference["frame"],
            "transfer": reference["transfer"],
            "deinterlaced": reference["deinterlaced"],
            "pose": {name: reference[f"frame_{name}"] for name in ("yaw", "pitch", "roll")},
            "scores": _scores(reference),
        },
        "views": {
            str(yaw): {**{name: view[name] for name in _MADE}, "scores": _scores(view)}
            for yaw, view in identity.views.items()
        },
        "windows": [{name: row[name] for name in _OF_WINDOWS} for row in identity.windows],
    }


def _scores(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in _SCORES}
