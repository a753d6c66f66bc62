"""Training pairs out of a run: the people whose own video shows them at several yaws.

Their frames are known, so nothing is searched: the reference and the real views of one shot are cut
out of the video once more, by the rule for pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from datapipe.errors import BadSample, UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import cut
from datapipe.prepare.people import iou
from datapipe.prepare.tracks import Box
from datapipe.prepare.windows import TRACK, read_track
from datapipe.record import Identity, Image, Pose, Reference, Sample
from datapipe.run.info import FILE, load_info
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from datapipe.run.tables import tables
from datapipe.video.decoder import Decoder, Frame
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.clips import Acquire, ClipResult, facts_of
from lora_engine.acquire.pick import PickedFrames, sized
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.pairs import SubjectFrame

LEAST = 4
"""Yaws at which a person is seen, the front among them."""
ROUNDED = 1e-3
"""Seconds by which stored times may be off."""
ONE_LIGHT = 1.6
"""How many times brighter than in the reference a face may be."""

_TURNED = """
SELECT DISTINCT key, candidate FROM ledger JOIN (
    SELECT key FROM views WHERE source = 'real' AND yaw <> 0
    GROUP BY key, identity HAVING count(*) >= ?) USING (key)
WHERE outcome = 'candidate' ORDER BY key
"""


def is_run(folder: Folder) -> bool:
    """Whether a folder is a run and no corpus."""
    return folder.exists(FILE)


def turned_people(run: Folder) -> list[Sample]:
    """The people of a run who turned within the shot of their reference, each as a sample of one
    identity, whose real views are those of that shot.

    Where a video has two identities, `@id0` or `@id1` is behind its key, and `others` is 1. Raises
    UserError where the run cannot be read.
    """
    info = load_info(run)
    with tables(run, info) as connection:
        rows = connection.execute(_TURNED, [LEAST - 1]).fetchall()
    store, found = CandidateStore(run, info.settings_hash), []
    for key, name in rows:
        try:
            candidate = store.read(name)
        except (FileNotFoundError, DamagedCandidate) as gone:
            raise UserError(f"{key} cannot be read: {gone}") from gone
        for index in range(len(candidate.pictures)):
            identity = _in_one_shot(candidate, index)
            if len(identity.views) >= LEAST - 1:
                found.append(_alone(candidate.sample, index, identity))
    return found


def _alone(sample: Sample, index: int, identity: Identity) -> Sample:
    several = len(sample.identities) > 1
    key = f"{sample.key}@id{index}" if several else sample.key
    return replace(sample, key=key, identities=(identity,), others=int(several), candidate=None)


def _in_one_shot(candidate: Candidate, index: int) -> Identity:
    """An identity with the real views of its reference's shot alone."""
    identity = candidate.sample.identities[index]
    at = identity.reference.timestamp
    shot = next((w.shot for w in identity.windows if w.start - ROUNDED <= at < w.end), None)
    if shot is None:  # the face was too small there for a window, or not seen by the sweep
        shot = _shot(candidate.pictures[index].track, at)
    views = tuple(v for v in identity.views if v.cutout is not None and v.cutout.shot == shot)
    return replace(identity, views=views, windows=())


def _shot(track: bytes, time: float) -> int | None:
    """The shot that a moment lies in, by what was seen of the identity; None if nothing was."""
    rows = read_track(track) if track else np.empty((0, len(TRACK)), np.float32)
    if not len(rows):
        return None
    nearest = int(np.argmin(np.abs(rows[:, TRACK.index("time")] - time)))
    return int(rows[nearest, TRACK.index("shot")])


class AcquireFromRun(Acquire):
    """The stage that cuts the known frames of a person out of the video."""

    def pick(self, path: Path, sample: Sample) -> PickedFrames:
        """The known frames of a person. Raises BadSample where too few are left, and UserError."""
        (identity,) = sample.identities
        truth = {} if sample.others else facts_of(sample).truth
        return cut_known(self.decoder, self.faces, self.settings, path, identity, truth)

    def result(self, sample: Sample) -> ClipResult:
        """As for clips; of two people in a video nobody is named."""
        found = super().result(sample)
        return replace(found, subject=None) if sample.others else found

    def mark(self, sample: Sample) -> str:
        """A hash of everything on which the frames depend, the run's choice among it."""
        frames = [repr(identity) for identity in sample.identities]
        return hashlib.sha256(json.dumps([super().mark(sample), *frames]).encode()).hexdigest()


def cut_known(
    decoder: Decoder,
    faces: FaceAnalyzer,
    settings: AcquireSettings,
    path: Path,
    identity: Identity,
    truth: Mapping[int, float],
) -> PickedFrames:
    """Cut the reference and the real views of an identity as pairs are cut.

    `truth` is the true yaw by frame, where it is known. Raises BadSample where too few of the
    frames are whole, at the yaws of the settings and in one light.
    """
    info, own = decoder.probe(path), identity.reference
    known = {view.cutout.frame: view for view in identity.views if view.cutout}
    frames = {frame.index: frame for frame in decoder.frames(path, [own.frame, *known])}
    if own.frame not in frames:
        raise BadSample("damaged", f"frame {own.frame}, the reference, is damaged")
    size = ((own.box[2] - own.box[0]) + (own.box[3] - own.box[1])) / 2
    side = yaw_geometry.square_side(size, info.width, info.height)

    light = _brightness(frames[own.frame].image, own.box)

    def framed(frame: Frame, yaw: int, box: Box, pose: Pose, sharp: float) -> SubjectFrame | None:
        """None where the light is another one."""
        image = frame.image
        if not 1 / ONE_LIGHT <= _brightness(image, box) / light <= ONE_LIGHT:
            return None
        where = yaw_geometry.head_square(
            box, float(yaw), size, side, (image.shape[1], image.shape[0])
        )
        return SubjectFrame(
            yaw=yaw,
            picture=encode_jpeg(sized(cut(image, where, settings.side), settings.side)),
            measured_yaw=yaw_geometry.yaw_of(pose),
            timestamp=frame.timestamp,
            true_yaw=truth.get(frame.index),
            sharpness=sharp,
        )

    front = frames[own.frame]
    found = [framed(front, 0, own.box, own.pose, own.sharpness)]
    for index, view in known.items():
        if index in frames and view.cutout and view.yaw in settings.yaws:
            place = view.cutout
            found.append(framed(frames[index], view.yaw, place.box, place.pose, place.sharpness))
    made = [frame for frame in found if frame is not None]
    if len(made) < LEAST:
        detail = f"{len(made)} yaws in one shot and one light, at least {LEAST} are needed"
        raise BadSample("no_turn", detail)
    embedding = _embedding(faces, front.image, own)
    ordered = tuple(sorted(made, key=lambda frame: frame.yaw))
    return PickedFrames(ordered, embedding, len(frames), info.frames)


def _brightness(image: Image, box: Box) -> float:
    left, top, right, bottom = (max(0, round(edge)) for edge in box)
    return max(1.0, float(image[top:bottom, left:right].mean()))


def _embedding(faces: FaceAnalyzer, image: Image, own: Reference) -> tuple[float, ...]:
    (found,) = faces.find([image])
    face = max(found, key=lambda face: iou(face.box, own.box), default=None)
    if face is None or iou(face.box, own.box) == 0:
        raise BadSample("no_face", "the reference's face is not found again")
    return tuple(float(x) for x in faces.embed(image, [face])[0])
