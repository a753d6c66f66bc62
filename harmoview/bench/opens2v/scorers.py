"""The published metrics as scorers of a run; each stays blank where its weights are not given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from datapipe.errors import BadSample, UserError
from datapipe.record import Image
from harmoview.bench.opens2v.weights import Endpoint, Weights, lacking, read_weights
from harmoview.bench.scorers import Job, Scorer, digest_of
from harmoview.bench.scores import VideoScore
from harmoview.bench.video import SAMPLED, frames, raw_sample

Device = Literal["cpu", "cuda"]
LABEL = "human"
"""What OpenS2V-Eval calls a man or a woman in its human cases."""


@dataclass
class PublishedScorer:
    """What the scorers below share: they run alone, on one device, with weights that may lack."""

    weights: Weights | None
    device: Device = "cpu"
    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    in_process: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.name,)

    def missing(self) -> str:
        return "" if self.weights else lacking(self.name)

    def model_sha256(self) -> str:
        return self.weights.sha256 if self.weights else ""

    def versions(self) -> dict[str, str]:
        return {"device": self.device}

    def path(self, part: str) -> Path:
        assert self.weights is not None  # the runner asks `missing` first
        return self.weights.paths[part]


class AesScorer(PublishedScorer):
    """Mean of 32 frames."""

    name = "opens2v_aes"

    def setup(self) -> None:
        from harmoview.bench.opens2v.aes import Aesthetic

        self._model = Aesthetic(self.path("clip"), self.path("head"), self.device)

    def __call__(self, job: Job) -> list[VideoScore]:
        scores = self._model(raw_sample(job.path))
        return [VideoScore(self.name, sum(scores) / len(scores), SAMPLED, len(scores))]


class SmoothScorer(PublishedScorer):
    """Jumps between all frames."""

    name = "opens2v_smooth"

    def setup(self) -> None:
        from harmoview.bench.opens2v.smooth import OneAlign

        self._model = OneAlign(self.path("one_align"), self.device)

    def __call__(self, job: Job) -> list[VideoScore]:
        from harmoview.bench.opens2v.smooth import smoothness

        scores = self._model(frame.image for frame in frames(job.path))
        return [VideoScore(self.name, smoothness(scores), len(scores), len(scores))]


class GmeScorer(PublishedScorer):
    """Mean cosine of the prompt and 32 frames."""

    name = "opens2v_gme"

    def setup(self) -> None:
        from harmoview.bench.opens2v.gme import Gme

        self._model = Gme(self.path("gme"), self.device)

    def __call__(self, job: Job) -> list[VideoScore]:
        prompt = self._model.text(job.case.prompt)
        cosines = [float(prompt @ self._model.picture(image)) for image in raw_sample(job.path)]
        return [VideoScore(self.name, sum(cosines) / len(cosines), SAMPLED, len(cosines))]


class FaceSimScorer(PublishedScorer):
    """CurricularFace's cosine to each person's reference."""

    name = "opens2v_facesim_cur"

    def setup(self) -> None:
        from harmoview.bench.opens2v.facesim import FaceSim

        self._model = FaceSim(self.path("curricularface"), self.path("detector"), self.device)
        self._known: dict[str, Any] = {}

    def __call__(self, job: Job) -> list[VideoScore]:
        from harmoview.bench.opens2v.facesim import facesim

        references = [self._reference(job, who.id) for who in job.case.identities]
        lost = [
            who.id
            for who, vector in zip(job.case.identities, references, strict=True)
            if vector is None
        ]
        if lost:
            why = f"no face in the reference of {lost[0]}"
            return [VideoScore(self.name, None, SAMPLED, 0, status="no_face", reason=why)]
        looked = [self._model.faces(image) for image in raw_sample(job.path)]
        found = facesim(looked, references)
        extended = "two people: faces assigned by frame" if len(references) > 1 else ""
        return [
            VideoScore(self.name, value, SAMPLED, used, identity=who.id, reason=extended)
            for who, (value, used) in zip(job.case.identities, found, strict=True)
        ]

    def _reference(self, job: Job, name: str) -> Any:
        if name not in self._known:
            faces = self._model.faces(job.suite.view(name, None))
            self._known[name] = faces[0] if len(faces) else None
        return self._known[name]


class NexusScorer(PublishedScorer):
    """YOLO-World's boxes, embedded by GME."""

    name = "opens2v_nexus"

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.name, "nexus_mean")

    def setup(self) -> None:
        from harmoview.bench.opens2v.gme import Gme
        from harmoview.bench.opens2v.nexus import read_boxes

        self._boxes = read_boxes(self.path("boxes"))
        self._model = Gme(self.path("gme"), self.device)

    def __call__(self, job: Job) -> list[VideoScore]:
        """NexusScore of one video. Raises BadSample where the boxes are not those of its frames."""
        from harmoview.bench.opens2v.nexus import Box, nexus

        name = f"{job.key.case}.s{job.key.seed}"
        boxes = self._boxes.get(f"{job.key.method}/{name}", self._boxes.get(name))
        if boxes is None:
            raise BadSample("unreadable", f"the boxes name no {job.key.method}/{name} or {name}")
        images = raw_sample(job.path)
        if len(boxes) != len(images):
            raise BadSample("unreadable", f"the boxes are of {len(boxes)} frames, not {SAMPLED}")
        label = self._model.text(LABEL)
        references = [
            self._model.picture(job.suite.view(who.id, None)) for who in job.case.identities
        ]
        crops: dict[tuple[int, Box], Any] = {}

        def crop(number: int, box: Box) -> Any:
            if (number, box) not in crops:
                crops[number, box] = self._model.picture(_cut(images[number], box))
            return crops[number, box]

        found = nexus(
            boxes,
            lambda number, box: float(label @ crop(number, box)),
            lambda number, box: float(references[box.identity] @ crop(number, box)),
        )
        none = "" if found.used else "no box counts"
        return [
            VideoScore(self.name, found.official, len(images), found.frames, reason=none),
            VideoScore("nexus_mean", found.undivided, len(images), found.used, reason=none),
        ]


