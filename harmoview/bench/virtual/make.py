"""Making a suite of virtual people: exact references, and cases with a scene and turns to make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from datapipe.errors import UserError, check_range
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import YAWS
from harmoview.bench.suite import picture_name, seal, write_head
from harmoview.bench.suite_json import (
    Case,
    CaseIdentity,
    SuiteIdentity,
    case_json,
    identity_json,
)
from harmoview.bench.virtual.methods import case_scene, derived_seed
from lora_engine.subjects.distinct import Distinct, distinct_people, portrait
from lora_engine.subjects.gallery import Gallery

LICENCE = "CC0-1.0 (rendered; of MIT portraits and a CC0 mesh)"
SOURCE = "harmoview subjects"
TURNS = ((-90, 90), (-75, 75), (-90, 60), (-60, 90))
"""Degrees of yaw that cases request, one after the other."""


@dataclass(frozen=True, slots=True)
class VirtualSuite:
    """What is made."""

    cases: int = 12
    """Every third has two people."""
    people: int = 8
    """Identities that the cases share."""
    seed: int = 0
    distinct: float = 0.5
    """Largest cosine between the frontal references of two people."""
    frames: int = 33
    fps: int = 16
    height: int = 384
    """Pixels of the videos; one person's are square, two people's 7:4."""
    side: int = 384
    """Pixels of the references."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        check_range(self, "cases", least=1)
        check_range(self, "people", least=2)
        check_range(self, "distinct", above=0, under=1)


def make_virtual(
    folder: Folder,
    wanted: VirtualSuite,
    faces: FaceAnalyzer,
    told: Callable[[str], None] = lambda what: None,
) -> str:
    """Write and seal the suite; its suite_sha256. The same settings give the same bytes.

    `faces` is set up. Raises UserError where the folder holds a suite already, or the people
    cannot all be told apart.
    """
    if folder.exists("suite.json"):
        raise UserError(f"{folder.url} holds a suite already; give another folder")
    gallery = Gallery()
    drawn = distinct_people(
        gallery, faces, wanted.seed, wanted.distinct, lambda n: told(f"{n} people drawn")
    )
    people = {f"p{number:02d}": who for number, who in enumerate(islice(drawn, wanted.people), 1)}
    for name, who in people.items():
        told(f"references of {name}")
        _write_identity(folder, name, who, wanted.side)
    lines = [case_json(case) for case in _cases(people, wanted)]
    folder.put("cases.jsonl", ("\n".join(lines) + "\n").encode())
    write_head(folder, version=f"virtual-{wanted.seed}", yaws=YAWS, licence=LICENCE)
    return seal(folder)


def _write_identity(folder: Folder, name: str, who: Distinct, side: int) -> None:
    at = f"identities/{name}"
    for yaw in YAWS:
        data = encode_jpeg(portrait(who.head, yaw, side))
        folder.put(f"{at}/{picture_name(yaw)}", data)
        if yaw == 0:
            folder.put(f"{at}/{picture_name(None)}", data)
    identity = SuiteIdentity(
        id=name,
        kind="virtual",
        source=SOURCE,
        licence=LICENCE,
        creator="harmoview bench make",
        seed=who.seed,
    )
    folder.put(f"{at}/identity.json", identity_json(identity))


def _cases(people: dict[str, Distinct], wanted: VirtualSuite) -> list[Case]:
    """One person, one person, two people, and again; everyone appears about as often."""
    names, cases, at = sorted(people), [], 0
    prompts: set[str] = set()
    for number in range(1, wanted.cases + 1):
        count = 2 if number % 3 == 0 else 1
        shown = [names[(at + k) % len(names)] for k in range(count)]
        at += count
        for attempt in range(1000):  # prompts differ, or one video could stand for two cases
            case = _case(number, shown, people, wanted, attempt)
            if case.prompt not in prompts:
                break
        else:
            raise UserError(f"no prompt of its own was found for case {number}; ask for fewer")
        prompts.add(case.prompt)
        cases.append(case)
    return cases


def _case(
    number: int, names: list[str], people: dict[str, Distinct], wanted: VirtualSuite, attempt: int
) -> Case:
    who = [people[name].invented for name in names]
    low, high = TURNS[number % len(TURNS)]
    wide = wanted.height if len(names) == 1 else round(wanted.height * 7 / 4 / 16) * 16
    places = ("left", "right") if len(names) == 2 else (None,)
    case = Case(
        id=f"{'pair' if len(names) == 2 else 'solo'}-{number:03d}",
        prompt="",
        identities=tuple(
            CaseIdentity(name, role, one.words, place)  # type: ignore[arg-type]
            for name, role, one, place in zip(names, "AB", who, places, strict=False)
        ),
        shown=YAWS,
        seed=derived_seed(wanted.seed, number, attempt) % 2**31,
        width=wide,
        height=wanted.height,
        frames=wanted.frames,
        fps=wanted.fps,
        requests={"yaw": (float(low), float(high))},
        tags=("pair" if len(names) == 2 else "solo", f"turn{high - low}"),
    )
    words = [one.words for one in who]
    subject = words[0] if len(words) == 1 else f"On the left {words[0]}, on the right {words[1]}"
    verb = "turns the head" if len(words) == 1 else "turn their heads"
    text = f"{subject[0].upper()}{subject[1:]} {verb} from side to side in front of "
    return replace(case, prompt=f"{text}{case_scene(case).name}.")
