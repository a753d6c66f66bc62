"""Training pairs: takes of people at the canonical yaws, as WebDataset shards with a manifest.

PAIRS/manifest.json          written last: splits, shards by SHA-256, coverage per yaw
PAIRS/train/000000.tar       <subject>.json, <subject>.yaw-90.jpg … <subject>.yaw+90.jpg,
                             <subject>.yaw+30.1.jpg … where there are more of a yaw,
                             <subject>.reference.jpg, <subject>.reference.1.jpg …
PAIRS/validation/000000.tar  people of whom none is in train
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from datapipe import tar
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import Image
from datapipe.shards import Member, ShardWriter

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
MANIFEST = "manifest.json"

_VERSION = 2
"""Version of the manifest and of the shards' members."""
_KINDS = ("frames", "more", "references")
"""The fields of a subject that hold frames."""
_SHARD_SUBJECTS = 256
_SHARD_BYTES = 1 << 28
"""Limits of a shard."""


@dataclass(frozen=True, slots=True)
class SubjectFrame:
    """One picture of a subject."""

    yaw: int
    """The canonical yaw for which it stands, degrees; > 0: the nose points to image right."""
    picture: bytes
    """A square JPEG, cut by the same rule to the same size for every frame of every subject."""
    measured_yaw: float | None
    """Degrees, by the pose estimator; None where it gave none."""
    timestamp: float
    """Seconds from the start of the clip."""
    true_yaw: float | None = None
    """Degrees, where the clip was rendered and the truth is known."""
    sharpness: float | None = None
    """Sharpness of the face at full size, as in `datapipe.faces.crops`."""
    number: int = 0
    """Place among the subject's frames of this yaw, or among its references; 0 is the best."""
    reference: bool = False
    """Whether it is a reference, which need not show its yaw, 0, as nearly as a target does."""

    @property
    def name(self) -> str:
        """Name of the picture among the subject's: "yaw+30", "yaw+30.1", "reference", …"""
        kind = "reference" if self.reference else f"yaw{self.yaw:+03d}"
        return f"{kind}.{self.number}" if self.number else kind

    def image(self) -> Image:
        """Decode the picture. Raises ValueError where the bytes are no picture."""
        return decode_jpeg(self.picture)


@dataclass(frozen=True, slots=True)
class Subject:
    """One person in one take: frames at canonical yaws, and references.

    All frames are of one shot of one clip, because the prompts promise the same clothes, light and
    background. Raises ValueError for a key that is no file name, or two frames of one name.
    """

    key: str
    """Unique among the pairs, safe as a file name and free of dots."""
    clip: str
    """Key of the clip that the frames are from; a file's name would not be unique."""
    frames: tuple[SubjectFrame, ...]
    """The best for each yaw."""
    person: str | None = None
    """Key of the person, whose takes are all in one split; None: nobody else is this person."""
    more: tuple[SubjectFrame, ...] = ()
    """Further frames of these yaws."""
    references: tuple[SubjectFrame, ...] = ()
    """Frontal frames as the main job takes them for references, the best first; where there are
    none, the frame of yaw 0 is the reference."""

    def __post_init__(self) -> None:
        if "." in self.key or "/" in self.key:
            raise ValueError(f"the key {self.key!r} must be free of dots and slashes")
        names = [frame.name for frame in self.all]
        if len(set(names)) < len(names) or len(set(self.yaws)) < len(self.frames):
            raise ValueError(f"{self.key}: more than one frame of one name in {names}")

    @property
    def all(self) -> tuple[SubjectFrame, ...]:
        """Every frame, the references last."""
        return (*self.frames, *self.more, *self.references)

    @property
    def yaws(self) -> tuple[int, ...]:
        return tuple(sorted(frame.yaw for frame in self.frames))

    def frame(self, yaw: int) -> SubjectFrame:
        """Return the best frame for a yaw. Raises KeyError where the subject has none."""
        return {frame.yaw: frame for frame in self.frames}[yaw]

    def choice(self, yaw: int) -> tuple[SubjectFrame, ...]:
        """Return all frames for a yaw, the best first."""
        return tuple(frame for frame in (*self.frames, *self.more) if frame.yaw == yaw)


