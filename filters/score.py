"""The Score stage: measures every picture of a stored candidate and decides nothing.

Fresh views are measured in the same way while the engine is at hand, so that it tries again at once
those that the rules would reject (`RulesJudge`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from datapipe.faces.base import Face, FaceAnalyzer, Floats
from datapipe.faces.crops import sharpness
from datapipe.pictures import decode_jpeg
from datapipe.record import Identity, Image, Pose, Reference, Sample, Scores, View, ViewSource
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from datapipe.stage import MeritOfViews, Resources
from filters.aesthetic import AestheticScorer
from filters.checks import compile_rules
from filters.head_pose import PoseEstimator
from filters.judge import first_failure
from filters.rules import Rules

_DECIMALS = {
    "sharpness": 4,
    "sharpness_ratio": 4,
    "aesthetic": 3,
    "identity_cosine": 4,
    "measured_yaw": 2,
    "measured_pitch": 2,
    "measured_roll": 2,
    "face_size": 1,
    "expression": 4,
}
"""Decimals that are stored: what every machine and both devices agree on, finer than any threshold.
"""
_EMBEDDING_DECIMALS = 5


class Score:
    """Reads a candidate once and fills in the scores of its references and views.

    The face of a picture is the one that is large and central, see `subject`. Where none is found
    only the aesthetic score is measured; what cannot be measured is None.
    """

    name = "score"

    def __init__(
        self,
        store: CandidateStore,
        faces: FaceAnalyzer,
        aesthetic: AestheticScorer,
        *,
        resources: Resources,
        pose: PoseEstimator | None = None,
    ) -> None:
        self.store = store
        self.faces = faces
        self.aesthetic = aesthetic
        self.pose = pose
        """Measures the head pose in place of the face backend's own."""
        self.resources = resources

    def setup(self) -> None:
        """Raises UserError when a model is missing."""
        self.faces.setup()
        self.aesthetic.setup()
        if self.pose is not None:
            self.pose.setup()

    def labels(self) -> dict[str, str]:
        """The judges that measure, as the columns of the tables name them; known before `setup`."""
        return {
            "aesthetic_scorer": self.aesthetic.name,
            "recogniser": self.faces.recogniser,
            "pose_estimator": self.faces.name if self.pose is None else self.pose.name,
        }

    def provenance(self) -> dict[str, object]:
        """Every model that measures, by file hash; known before `setup`. Raises UserError."""
        return {
            "faces": self.faces.provenance(),
            "aesthetic": self.aesthetic.provenance(),
            "pose": None if self.pose is None else self.pose.provenance(),
        }

    def __call__(self, sample: Sample) -> Sample:
        """The sample with every score.

        Raises DamagedCandidate and FileNotFoundError where its candidate cannot be read, ValueError
        where it names none.
        """
        if sample.candidate is None:
            raise ValueError(f"{sample.key} has no stored candidate to score")
        stored = self.store.read(sample.candidate)
        identities = tuple(
            self._identity(identity, pictures)
            for identity, pictures in zip(stored.sample.identities, stored.pictures, strict=True)
        )
        return replace(sample, identities=identities)

    def _identity(self, identity: Identity, stored: Pictures) -> Identity:
        views = [_stored(stored, view) for view in identity.views]
        pictures = [decode_jpeg(data) for data in (stored.reference, *views)]
        reference, *measured = measure(pictures, self.faces, self.aesthetic, self.pose)
        at = {(v.yaw, v.source): made for v, made in zip(identity.views, measured, strict=True)}
        scored = [
            replace(view, scores=made.against(reference), twin_cosine=made.cosine(_twin(at, view)))
            for view, made in zip(identity.views, measured, strict=True)
        ]
        embedding = () if reference.embedding is None else reference.embedding.tolist()
        return replace(
            identity,
            views=tuple(scored),
            scores=reference.alone(identity.reference.expression),
            embedding=tuple(round(x, _EMBEDDING_DECIMALS) for x in embedding),
        )


def _stored(pictures: Pictures, view: View) -> bytes:
    found = pictures.of(view.yaw, view.source)
    if found is None:
        raise DamagedCandidate(f"a candidate lacks its {view.source} view at {view.yaw:+d}°")
    return found


def _twin(
    measured: Mapping[tuple[int, ViewSource], MeasuredPicture], view: View
) -> MeasuredPicture | None:
    """The view of the other source at the same yaw."""
    return measured.get((view.yaw, "real" if view.source == "synthesised" else "synthesised"))


def measure(
    images: Sequence[Image],
    faces: FaceAnalyzer,
    aesthetic: AestheticScorer,
    pose: PoseEstimator | None = None,
) -> list[MeasuredPicture]:
    """What each picture gives by itself; the models are set up already."""

    found = [subject(*pair) for pair in zip(images, faces.find(images), strict=True)]
    seen = [(image, face) for image, face in zip(images, found, strict=True) if face is not None]
    vectors = iter(faces.embed_each([image for image, _ in seen], [face for _, face in seen]))

    def one(image: Image, face: Face | None, beauty: float | None) -> MeasuredPicture:
        if face is None:
            return MeasuredPicture(None, None, beauty, None, None)
        angles = face.pose if pose is None else pose(image, face)
        return MeasuredPicture(face, sharpness(image, face), beauty, angles, next(vectors))

    return [one(*parts) for parts in zip(images, found, aesthetic(images), strict=True)]


