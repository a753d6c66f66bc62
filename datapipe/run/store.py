"""Candidates: the reference and views of one sample, one immutable tar each, put under its key."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datapipe import tar
from datapipe.files import Folder
from datapipe.pictures import parse_name, real_name, reference_name, track_name, view_name
from datapipe.record import (
    Identity,
    Sample,
    Source,
    View,
    ViewSource,
    Window,
    cutout_from_json,
    reference_from_json,
    reference_to_json,
)

FORMAT = 2
"""Format 1 had no windows."""


class DamagedCandidate(Exception):
    """A stored candidate cannot be read back; names the file."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The JPEG bytes of one identity, final: everything downstream copies or decodes them."""

    reference: bytes
    views: Mapping[int, bytes]
    """By yaw: those that an engine made, and the reference where it is the frontal view."""
    track: bytes = b""
    """What was seen of the identity at each moment, for `datapipe.prepare.windows.read_track`; no
    bytes where it was not followed."""
    real: Mapping[int, bytes] = field(default_factory=dict)
    """Frames of the video that show the identity so, by yaw."""

    def of(self, yaw: int, source: ViewSource) -> bytes | None:
        """The view at a yaw from a source; None where there is none."""
        if source == "real" and yaw in self.real:
            return self.real[yaw]
        return self.views.get(yaw)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is stored for one sample."""

    sample: Sample
    pictures: tuple[Pictures, ...]
    provenance: Mapping[str, Any]


class CandidateStore:
    """Puts and finds candidates of a run. A candidate is written once and never changed."""

    def __init__(self, run: Folder, settings_hash: str) -> None:
        self.run = run
        self.settings_hash = settings_hash

    @staticmethod
    def name(key: str) -> str:
        """Path below the run folder; 4,096 folders keep each small at ten million samples."""
        return f"candidates/{hashlib.blake2b(key.encode()).hexdigest()[:3]}/{key}.tar"

    def find(self, key: str) -> Candidate | None:
        """The stored candidate, or None.

        Raises DamagedCandidate when it cannot be read or was made with other settings.
        """
        try:
            return self.read(self.name(key))
        except FileNotFoundError:
            return None

    def read(self, name: str) -> Candidate:
        """A candidate by its path. Raises FileNotFoundError and DamagedCandidate."""
        data = self.run.read(name)
        try:
            candidate, settings = _parse(name, tar.read_members(data))
        except (tarfile.TarError, KeyError, ValueError, TypeError) as wrong:
            raise DamagedCandidate(f"{self.run.path(name)} is damaged: {wrong!r}") from wrong
        if self.settings_hash and settings != self.settings_hash:
            raise DamagedCandidate(
                f"{self.run.path(name)} was made with other settings "
                f"({settings[:12]}, not {self.settings_hash[:12]})"
            )
        return candidate

    def put(
        self, sample: Sample, views: Sequence[Mapping[int, bytes]], provenance: Mapping[str, Any]
    ) -> Sample:
        """Store a sample's portraits, real views and `views` (by yaw); returns it without pixels,
        naming the candidate.

        The bytes are a function of the arguments: a second writer of the same key writes the same.
        """
        name = self.name(sample.key)
        text = json.dumps(self._describe(sample, provenance), indent=1, sort_keys=True)
        parts = {"json": text.encode()}
        for index, (identity, made) in enumerate(zip(sample.identities, views, strict=True)):
            parts[reference_name(index)] = identity.portrait
            parts |= {view_name(index, yaw): made[yaw] for yaw in sorted(made)}
            for view, picture in identity.cutouts:
                parts[real_name(index, view.yaw)] = picture
            if identity.track:
                parts[track_name(index)] = identity.track
        whole = tar.tar_of({f"{sample.key}.{part}": data for part, data in parts.items()})
        self.run.put_new(name, whole)  # an earlier writer's stays, were it to differ
        lean = tuple(
            replace(identity, portrait=b"", track=b"", cutouts=()) for identity in sample.identities
        )
        return replace(sample, identities=lean, candidate=name)

    def _describe(self, sample: Sample, provenance: Mapping[str, Any]) -> dict[str, Any]:
        identities = [
            {
                "reference": reference_to_json(identity.reference),
                "views": [_describe_view(view) for view in identity.views],
                "windows": [asdict(window) for window in identity.windows],
            }
            for identity in sample.identities
        ]
        return {
            "format": FORMAT,
            "key": sample.key,
            "source": asdict(sample.source),
            "caption": sample.caption,
            **({"captions": list(sample.captions)} if sample.captions else {}),
            "identities": identities,
            "others": sample.others,
            "settings": self.settings_hash,
            "provenance": dict(provenance),
        }


def _describe_view(view: View) -> dict[str, Any]:
    if view.source == "real":
        found = {"cutout": asdict(view.cutout)} if view.cutout else {}
        return {"yaw": view.yaw, "source": view.source, "timestamp": view.timestamp, **found}
    attempt = {"attempt": view.attempt} if view.attempt > 1 else {}
    return {"yaw": view.yaw, "seed": view.seed, **attempt}


def _view(entry: Mapping[str, Any]) -> View:
    """The inverse of `_describe_view`."""
    found = {"cutout": cutout_from_json(entry["cutout"])} if "cutout" in entry else {}
    return View(**{"seed": None, **entry, **found})


def _parse(name: str, members: Mapping[str, bytes]) -> tuple[Candidate, str]:
    (text,) = (data for member, data in members.items() if member.endswith(".json"))
    meta = json.loads(text)
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
    prefix = len(meta["key"]) + 1
    pictures: list[Pictures] = []
    named = {parse_name(member[prefix:]): data for member, data in members.items()}
    identities = []
    for index, entry in enumerate(meta["identities"]):
        views = tuple(map(_view, entry["views"]))
        windows = tuple(Window(**window) for window in entry["windows"])
        reference = reference_from_json(entry["reference"])
        identities.append(Identity(reference, views, windows=windows))
        made = {view.yaw: named[index, view.yaw] for view in views if view.cutout is None}
        real = {
            view.yaw: members[f"{meta['key']}.{real_name(index, view.yaw)}"]
            for view in views
            if view.cutout is not None
        }
        track = members.get(f"{meta['key']}.{track_name(index)}", b"")
        pictures.append(Pictures(named[index, None], made, track, real))
    sample = Sample(
        key=meta["key"],
        source=Source(**meta["source"]),
        caption=meta["caption"],
        captions=tuple(meta.get("captions", ())),
        identities=tuple(identities),
        others=meta["others"],
        candidate=name,
    )
    return Candidate(sample, tuple(pictures), meta["provenance"]), meta["settings"]
