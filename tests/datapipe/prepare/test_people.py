"""Laws of grouping faces into people."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.faces.base import Face
from datapipe.prepare.people import Sighting, attach, distinct, found_again, group, iou
from datapipe.record import Pose

POINTS = np.zeros((5, 2), np.float32)


def sighting(frame: int, who: int, left: float, side: float = 100, yaw: float = 0) -> Sighting:
    """A face whose detector score tells who it is."""
    box = (left, 0.0, left + side, side)
    return Sighting(frame, Face(box, POINTS, who / 10, Pose(yaw, 0, 0)))


def embed(sightings) -> np.ndarray:
    """Each person has a direction of their own."""
    return np.stack([np.eye(10, dtype=np.float32)[round(s.face.score * 10)] for s in sightings])


def never(one: int, other: int) -> bool:
    return False


def always(one: int, other: int) -> bool:
    return True


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=10), st.booleans())
def test_people_are_told_apart_by_their_faces_whatever_frames_they_share(frames, same_shot):
    """Everyone is one person, seen once a frame: in a mirror, too."""
    probes = [
        [sighting(index, who, 140.0 * place) for place, who in enumerate(people)]
        for index, people in enumerate(frames)
    ]
    people = group(probes, always if same_shot else never, embed, 0.4)
    everyone = {who for some in frames for who in some}
    assert len(people) <= sum(map(len, probes))
    if not same_shot:  # places are no help: every face is embedded
        assert len(people) == len(everyone)
    for person in people:
        indices = [s.frame for s in person.sightings]
        assert len(indices) == len(set(indices))


def test_faces_that_look_much_alike_in_one_frame_stay_two():
    """What makes one person of two frames does not make one of two faces seen together."""

    def alike(sightings) -> np.ndarray:
        angles = np.array([0.9 * round(s.face.score * 10) for s in sightings])
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    together = [[sighting(n, 0, 0), sighting(n, 1, 300)] for n in range(3)]
    assert len(group(together, always, alike, 0.4)) == 2
    apart = [[sighting(n, n % 2, 300.0 * n)] for n in range(4)]
    assert len(group(apart, never, alike, 0.4)) == 1


def test_of_a_mirror_image_the_less_prominent_goes():
    """The larger of two sightings of one person in a frame stays."""
    probes = [[sighting(n, 0, 0, side=60), sighting(n, 0, 300, side=100)] for n in range(4)]
    (person,) = group(probes, always, embed, 0.4)
    assert [s.face.size for s in person.sightings] == [100] * 4


def test_a_face_with_two_boxes_is_one_face():
    """A box that is mostly inside a larger one goes; two heads side by side stay."""
    face = sighting(0, 0, 0, side=100).face
    inner = Face((20.0, 30.0, 80.0, 110.0), POINTS, 0.5, None)
    beside = sighting(0, 1, 70).face
    assert distinct([inner, face, beside]) == [face, beside]


def test_a_face_that_moves_between_shots_is_known_by_its_embedding():
    """Places change with every cut; faces do not."""
    probes = [[sighting(n, n % 2, 300.0 * (n % 3))] for n in range(12)]
    people = group(probes, never, embed, 0.4)
    assert sorted(len(person.sightings) for person in people) == [6, 6]
    for person in people:
        assert len({s.face.score for s in person.sightings}) == 1


def test_few_faces_of_a_track_are_embedded():
    """A face that stays in its place costs two embeddings however often it is seen."""
    count = 0

    def counted(sightings):
        nonlocal count
        count += len(sightings)
        return embed(sightings)

    probes = [[sighting(n, 0, n), sighting(n, 1, 200 + n)] for n in range(16)]
    assert len(group(probes, always, counted, 0.4)) == 2
    assert count == 4


def test_the_largest_and_longest_seen_comes_first():
    """Prominence is size summed over time; who is only seen from the side comes last."""
    probes = [
        [sighting(n, 0, 0, side=50), sighting(n, 1, 200, side=90, yaw=80)]
        + ([sighting(n, 2, 400, side=60)] if n < 8 else [])
        for n in range(10)
    ]
    people = group(probes, always, embed, 0.4)
    assert [round(p.sightings[0].face.score * 10) for p in people] == [0, 2, 1]


def test_a_face_goes_to_the_best_overlap_and_to_one_person_only():
    """Two people near each other each keep their own."""
    people = group([[sighting(0, 0, 0), sighting(0, 1, 60)]], always, embed, 0.4)
    later = [sighting(1, 1, 55), sighting(1, 0, 5)]
    assert len(attach(people, later, always)) == 2
    for person in people:
        assert len({s.face.score for s in person.sightings}) == 1


@given(*[st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(1, 50)] * 2)] * 2)
def test_overlap_is_symmetric_and_between_0_and_1(a, b):
    """And 1 for a box with itself."""
    one, other = ((x, y, x + w, y + h) for x, y, w, h in (a, b))
    assert 0 <= iou(one, other) == iou(other, one) <= 1
    assert abs(iou(one, one) - 1) < 1e-9


def test_a_probed_face_is_found_again_at_full_size_or_not_at_all():
    """Half as large in the probe, it is the one whose box fits twice that; elsewhere is nobody."""
    probed = sighting(0, 0, 10, side=40).face
    same, near, far = (sighting(0, n, left, side=80).face for n, left in enumerate((24, 60, 900)))
    assert found_again(probed, [near, same, far], 0.5) is same
    assert found_again(probed, [far], 0.5) is None
    assert found_again(probed, [], 0.5) is None
