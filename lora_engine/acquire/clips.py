"""The takes of a corpus, each searched once: its frames are kept in a file of its own.

A take is a clip, or a folder of pictures that are named by their yaw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from datapipe import tar
from datapipe.concurrent import in_processes
from datapipe.corpus import local_copy
from datapipe.errors import UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder, place
from datapipe.record import Sample
from datapipe.stage import Resources, apply
from datapipe.video.decoder import Decoder
from lora_engine.acquire.pick import PickedFrames, pick
from lora_engine.acquire.pictures import FOLDER, pick_pictures, pictures_of
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.pairs import SubjectFrame

_VERSION = 3
"""Version of what is kept of a clip; another one makes every clip be searched again."""


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What became of one clip."""

    key: str
    name: str
    """The clip's file name."""
    subject: str | None
    """Who is in it, if its .json says so."""
    outcome: Literal["candidate", "rejected", "error"]
    reason: str = ""
    detail: str = ""
    picked: PickedFrames | None = None
    """The frames of a candidate, without their pictures, which `Acquire.pictures` reads."""


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the .json beside a clip says."""

    subject: str | None = None
    truth: Mapping[int, float] = field(default_factory=dict)
    """The true yaw by frame, degrees; known only for rendered clips of one person."""


def facts_of(sample: Sample) -> ClipFacts:
    """Read the .json beside a clip, of which clips in tars have none.

    Raises UserError where the file is no JSON object, or its `subject` no text.
    """
    text = _beside(sample)
    if text is None:
        return ClipFacts()
    where = f"the .json beside {sample.source}"
    try:
        data = json.loads(text)
    except ValueError as fault:
        raise UserError(f"{where} is not JSON: {fault}") from fault
    subject = data.get("subject") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(subject, str | None):
        raise UserError(f"{where}: `subject` must be the name of the person, as text")
    return ClipFacts(subject or None, _yaws(data.get("people")))


def _yaws(people: Any) -> dict[int, float]:
    """Read the yaw by frame where it is written as `lora_engine.subjects.clip` does."""
    if not isinstance(people, list) or len(people) != 1 or not isinstance(people[0], dict):
        return {}
    frames = enumerate(people[0].get("frames", ()))
    return {i: float(f["yaw"]) for i, f in frames if isinstance(f, dict) and "yaw" in f}


def _beside(sample: Sample) -> bytes | None:
    if sample.source.member is not None or sample.stopped is not None:
        return None
    file = place(str(PurePosixPath(sample.source.path).with_suffix(".json")))
    if not file.is_file():
        return None
    with file.open() as stream:
        return stream.read()


class Acquire:
    """The stage that searches a clip and keeps its frames in FOLDER/<key>.tar."""

    name = "acquire"

    def __init__(self, settings: AcquireSettings, faces: FaceAnalyzer, folder: str) -> None:
        self.settings, self.faces = settings, faces
        self.resources = Resources(num_cpus=1)
        self._folder = Folder(folder)
        self.decoder = Decoder()

    def setup(self) -> None:
        """Load the face models."""
        self.faces.setup()

    def close(self) -> None:
        """End the decoding process."""
        self.decoder.close()

    def __call__(self, sample: Sample) -> Sample:
        """Pick a take's frames and keep them.

        Raises as `pick`, `pick_pictures` and `facts_of` do.
        """
        if sample.source.suffix == FOLDER:
            facts_of(sample)
            picked = pick_pictures(self.faces, self.settings, Path(sample.source.path))
        else:
            with local_copy(sample.source, self.decoder.limits.bytes) as path:
                picked = self.pick(path, sample)
        self._folder.put(f"{sample.key}.tar", _to_tar(picked, self.mark(sample)))
        return sample

    def pick(self, path: Path, sample: Sample) -> PickedFrames:
        """The frames of a clip; `path` is where it is now. Raises as the functions do."""
        truth = facts_of(sample).truth
        return pick(self.decoder, self.faces, self.settings, path, truth)

    def record_rejection(self, sample: Sample) -> None:
        """Record why a clip was rejected, if it was, so that it is not searched again."""
        if sample.stopped is not None and sample.stopped.outcome == "rejected":
            verdict = {"mark": self.mark(sample), "stopped": asdict(sample.stopped)}
            self._folder.put(f"{sample.key}.tar", tar.tar_of({"clip.json": _json(verdict)}))

    def earlier(self, sample: Sample) -> Sample | None:
        """Return the sample as it left this stage in an earlier run; None where there is none.

        A run with other settings or other files does not count.
        """
        try:
            text = tar.read_members(self._folder.read(f"{sample.key}.tar"))["clip.json"]
        except FileNotFoundError:
            return None
        data = json.loads(text)
        if data["mark"] != self.mark(sample):
            return None
        return sample.stop(**data["stopped"]) if "stopped" in data else sample

    def result(self, sample: Sample) -> ClipResult:
        """Return what became of a sample that has left this stage."""
        name = PurePosixPath(sample.source.member or sample.source.path).name
        if sample.stopped is not None:
            reason, detail = sample.stopped.reason, sample.stopped.detail
            subject = None
            return ClipResult(sample.key, name, subject, sample.stopped.outcome, reason, detail)
        picked = _from_tar(self._folder.read(f"{sample.key}.tar"))
        return ClipResult(sample.key, name, facts_of(sample).subject, "candidate", picked=picked)

    def pictures(self, key: str) -> dict[str, bytes]:
        """Read the pictures of a clip: JPEG by the frame's name."""
        members = tar.read_members(self._folder.read(f"{key}.tar"))
        return {
            name.removesuffix(".jpg"): data
            for name, data in members.items()
            if name.endswith(".jpg")
        }

    def mark(self, sample: Sample) -> str:
        """Return a hash of everything on which the frames of a clip depend."""
        source = sample.source
        files: dict[Path, int] = {}
        if source.suffix == FOLDER:
            files = pictures_of(Path(source.path))
        elif place(source.path).fs is None and Path(source.path).is_file():
            files = {Path(source.path): 0}
        stats = [(f"{file.name} {yaw}", file.stat()) for file, yaw in files.items()]
        stat = [[name, status.st_size, status.st_mtime_ns] for name, status in stats]
        beside = hashlib.sha256(_beside(sample) or b"").hexdigest()
        what = [_VERSION, asdict(self.settings), self.faces.provenance(), asdict(source)]
        return hashlib.sha256(_json([*what, stat, beside])).hexdigest()