def split_of(key: str, validation: float, seed: int) -> Split:
    """Assign a person to a split by a hash of seed and key, so that new people move nobody.

    `validation` is the share of people, 0..1, who are held out.
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return "validation" if int.from_bytes(digest[:8]) < validation * 2**64 else "train"


def write_pairs(
    folder: Folder,
    subjects: Iterable[tuple[Split, Subject]],
    yaws: Iterable[int],
    settings: Mapping[str, object],
) -> PairsFolder:
    """Write the shards, then the manifest.

    Raises ValueError for a subject that comes twice, or a person who is in both splits.
    `settings`, in JSON's types, say how the frames were picked and go into the manifest. The same
    subjects in the same order give the same bytes.
    """
    folder.delete(MANIFEST)
    coverage: dict[Split, dict[str, list[int]]] = {split: {} for split in SPLITS}
    people: dict[str, str] = {}
    splits: dict[str, Split] = {}
    writers = {
        split: ShardWriter(folder.folder(split), _SHARD_SUBJECTS, _SHARD_BYTES) for split in SPLITS
    }
    with writers["train"], writers["validation"]:
        for split, subject in subjects:
            if subject.key in people:
                raise ValueError(f"the subject {subject.key!r} comes twice")
            people[subject.key] = person = subject.person or subject.key
            if splits.setdefault(person, split) != split:
                raise ValueError(f"the person {person!r} is in both splits")
            coverage[split][subject.key] = list(subject.yaws)
            writers[split].write(_members(split, subject))
    manifest = {
        "version": _VERSION,
        "yaws": sorted(yaws),
        "settings": settings,
        "people": people,
        "splits": {
            split: {
                "shards": [asdict(shard) for shard in writers[split].shards],
                "subjects": coverage[split],
            }
            for split in SPLITS
        },
    }
    folder.put(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    return PairsFolder(folder)


def _members(split: Split, subject: Subject) -> list[Member]:
    facts = {
        "subject": subject.key,
        "split": split,
        "clip": subject.clip,
        "person": subject.person,
        **{kind: [_facts(f) for f in _sorted(getattr(subject, kind))] for kind in _KINDS},
    }
    text = json.dumps(facts, sort_keys=True).encode()
    pictures = [Member.of(_name(subject.key, f.name), f.picture) for f in _sorted(subject.all)]
    return [Member.of(f"{subject.key}.json", text), *pictures]


def _facts(frame: SubjectFrame) -> dict[str, Any]:
    return {name: value for name, value in asdict(frame).items() if name != "picture"}


def _sorted(frames: Iterable[SubjectFrame]) -> list[SubjectFrame]:
    return sorted(frames, key=lambda frame: (frame.reference, frame.yaw, frame.number))


def _name(key: str, frame: str) -> str:
    return f"{key}.{frame}.jpg"


class PairsFolder:
    """A folder that `write_pairs` has written."""

    def __init__(self, folder: Folder) -> None:
        """Reads the manifest. Raises UserError where there is none, or one of another version."""
        self.folder = folder
        try:
            text = folder.read(MANIFEST)
        except FileNotFoundError:
            raise UserError(
                f"{folder.url} holds no {MANIFEST}; make it with `harmoview pairs CORPUS --out …`"
            ) from None
        self.sha256 = hashlib.sha256(text).hexdigest()
        """Hash of the manifest, which holds the hash of every shard."""
        self._manifest: dict[str, Any] = json.loads(text)
        if self._manifest.get("version") != _VERSION:
            raise UserError(f"{folder.url}/{MANIFEST} is of another version; make the pairs again")

    @property
    def yaws(self) -> tuple[int, ...]:
        """The canonical yaws for which frames were sought."""
        return tuple(self._manifest["yaws"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the frames were picked, in JSON's types."""
        return dict(self._manifest["settings"])

    def coverage(self, split: Split) -> dict[str, tuple[int, ...]]:
        """Return the yaws that each subject of a split has, by its key."""
        subjects = self._manifest["splits"][split]["subjects"]
        return {key: tuple(yaws) for key, yaws in sorted(subjects.items())}

    @property
    def people(self) -> dict[str, str]:
        """The key of the person that each subject is, by the subject's key."""
        return dict(self._manifest["people"])

    def subjects(self, split: Split) -> Iterator[Subject]:
        """Read the subjects of a split, one by one. Raises UserError for a shard not as listed."""
        for shard in self._manifest["splits"][split]["shards"]:
            name = f"{split}/{shard['name']}"
            if not self.folder.exists(name):
                raise UserError(f"{self.folder.url}/{name} is missing; make the pairs again")
            data = self.folder.read(name)
            if hashlib.sha256(data).hexdigest() != shard["sha256"]:
                raise UserError(f"{self.folder.url}/{name} is damaged; make the pairs again")
            members = tar.read_members(data)
            yield from (
                _subject(json.loads(text), members)
                for member, text in members.items()
                if member.endswith(".json")
            )


def _subject(facts: dict[str, Any], members: Mapping[str, bytes]) -> Subject:
    key = facts["subject"]
    kinds = {}
    for kind in _KINDS:
        bare = [SubjectFrame(picture=b"", **frame) for frame in facts[kind]]
        kinds[kind] = tuple(replace(f, picture=members[_name(key, f.name)]) for f in bare)
    return Subject(key, facts["clip"], person=facts["person"], **kinds)
