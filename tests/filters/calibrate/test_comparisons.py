"""Who is compared with whom."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from filters.calibrate.comparisons import Embedded, comparisons, people
from tests.filters.calibrate.crowd import crowd, unit


def test_every_view_meets_its_own_reference_and_everyone_elses_once():
    """n people with two views each: 2 n genuine, 2 n (n - 1) impostor comparisons."""
    embedded = crowd(7, 0)
    (at,) = comparisons(embedded, people(embedded.references, 1))
    assert (at.yaw, at.people, len(at.genuine), len(at.impostor)) == (30, 7, 14, 84)
    cosine = embedded.references @ embedded.views.T
    own = np.arange(7)[:, None] == embedded.owner
    assert np.allclose(np.sort(at.genuine), np.sort(cosine[own]), atol=1e-4)
    assert np.allclose(np.sort(at.impostor), np.sort(cosine[~own]), atol=1e-4)


@given(st.integers(2, 12), st.integers(0, 99), st.floats(0.2, 1.0))
def test_look_alikes_are_never_impostors(count, seed, same_person):
    """No impostor comparison is of references that may show one person; the rest are all there."""
    embedded = crowd(count, seed, videos=2)
    who = people(embedded.references, same_person)
    (at,) = comparisons(embedded, who)
    cosine = embedded.references @ embedded.references.T
    far_apart = (cosine < same_person - 1e-9) if same_person < 1 else ~np.eye(2 * count, dtype=bool)
    assert len(at.impostor) <= 2 * far_apart.sum()
    assert len(at.impostor) + len(at.alike) == 2 * 2 * count * (2 * count - 1)
    assert not np.any(at.reference_person == at.view_person)


def test_a_chain_of_look_alikes_is_not_one_person():
    """Only who look alike two by two are a group; a row of people each like the next is not."""
    angles = np.radians(np.arange(0, 180, 20))
    references = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    who = people(references, float(np.cos(np.radians(25))))
    assert who.groups >= 4
    for label in range(who.groups):
        assert np.sum(who.label == label) <= 2


def test_several_videos_of_a_person_are_one_group():
    """People, not videos, are what is counted."""
    embedded = crowd(12, 3, videos=4)
    near = unit(np.repeat(embedded.references[::4], 4, axis=0) + 0.001)
    who = people(near, 0.999)
    assert who.groups == 12
    assert all(len(set(who.label[i : i + 4])) == 1 for i in range(0, 48, 4))


def test_a_reference_is_not_compared_with_itself():
    """A frontal frame that is the reference has no genuine pair, but impostors."""
    rows = unit(np.random.default_rng(0).standard_normal((5, 8)))
    (at,) = comparisons(
        Embedded(rows, np.arange(5), np.zeros(5, int), rows, reference_yaw=0), people(rows, 1)
    )
    assert (len(at.genuine), len(at.impostor)) == (0, 20)
