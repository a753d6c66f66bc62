"""Laws of expressions: what counts, for whom, and that real smiles are told from rest."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.faces.base import Features
from datapipe.faces.insight import InsightFaces
from datapipe.faces.landmarks import BROWS, EYES, GAZE, MOUTH, expressions

REST = Features(0.005, 0.57, 0.3, np.zeros(52, np.float32))
SHAPES = [places for kinds in (MOUTH, EYES, GAZE, BROWS) for places, _ in kinds.values()]
faces = st.lists(
    st.builds(
        Features,
        st.floats(0, 1),
        st.floats(0.3, 1),
        st.floats(0, 0.6),
        st.lists(st.floats(0, 1, width=32), min_size=52, max_size=52).map(np.float32),
    ),
    max_size=6,
)


def doing(places, amount):
    shapes = np.zeros(52, np.float32)
    shapes[list(places)] = amount
    return replace(REST, shapes=shapes)


@given(faces, st.randoms())
def test_it_is_a_share_and_knows_no_order(some, random):
    """Between 0 and 1, one for each face, whichever face comes first."""
    found = expressions(some)
    assert all(0 <= value <= 1 for value in found)
    places = list(range(len(some)))
    random.shuffle(places)
    assert expressions([some[place] for place in places]) == [found[place] for place in places]


@pytest.mark.parametrize("places", SHAPES)
def test_whatever_part_moves_the_order_is_that_of_its_strength(places):
    """A face at rest has 0, and one that moves farther never has less."""
    some = [REST, REST, *(doing(places, amount) for amount in (0.2, 0.5, 0.8, 1.0))]
    found = expressions(some)
    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] > 0.3


def test_lips_and_lids_count_by_themselves():
    """The farther the lips are apart, or the nearer the lids, the more."""
    for name, amounts in (("lips", (0.005, 0.06, 0.12, 0.2)), ("lids", (0.3, 0.25, 0.18, 0.1))):
        found = expressions([replace(REST, **{name: amount}) for amount in amounts])
        assert found == sorted(found)
        assert len(set(found)) == len(found)


def test_a_persons_own_rest_is_none_of_their_expression():
    """Low brows and narrow eyes in every picture are how a person looks."""
    own = replace(doing((1, 2), 0.6), lids=0.23)
    assert expressions([own] * 4) == [0] * 4
    assert expressions([own] * 3 + [REST])[0] > 0.5


def test_whoever_talks_throughout_is_not_at_rest():
    """An open mouth stays one, however many of a person's pictures have it."""
    assert min(expressions([replace(REST, lips=0.3)] * 5)) == 1


@pytest.mark.weights
def test_smiling_selfies_are_told_from_calm_portraits(light, portraits, found):
    """Of nine people's pictures, alone and together, no calm one has as much as a laughing one."""
    read = {key: light.features(image, found[key]) for key, image in portraits.items()}
    alone = {key: expressions([features])[0] for key, features in read.items()}
    calm = [value for (_, kind), value in alone.items() if kind == "studio_portrait"]
    laughs = [key for key, features in read.items() if features.lips > 0.1]
    assert len(laughs) == 7
    assert max(calm) < 0.35
    assert min(alone[key] for key in laughs) > 0.7
    for person, _ in laughs:
        pair = [read[person, kind] for kind in ("studio_portrait", "amateur_selfie")]
        rest, laugh = expressions(pair)
        assert rest < laugh - 0.5


@pytest.mark.weights
def test_both_packs_read_a_face_alike(light, portraits, found):
    """One network reads for both, so that a score means the same whichever found the face."""
    key = ("P001", "amateur_selfie")
    insight = InsightFaces()
    insight._features = light._features
    ours, theirs = (pack.features(portraits[key], found[key]) for pack in (light, insight))
    np.testing.assert_array_equal(ours.shapes, theirs.shapes)


@pytest.mark.weights
def test_loading_says_nothing():
    """What a library would print of itself reaches neither stdout nor stderr."""
    code = "from datapipe.faces.light import LightFaces; LightFaces().setup()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.weights
def test_nothing_is_read_off_a_wall(light, portraits, found):
    """Where the network sees no face there are no features."""
    wall = np.full((512, 512, 3), 120, np.uint8)
    assert light.features(wall, found["P001", "studio_portrait"]) is None
