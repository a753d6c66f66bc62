"""The Prepare stage: a video in, the frontal portrait of each of its main people out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datapipe.corpus import local_copy
from datapipe.errors import BadSample
from datapipe.faces.base import FaceAnalyzer
from datapipe.prepare.follow import Follower
from datapipe.prepare.people import Person
from datapipe.prepare.real_views import RealViews
from datapipe.prepare.search import FUNNEL, PrepareSettings, Search
from datapipe.prepare.shots import Clear
from datapipe.record import Identity, Sample
from datapipe.stage import Resources
from datapipe.video.decoder import Decoder, VideoInfo

__all__ = ["Prepare", "PrepareSettings"]

MIN_SEEN = 2
"""Evenly spread probes in which anyone but the main person must be found, to be no mistake."""


class Prepare:
    """Finds the people of a clip and the frame in which each looks straight at the camera."""

    name = "prepare"

    def __init__(
        self,
        settings: PrepareSettings,
        faces: FaceAnalyzer,
        *,
        resources: Resources,
        real_yaws: Sequence[int] = (),
    ) -> None:
        """`real_yaws` are those at which real views are sought; not 0, where the reference is."""
        self.settings = settings
        self.faces = faces
        self.resources = resources
        self.real_yaws = tuple(yaw for yaw in real_yaws if yaw)

    def setup(self) -> None:
        self.faces.setup()
        self._decoder = Decoder(self.settings.limits, request_seconds=self.settings.request_seconds)

    def close(self) -> None:
        """End the decoding process; otherwise it ends with this one."""
        self._decoder.close()

    @property
    def decoder_pid(self) -> int | None:
        """Of the decoding process, once it runs."""
        return self._decoder.pid

    def __call__(self, sample: Sample) -> Sample:
        """The sample with its identities, and with its video's size: pack tells by it whether the
        video is still the same.

        Raises BadSample with any reason of `datapipe.errors` but the last two; DecoderDied or
        DecodeTimeout when its video cannot be decoded without harm.
        """
        with local_copy(sample.source, self.settings.limits.bytes) as path:
            source = replace(sample.source, size=path.stat().st_size)
            info = self._decoder.probe(path)
            if info.frames < self.settings.min_frames:
                least = self.settings.min_frames
                raise BadSample("too_short", f"{info.frames} frames, at least {least} are needed")
            search = Search(self._decoder, self.faces, self.settings, path, info)
            people = search.people()
            kept = _main(people, self.settings.identities)
            search.refine(kept, people)
            fit = _fit(search.references(kept))
            follower = self._follower(path, info)
            follower.watch(search.seen())
            if not all(follower.clear(one.reference.timestamp) for one in fit.values()):
                fit = _fit(search.references(kept, follower.clear))
            places = [people.index(kept[place]) for place in fit]
            followed = follower.follow(
                [person.vector for person in people], places, self.settings.same_person
            )
            real = self._real_views(path, info, follower.clear)
            identities = [
                replace(
                    identity,
                    windows=where.windows,
                    track=where.stored,
                    cutouts=real.find(where.tracks, identity, people[place].vector, self.real_yaws),
                )
                for identity, where, place in zip(fit.values(), followed, places, strict=True)
            ]
        others = sum(1 for p in people if len(p.sightings) >= MIN_SEEN) - len(identities)
        return replace(sample, source=source, identities=tuple(identities), others=max(0, others))

    def _follower(self, path: Path, info: VideoInfo) -> Follower:
        settings = self.settings
        return Follower(
            self._decoder, self.faces, settings.windows, path, info, settings.probe_side
        )

    def _real_views(self, path: Path, info: VideoInfo, clear: Clear) -> RealViews:
        settings = self.settings
        return RealViews(
            self._decoder,
            self.faces,
            settings.real,
            path,
            info,
            clear=clear,
            same_person=settings.same_person,
            side=settings.portrait_side,
        )


def _fit(found: Sequence[Identity | BadSample]) -> dict[int, Identity]:
    """The people that have a portrait, by place. Raises BadSample where nobody has."""
    fit = {place: one for place, one in enumerate(found) if isinstance(one, Identity)}
    if not fit:
        failures = [one for one in found if isinstance(one, BadSample)]
        raise max(failures, key=lambda failure: FUNNEL.index(failure.reason))
    return fit


def _main(people: Sequence[Person], count: int) -> list[Person]:
    """The most prominent; from the second on they must have been seen more than once."""
    some = [p for place, p in enumerate(people) if place == 0 or len(p.sightings) >= MIN_SEEN]
    return some[:count]