def acquire(stage: Acquire, samples: Sequence[Sample], workers: int) -> Iterator[Sample]:
    """Yield every sample when it is done: first those of an earlier run, the others in order.

    What went wrong with a sample is on it, in `stopped`. Raises UserError for what concerns the
    run, such as a .json that cannot be read.
    """
    todo = []
    for sample in samples:
        done = sample if sample.stopped is not None else stage.earlier(sample)
        if done is None:
            todo.append(sample)
        else:
            yield done
    if todo:
        try:
            start, most = partial(_started, stage), min(workers, len(todo))
            yield from in_processes(start, todo, most, ahead=len(todo))
        finally:
            stage.close()


def _started(stage: Acquire) -> Callable[[Sample], Sample]:
    """Set a worker up, and return what it does with a clip."""
    stage.setup()

    def look(sample: Sample) -> Sample:
        done = apply(stage, sample)
        stage.record_rejection(done)
        return done

    return look


def _to_tar(picked: PickedFrames, mark: str) -> bytes:
    bare = picked.with_pictures(dict.fromkeys(picked.pictures, b""))
    facts = asdict(bare, dict_factory=lambda some: {k: v for k, v in some if k != "picture"})
    facts["mark"] = mark
    pictures = {f"{name}.jpg": data for name, data in picked.pictures.items()}
    return tar.tar_of({"clip.json": _json(facts), **pictures})


def _from_tar(data: bytes) -> PickedFrames:
    facts: dict[str, Any] = json.loads(tar.read_members(data)["clip.json"])
    kinds = {
        kind: tuple(SubjectFrame(picture=b"", **frame) for frame in facts[kind])
        for kind in ("frames", "more", "references")
    }
    embedding = tuple(facts["embedding"])
    return PickedFrames(embedding=embedding, looked=facts["looked"], total=facts["total"], **kinds)


def _json(data: object) -> bytes:
    return json.dumps(data, sort_keys=True).encode()
