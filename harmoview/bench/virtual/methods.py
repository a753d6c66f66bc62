"""The built-in methods: videos of virtual people by a renderer, each with one known defect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from datapipe.record import Image, Pose
from harmoview.bench.suite import Suite
from harmoview.bench.suite_json import Case
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, HeadShot, Sensor, Turn, render, rotations
from lora_engine.mesh.studio import build
from lora_engine.subjects.clip import PROFILE, Scene, encode, head_turn, scene
from lora_engine.subjects.distinct import Distinct, invented
from lora_engine.subjects.gallery import Gallery

Canvas = npt.NDArray[np.float32]
Method = Literal[
    "truth", "frontal", "cardboard", "blend25", "blend50", "other", "swap", "jitter", "static"
]
METHODS: tuple[Method, ...] = get_args(Method)
DEFECTS: dict[Method, str] = {
    "truth": "none",
    "frontal": "yaw within ±15°",
    "cardboard": "the frontal picture squeezed by the cosine of the yaw",
    "blend25": "shape and skin a quarter the other person's",
    "blend50": "shape and skin half the other person's",
    "other": "a stranger",
    "swap": "the two people exchanged",
    "jitter": "frames shifted by 0, 3, 0, 3 pixels",
    "static": "the first frame repeated",
}
FRONTAL = 15.0
"""Degrees to which `frontal` shrinks every turn."""
SHIFT = 3
"""Pixels of `jitter`."""
THIN = 0.08
"""Least width of a cardboard cut-out, of its frontal width: edge on it would not be seen."""
SHARES = {"blend25": 0.25, "blend50": 0.5}


@dataclass(frozen=True)
class VirtualVideo:
    """A finished video, and the truth of every frame as JSON types."""

    video: bytes
    truth: dict[str, Any]


def check_virtual(suite: Suite) -> None:
    """Raises UserError where the suite has a person who is not virtual."""
    for name, who in suite.identities.items():
        if who.kind != "virtual" or who.seed is None:
            raise UserError(
                f"{suite.folder.url}: {name} is not a virtual person; the built-in methods "
                "render virtual suites only (`harmoview bench make SUITE --virtual`)"
            )


class SuitePeople:
    """The people of a virtual suite, each made once per process when first needed."""

    def __init__(self, suite: Suite, gallery: Gallery | None = None) -> None:
        """Raises UserError where the suite has a person who is not virtual."""
        check_virtual(suite)
        self.suite = suite
        self.gallery = gallery or Gallery()
        self._people: dict[int, Distinct] = {}

    def person(self, name: str) -> Distinct:
        """The person of an identity."""
        seed = self.suite.identities[name].seed
        assert seed is not None  # by __init__
        return self._of(seed)

    def stranger(self, case: Case, number: int) -> Distinct:
        """Someone who is in no suite."""
        return self._of(derived_seed(self.suite.sha256, case.id, "stranger", number))

    def partner(self, case: Case, number: int) -> Distinct:
        """The other person of a case; for a case of one person the next one of the suite."""
        if len(case.identities) == 2:
            return self.person(case.identities[1 - number].id)
        names = sorted(self.suite.identities)
        place = names.index(case.identities[number].id)
        return self.person(names[(place + 1) % len(names)])

    def blend(self, one: Distinct, other: Distinct, share: float) -> Head:
        """`one` with a share of the other's shape and skin; hair and clothes stay."""
        a, b = one.invented.person, other.invented.person
        mixed = replace(
            a,
            shape=(1 - share) * a.shape + share * b.shape,
            albedo=((1 - share) * a.albedo + share * b.albedo).astype(a.albedo.dtype),
        )
        return build(mixed, self.gallery.studio, seed=one.seed & 0x7FFFFFFF)

    def _of(self, seed: int) -> Distinct:
        if seed not in self._people:
            self._people[seed] = invented(self.gallery, seed)
        return self._people[seed]


def virtual_video(cast: SuitePeople, case: Case, method: Method, seed: int) -> VirtualVideo:
    """A case as one of the built-in methods shows it; the same call gives the same bytes.

    The scene is the case's own, motion and the sensor's noise are those of the case and the seed.
    """
    place = case_scene(case)
    motion = np.random.default_rng(derived_seed(case.seed, seed, "motion"))
    paths = [_path(case, motion, method) for _ in case.identities]
    heads = _heads(cast, case, method)
    cameras = _cameras(cast, case, derived_seed(case.seed, seed, "camera"))
    noise = np.random.default_rng(derived_seed(case.seed, seed, "sensor"))
    sensor = Sensor(noise=float(noise.uniform(1.0, 2.5)), blur=float(noise.uniform(0.3, 0.5)))
    size = case.width, case.height
    shots = [
        [
            HeadShot(head, path[frame], camera, place.light)
            for head, path, camera in zip(heads, paths, cameras, strict=True)
        ]
        for frame in range(case.frames)
    ]
    clean = (
        _cardboard(shots, size, place) if method == "cardboard" else _rendered(shots, size, place)
    )
    if method == "static":
        clean = iter([next(clean)] * case.frames)
    recorded: Iterator[Image] = (sensor(picture, noise) for picture in clean)
    if method == "static":
        recorded = iter([next(recorded)] * case.frames)
    if method == "jitter":
        recorded = (_shifted(image, SHIFT * (k % 2)) for k, image in enumerate(recorded))
    shown = [path[:1] * case.frames if method == "static" else path for path in paths]
    return VirtualVideo(
        encode(recorded, size, case.fps),
        {
            "method": method,
            "defect": DEFECTS[method],
            "people": [
                {
                    "place": who.placement,
                    "frames": [_truth(head, pose, camera, size) for pose in path],
                }
                for who, head, path, camera in zip(
                    case.identities, heads, shown, cameras, strict=True
                )
            ],
        },
    )


