"""Pairs that lie close together: none invented, hardly one missed, the same on every machine."""

import numpy as np
import pytest

from dataset.people.clusters import NEIGHBOURS, cluster, components, exact_pairs, near_pairs


def quiet(*_):
    pass


def units(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowd(seed, people=400, videos=4, width=64, spread=0.5):
    """Embeddings of some people, in several videos each."""
    rng = np.random.default_rng(seed)
    faces = units(rng.standard_normal((people, width)))
    other = units(rng.standard_normal((people * videos, width)))
    return units(np.repeat(faces, videos, axis=0) + spread * other)


def pairs_of(found):
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def by_hand(vectors, threshold):
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    first, second = np.nonzero(np.triu(cosines >= threshold, 1))
    return set(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.5, 0.65, 0.8])
def test_the_index_finds_nearly_all_and_invents_none(threshold):
    """Against every cosine by hand: no pair too many, at least 99 % of them."""
    vectors = crowd(0)
    found, wanted = pairs_of(near_pairs(vectors, threshold, quiet)), by_hand(vectors, threshold)
    assert wanted
    assert found <= wanted
    assert len(found) >= 0.99 * len(wanted)


def test_the_exact_search_finds_all():
    """Every pair of some rows, with its cosine, once."""
    vectors = crowd(1)
    rows = np.arange(0, len(vectors), 7)
    found = exact_pairs(vectors, rows, 0.6, quiet)
    chosen = set(rows.tolist())
    assert pairs_of(found) == {pair for pair in by_hand(vectors, 0.6) if chosen & set(pair)}
    dots = (vectors[found.first].astype(np.float64) * vectors[found.second]).sum(axis=1)
    np.testing.assert_allclose(found.cosine, dots, atol=1e-12)
    assert len(pairs_of(found)) == len(found)


def test_the_same_vectors_give_the_same_pairs():
    """Twice, to the bit."""
    vectors = crowd(2)
    once, again = (near_pairs(vectors, 0.6, quiet) for _ in range(2))
    for name in ("first", "second", "cosine"):
        np.testing.assert_array_equal(getattr(once, name), getattr(again, name))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_vectors_are_no_trouble(count):
    """None, one and two alike."""
    vectors = np.tile(units([[3.0, 4.0]]), (count, 1))
    assert len(near_pairs(vectors, 0.9, quiet)) == count // 2
    assert cluster(vectors, 0.9, quiet).labels.tolist() == [0] * count


def test_zero_vectors_are_near_to_nobody():
    """An identity without an embedding is alone."""
    vectors = np.zeros((5, 8), np.float32)
    assert cluster(vectors, 0.1, quiet).labels.tolist() == [0, 1, 2, 3, 4]


def test_one_person_in_two_dense_sources_is_one_cluster():
    """Many clips of one interview, many of another: each is dense enough to hide the other."""
    rng = np.random.default_rng(3)
    width, clips = 64, 3 * NEIGHBOURS
    face = units(rng.standard_normal((1, width)))[0]
    parts = []
    for _ in range(2):
        interview = face + 0.6 * units(rng.standard_normal((1, width)))[0]
        parts.append(interview + 0.1 * units(rng.standard_normal((clips, width))))
    vectors = units(np.concatenate([*parts, rng.standard_normal((500, width))]))
    plain = near_pairs(vectors, 0.65, quiet)
    apart = components(len(vectors), plain.first, plain.second)
    assert apart[0] != apart[clips]
    labels = cluster(vectors, 0.65, quiet).labels
    assert len(set(labels[: 2 * clips].tolist())) == 1
    assert labels[-1] != labels[0]


def test_clusters_are_numbered_by_their_first_member():
    """So that the numbers depend on nothing but who belongs to whom."""
    first, second = np.array([1, 2]), np.array([4, 3])
    assert components(6, first, second).tolist() == [0, 1, 2, 2, 1, 3]
