"""Small suites for tests: the pictures show nobody, unless a test asks for people."""

import numpy as np

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import YAWS
from harmoview.bench.suite import load_suite, picture_names, seal, write_head
from harmoview.bench.suite_json import Case, CaseIdentity, SuiteIdentity, case_json, identity_json


def case(name="solo-1", people=("anna",), **more):
    """A case of one or two people."""
    places = ("left", "right") if len(people) == 2 else (None,)
    fields = {
        "prompt": f"In {name} {' and '.join(people)} look around.",
        "shown": YAWS,
        "seed": 0,
        "width": 128,
        "height": 128,
        "frames": 5,
        "fps": 16,
        "requests": {"yaw": (-90.0, 90.0)},
    }
    identities = tuple(
        CaseIdentity(who, role, who, place)
        for who, role, place in zip(people, "AB", places, strict=False)
    )
    return Case(id=name, identities=identities, **{**fields, **more})


def write_suite(path, cases, licence="CC0", seed=0):
    """A sealed suite whose pictures are noise."""
    folder = Folder(path)
    rng = np.random.default_rng(seed)
    for name in sorted({who.id for one in cases for who in one.identities}):
        for file in picture_names(YAWS):
            picture = rng.integers(0, 255, (32, 32, 3), np.uint8)
            folder.put(f"identities/{name}/{file}", encode_jpeg(picture))
        about = SuiteIdentity(name, "synthetic", "a test", "CC0", "a test")
        folder.put(f"identities/{name}/identity.json", identity_json(about))
    folder.put("cases.jsonl", "\n".join(map(case_json, cases)).encode())
    write_head(folder, version="1", yaws=YAWS, licence=licence)
    seal(folder)
    return load_suite(str(path))


def four_cases():
    """Three solo cases and a pair, of three people."""
    return [
        case("solo-1", ("anna",)),
        case("solo-2", ("bert",)),
        case("solo-3", ("cora",)),
        case("pair-1", ("anna", "bert")),
    ]