def case_scene(case: Case) -> Scene:
    """Where a case is set."""
    rng = np.random.default_rng(derived_seed(case.seed, "scene"))
    return scene(case.width / case.height, rng)


def derived_seed(*parts: object) -> int:
    """A seed of its own for each thing that is drawn."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def _path(case: Case, rng: np.random.Generator, method: Method) -> list[Pose]:
    """The head's poses: from the front to both ends of what the case requests, and back."""
    low, high = case.yaw_request or (-PROFILE, PROFILE)
    if method == "frontal":
        most = max(abs(low), abs(high), FRONTAL)
        low, high = low * FRONTAL / most, high * FRONTAL / most
    turned = head_turn(case.frames, rng)
    share = {True: high / PROFILE, False: -low / PROFILE}
    return [replace(pose, yaw=round(pose.yaw * share[pose.yaw > 0], 3)) for pose in turned]


def _heads(cast: SuitePeople, case: Case, method: Method) -> list[Head]:
    names = [who.id for who in case.identities]
    people = [cast.person(name) for name in names]
    if method == "swap":
        return [person.head for person in people[::-1]]
    if method == "other":
        return [cast.stranger(case, number).head for number in range(len(people))]
    if method in SHARES:
        return [
            cast.blend(person, cast.partner(case, number), SHARES[method])
            for number, person in enumerate(people)
        ]
    return [person.head for person in people]


def _cameras(cast: SuitePeople, case: Case, seed: int) -> list[Camera]:
    """One for each place: the left person's is on the left, whoever stands there."""
    rng = np.random.default_rng(seed)
    count = len(case.identities)
    cameras = []
    for number, who in enumerate(case.identities):
        head = cast.person(who.id).head
        side = number if who.placement is None else int(who.placement == "right")
        face, scale = head.face.mean(axis=0), rng.uniform(0.22, 0.25)
        top = (head.vertices[:, 1].max() - face[1]) * scale
        across = (side + 0.5) / count + rng.uniform(-0.02, 0.02)
        down = max(0.47, top + 0.16) + rng.uniform(-0.01, 0.02)
        cameras.append(Camera(face * [0, 1, 1], (across, down), scale))
    return cameras


def _rendered(
    shots: Sequence[Sequence[HeadShot]], size: tuple[int, int], place: Scene
) -> Iterator[Canvas]:
    return (render(one, size, place.background) for one in shots)


def _cardboard(
    shots: Sequence[Sequence[HeadShot]], size: tuple[int, int], place: Scene
) -> Iterator[Canvas]:
    """Each person once from the front, as a cut-out that is squeezed about its own middle."""
    cards = []
    for shot in shots[0]:
        level = replace(shot, pose=Pose(0.0, 0.0, 0.0))
        black, white = (
            render([level], size, np.full((2, 2, 3), grey, np.float32)) for grey in (0.0, 255.0)
        )
        cover = 1 - (white - black).mean(axis=2, keepdims=True) / 255
        cards.append((np.dstack([black, cover]).astype(np.float32), shot.camera.place[0] * size[0]))
    behind = cv2.resize(place.background, size, interpolation=cv2.INTER_LINEAR)
    for one in shots:
        picture = np.asarray(behind, np.float32)
        for shot, (card, middle) in zip(one, cards, strict=True):
            width = max(THIN, float(np.cos(np.radians(shot.pose.yaw))))
            matrix = np.array([[width, 0, middle * (1 - width)], [0, 1.0, 0]])
            moved = cv2.warpAffine(card, matrix, size, flags=cv2.INTER_AREA)
            picture = picture * (1 - moved[..., 3:]) + moved[..., :3]
        yield picture


def _shifted(image: Image, by: int) -> Image:
    """Moved to the right; the edge is repeated."""
    return (
        np.pad(image, ((0, 0), (by, 0), (0, 0)), mode="edge")[:, : image.shape[1]] if by else image
    )


def _truth(head: Head, pose: Pose, camera: Camera, size: tuple[int, int]) -> dict[str, Any]:
    turn = Turn(rotations(pose), head.pivot)
    marks = turn(head.face, turn.level(head.face))
    pixels = camera.project(marks, *size)[:, :2].round(1)
    return {
        "yaw": pose.yaw,
        "pitch": pose.pitch,
        "roll": pose.roll,
        "box": [*pixels.min(axis=0).tolist(), *pixels.max(axis=0).tolist()],
    }
