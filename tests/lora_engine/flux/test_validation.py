import numpy as np

from lora_engine.flux.validation import validate
from lora_engine.views import MeasuredView

YAWS = (-30, 0, 30)


def picture(value):
    return np.full((16, 16, 3), value, np.uint8)


def test_views_and_measurements_go_with_their_yaw():
    """What was made for a yaw is measured and kept under that yaw."""

    def synthesize(reference, yaws, seeds):
        return [picture(100 + yaw) for yaw in yaws]

    def measure(reference, views):
        return [MeasuredView(float(view[0, 0, 0]) - 100, 0.5) for view in views]

    people = validate([("a", picture(1)), ("b", picture(2))], YAWS, synthesize, measure)
    assert [person.key for person in people] == ["a", "b"]
    assert all(person.measured[yaw].yaw == yaw for person in people for yaw in YAWS)


def test_seeds_belong_to_person_and_yaw():
    """The same person's seeds are the same in every validation, and no two are equal."""
    seen = []

    def synthesize(reference, yaws, seeds):
        seen.append(tuple(seeds))
        return [picture(0) for _ in yaws]

    def measure(reference, views):
        return [MeasuredView(None, None) for _ in views]

    for people in (["a", "b"], ["b"]):
        validate([(key, picture(0)) for key in people], YAWS, synthesize, measure)
    assert seen[1] == seen[2]
    assert len({seed for seeds in seen for seed in seeds}) == 6