def _cut(image: Image, box: Any) -> Image:
    """The part of a frame in a box, black beyond its edge, at least a pixel."""
    import numpy as np
    import PIL.Image

    left, top = round(box.left), round(box.top)
    right, bottom = max(round(box.right), left + 1), max(round(box.bottom), top + 1)
    return np.asarray(PIL.Image.fromarray(image).crop((left, top, right, bottom)), np.uint8)


@dataclass
class NaturalScorer:
    """A language model's opinion."""

    endpoint: Endpoint | None
    name: ClassVar[str] = "opens2v_natural"
    metrics: ClassVar[tuple[str, ...]] = ("opens2v_natural",)
    version: ClassVar[int] = 1
    in_process: ClassVar[bool] = True

    def missing(self) -> str:
        return "" if self.endpoint else lacking(self.name)

    def model_sha256(self) -> str:
        """Of the server's address, the model's name and the rubric: nothing else can be known."""
        from harmoview.bench.opens2v.natural import rubric_sha256

        if self.endpoint is None:
            return ""
        known = {"url": self.endpoint.url, "model": self.endpoint.model}
        return digest_of({**known, "rubric": rubric_sha256()})

    def versions(self) -> dict[str, str]:
        if self.endpoint is None:
            return {}
        return {"url": self.endpoint.url, "model": self.endpoint.model}

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, job: Job) -> list[VideoScore]:
        """NaturalScore of one video. Raises UserError where the endpoint answers nothing at all."""
        from harmoview.bench.opens2v.natural import ask, frame_indices, rubric_sha256

        assert self.endpoint is not None  # the runner asks `missing` first
        total = sum(1 for _ in frames(job.path))
        wanted = frame_indices(total)
        images = [frame.image for frame in frames(job.path) if frame.index in wanted]
        replies = ask(self.endpoint, images)
        if not any(one.served for one in replies):
            raise UserError(
                f"opens2v_natural: {self.endpoint.url} does not serve {self.endpoint.model}: "
                f"{replies[0].raw[:300]}; scores that were made are kept: run this again when "
                "address, key and server are right"
            )
        record = {
            "url": self.endpoint.url,
            "model": self.endpoint.model,
            "rubric_sha256": rubric_sha256(),
            "video_sha256": job.video_sha256,
            "replies": [
                {"score": one.score, "model": one.model, "raw": one.raw} for one in replies
            ],
        }
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        job.folder.put(f"replies/{job.key.stem}.json", text.encode())
        scores = [one.score for one in replies if one.score is not None]
        bad = len(replies) - len(scores)
        first = next((one.raw for one in replies if one.score is None), "")
        reason = f"{bad} of {len(replies)} replies unusable: {first[:200]}" if bad else ""
        if not scores:
            return [VideoScore(self.name, None, len(images), 0, status="failed", reason=reason)]
        mean = sum(scores) / len(scores)
        return [VideoScore(self.name, mean, len(images), len(images), reason=reason)]


def published(path: Path | None, device: Device) -> Sequence[Scorer]:
    """The scorers of the published metrics, with the weights that a file names.

    Raises UserError where the file or what it names is not as it should be.
    """
    weights, endpoint = read_weights(path)
    if device == "cuda" and weights:
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no GPU here")
    kinds: Mapping[str, type[PublishedScorer]] = {
        kind.name: kind for kind in (AesScorer, SmoothScorer, GmeScorer, FaceSimScorer, NexusScorer)
    }
    made: list[Any] = [kind(weights.get(name), device) for name, kind in kinds.items()]
    return [NaturalScorer(endpoint), *made]