def subject(image: Image, faces: Sequence[Face]) -> Face | None:
    """The face that a portrait is of: the largest, where sizes count less towards the edge.

    A face at the centre counts in full, one at a corner not at all; so a larger face of a passer-by
    at the edge does not win. None without faces.
    """
    height, width = image.shape[:2]

    def weight(face: Face) -> float:
        left, top, right, bottom = face.box
        away = math.hypot((left + right - width) / width, (top + bottom - height) / height)
        return face.size * max(0.0, 1 - away / math.sqrt(2))

    return max(faces, key=weight, default=None)


@dataclass(frozen=True, slots=True)
class MeasuredPicture:
    """What one picture gives by itself; None where it could not be measured."""

    face: Face | None
    sharpness: float | None
    aesthetic: float | None
    pose: Pose | None
    embedding: Floats | None

    def alone(self, expression: float | None) -> Scores:
        """The scores of a reference, whose expression Prepare has measured."""
        own = self._scores(ratio=None, cosine=None)
        return replace(own, expression=rounded({"expression": expression})["expression"])

    def cosine(self, other: MeasuredPicture | None) -> float | None:
        """Between the two faces; None where one was not found."""
        if other is None or self.embedding is None or other.embedding is None:
            return None
        value = float(self.embedding @ other.embedding)
        return rounded({"identity_cosine": value})["identity_cosine"]

    def against(self, reference: MeasuredPicture) -> Scores:
        """The scores of a view of that reference."""
        ratio = cosine = None
        if self.sharpness is not None and reference.sharpness:
            ratio = self.sharpness / reference.sharpness
        if self.embedding is not None and reference.embedding is not None:
            cosine = float(self.embedding @ reference.embedding)
        return self._scores(ratio, cosine)

    def _scores(self, ratio: float | None, cosine: float | None) -> Scores:
        values = {
            "sharpness": self.sharpness,
            "sharpness_ratio": ratio,
            "aesthetic": self.aesthetic,
            "identity_cosine": cosine,
            "measured_yaw": None if self.pose is None else self.pose.yaw,
            "measured_pitch": None if self.pose is None else self.pose.pitch,
            "measured_roll": None if self.pose is None else self.pose.roll,
            "face_size": None if self.face is None else self.face.size,
        }
        return Scores(detected=self.face is not None, **rounded(values))


def rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """At the precision of the tables; what is not a number was not measured."""
    return {
        # Adding zero turns -0.0 into 0.0.
        name: round(value, _DECIMALS[name]) + 0.0
        if value is not None and math.isfinite(value)
        else None
        for name, value in values.items()
    }


WORST = -1.0
"""The merit of a view without a face; others have half their cosine."""
PASSED = 2.0
"""What a view that passes has beyond that."""


class RulesJudge:
    """A `datapipe.stage.ViewJudge` by a run's rules.

    Each view is judged by itself: one that fails only because a nearer view does would gain nothing
    by another attempt. Where the reference fails, its views are not worth another one either.
    """

    def __init__(
        self,
        rules: Rules,
        faces: FaceAnalyzer,
        aesthetic: AestheticScorer,
        pose: PoseEstimator | None = None,
    ) -> None:
        self.rules, self.faces, self.aesthetic, self.pose = rules, faces, aesthetic, pose

    def setup(self) -> None:
        """Raises UserError when a model is missing."""
        self._turns = threading.Lock()
        self._checks = compile_rules(self.rules)
        self.faces.setup()
        self.aesthetic.setup()
        if self.pose is not None:
            self.pose.setup()

    def __call__(self, reference: Reference, portrait: Image) -> MeritOfViews:
        """As the protocol has it; among views alike in that, a larger cosine has more merit."""
        (own,) = self._measured([portrait])
        verdict = first_failure(self._checks.reference, own.alone(reference.expression))
        if self._checks.reference_must_pass and not verdict.passed:
            return lambda views: dict.fromkeys(views, PASSED)

        def merits(views: Mapping[int, Image]) -> dict[int, float]:
            measured = self._measured(list(views.values()))
            scores = {yaw: one.against(own) for yaw, one in zip(views, measured, strict=True)}
            return {yaw: self._merit(yaw, found) for yaw, found in scores.items()}

        return merits

    def _measured(self, pictures: Sequence[Image]) -> list[MeasuredPicture]:
        with self._turns:
            return measure(pictures, self.faces, self.aesthetic, self.pose)

    def _merit(self, yaw: int, scores: Scores) -> float:
        cosine = scores.identity_cosine
        merit = WORST if cosine is None else cosine / 2
        return merit + PASSED * first_failure(self._checks.views[yaw].own, scores).passed
