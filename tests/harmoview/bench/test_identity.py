"""Laws of matching people and of the figures by yaw, on embeddings that are made up."""

import numpy as np
import pytest

from harmoview.bench.faces import Faces, KnownFaces
from harmoview.bench.identity import BINS, crosstalk, identity_scores
from tests.harmoview.bench.suites import case

YAWS = (-90, -60, -30, 0, 30, 60, 90)
NAMES = ("anna", "bert", "cora")
PAIR = case("pair-1", ("anna", "bert"))
SOLO = case("solo-1", ("anna",))


def unit(vector):
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def known():
    """Three people at seven yaws; a person's views are alike, people are about at right angles."""
    rng = np.random.default_rng(0)
    people = rng.normal(size=(3, 1, 64))
    return KnownFaces(NAMES, YAWS, unit(people + 0.35 * rng.normal(size=(3, 7, 64))).astype("f4"))


def seen(known, *tracks):
    """Faces of some tracks, each (yaws of its frames, function of a yaw to a vector, x)."""
    rows = [
        (frame, number, yaw, at, unit(look(yaw)))
        for number, (yaws, look, at) in enumerate(tracks)
        for frame, yaw in enumerate(yaws)
    ]
    count = len(rows)
    pose = np.zeros((count, 3), np.float32)
    pose[:, 0] = [row[2] for row in rows]
    vectors = np.array([row[4] for row in rows], np.float32).reshape(count, 64)
    return Faces(
        sampled=max((len(yaws) for yaws, *_ in tracks), default=4) or 4,
        width=640,
        frame=np.array([row[0] for row in rows], np.int64),
        track=np.array([row[1] for row in rows], np.int64),
        box=np.array([[row[3], 0, row[3] + 50, 50] for row in rows], np.float32).reshape(-1, 4),
        score=np.ones(count, np.float32),
        pose=pose,
        true_yaw=np.full(count, np.nan, np.float32),
        sharpness=np.full(count, 0.5, np.float32),
        cosines=known.cosines(vectors),
    )


def view(known, name):
    """A person as their nearest reference."""
    place = NAMES.index(name)
    return lambda yaw: known.vectors[place, np.abs(np.array(YAWS) - yaw).argmin()]


def mix(known, one, other, share):
    a, b = view(known, one), view(known, other)
    return lambda yaw: (1 - share) * a(yaw) + share * b(yaw)


def value(scores, metric, identity="", variant=""):
    (found,) = [
        one
        for one in scores
        if (one.metric, one.identity, one.variant) == (metric, identity, variant)
    ]
    return found.value


TURN = (-80, -60, -50, -30, -20, 0, 0, 5, 20, 30, 50, 60, 70)


def test_people_are_matched_to_whom_they_look_like(known):
    """Whatever the order of their tracks; whoever stands on the wrong side is swapped."""
    anna, bert = view(known, "anna"), view(known, "bert")
    for first, second in ((0, 400), (400, 0)):
        for tracks in (
            [(TURN, anna, first), (TURN, bert, second)],
            [(TURN, bert, second), (TURN, anna, first)],
        ):
            scores = identity_scores(seen(known, *tracks), known, PAIR)
            for name in ("anna", "bert"):
                assert value(scores, "hv_face_view", name) == pytest.approx(1, abs=1e-5)
                assert value(scores, "hv_rank1", name) == 1
                assert value(scores, "hv_missing", name) == 0
            assert value(scores, "hv_swapped") == (first > second)
            assert value(scores, "hv_assign_margin") > 0.5
            assert value(scores, "hv_ambiguous") == 0


def test_a_missing_person_is_a_row_and_a_stranger_is_extra(known):
    """Not a dropped row: missing 1, no cosine; a third person counts as extra."""
    anna, cora = view(known, "anna"), view(known, "cora")
    scores = identity_scores(seen(known, (TURN, anna, 0)), known, PAIR)
    assert value(scores, "hv_missing", "bert") == 1
    assert value(scores, "hv_face_view", "bert") is None
    assert value(scores, "hv_swapped") is None
    three = seen(known, (TURN, anna, 0), (TURN, view(known, "bert"), 400), (TURN, cora, 200))
    assert value(identity_scores(three, known, PAIR), "hv_extra_people") == 1
    nobody = identity_scores(seen(known), known, SOLO)
    assert value(nobody, "hv_missing", "anna") == 1
    assert value(nobody, "hv_detected", "anna") == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.4])
def test_crosstalk_of_a_linear_mix_is_its_share(known, share):
    """Exactly, however alike the two are; and the figure of a whole video is near it."""
    a, b = known.vectors[0, 3].astype(float), known.vectors[1, 3].astype(float)
    mixed = unit((1 - share) * a + share * b)
    found = crosstalk(*(np.array([x]) for x in (mixed @ a, mixed @ b, a @ b)))
    assert found[0] == pytest.approx(share, abs=1e-6)
    tracks = (
        (TURN, mix(known, "anna", "bert", share), 0),
        (TURN, mix(known, "bert", "anna", share), 400),
    )
    scores = identity_scores(seen(known, *tracks), known, PAIR)
    assert value(scores, "hv_crosstalk", "anna") == pytest.approx(share, abs=1e-4)


def test_cosines_are_told_by_yaw_with_their_share(known):
    """Exposures add up to one; a bin without three frames leaves the equal-weight mean blank."""
    anna = view(known, "anna")
    scores = identity_scores(seen(known, (TURN, anna, 0)), known, SOLO)
    shares = [value(scores, "hv_exposure", "anna", name) for name in BINS]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(3 / len(TURN))
    assert value(scores, "hv_face_std", "anna") == pytest.approx(1, abs=1e-5)
    front = [value(scores, "hv_face_front", "anna", name) for name in BINS]
    assert front[0] > max(front[1:])
    still = identity_scores(seen(known, ((0, 1, 2, 3), anna, 0)), known, SOLO)
    assert value(still, "hv_face_std", "anna") is None
    assert value(still, "hv_face_view", "anna", "45-75") is None


def test_frontal_features_on_a_turned_head_match_no_view(known):
    """1 for a copy of the view, 0 or less for the frontal face, which the frontal cosine likes."""
    turned = (-60, -60, -60, 60, 60, 60)
    true = identity_scores(seen(known, (turned, view(known, "anna"), 0)), known, SOLO)
    front = known.vectors[0, 3]
    flat = identity_scores(seen(known, (turned, lambda yaw: front, 0)), known, SOLO)
    assert value(true, "hv_view_match", "anna", "45-75") == pytest.approx(1, abs=1e-4)
    assert value(flat, "hv_view_match", "anna", "45-75") == pytest.approx(-1, abs=1e-4)
    assert value(flat, "hv_face_front", "anna") > value(true, "hv_face_front", "anna")


def test_reaching_the_yaw_that_was_asked_for(known):
    """The share of the requested range that the head went through."""
    anna = view(known, "anna")
    for turn, share in (((-90, 90) * 20, 1.0), ((-45, 45) * 20, 0.5), ((0, 0) * 20, 0.0)):
        scores = identity_scores(seen(known, (turn, anna, 0)), known, SOLO)
        assert value(scores, "hv_yaw_reached", "anna") == pytest.approx(share)
