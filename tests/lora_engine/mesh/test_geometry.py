"""Laws of quad meshes and z-buffers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lora_engine.mesh.geometry import (
    averaging,
    buffers,
    edges,
    interpolate,
    normals,
    smoothed,
    strands,
    subdivision,
    triangles,
    triangles_of,
)

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)
GRID = np.arange(25).reshape(5, 5)
PLANE = np.stack([GRID[:-1, :-1], GRID[:-1, 1:], GRID[1:, 1:], GRID[1:, :-1]], axis=-1).reshape(
    -1, 4
)

SIDE = 12
places = arrays(float, (4, 3, 3), elements=st.floats(-3, 15, width=32).map(float))


def drawn(corners, cut=None):
    depth, which, weight = buffers(SIDE, SIDE)
    triangles(corners, np.ones(corners.shape[:2]) if cut is None else cut, depth, which, weight, 0)
    return depth, which, weight


@settings(max_examples=60)
@given(places)
def test_the_nearest_triangle_is_kept(corners):
    """All together, each pixel shows the nearest of what the triangles show alone."""
    together = drawn(corners)[0]
    alone = np.stack([drawn(corners[k : k + 1])[0] for k in range(len(corners))])
    np.testing.assert_array_equal(together, alone.max(axis=0))


@settings(max_examples=60)
@given(places)
def test_weights_give_back_the_pixel(corners):
    """The weighted corners of a pixel's triangle lie at that pixel."""
    _, which, weight = drawn(corners)
    seen = which >= 0
    names = np.arange(corners.shape[0] * 3).reshape(-1, 3)
    found = interpolate(corners.reshape(-1, 3).astype(float), names, which[seen], weight[seen])
    rows, columns = np.nonzero(seen)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    firm = abs(area[which[seen]]) > 0.5  # a sliver's weights are ill-conditioned
    np.testing.assert_allclose(found[firm, 0], columns[firm], atol=1e-3)
    np.testing.assert_allclose(found[firm, 1], rows[firm], atol=1e-3)


def test_a_triangle_is_open_where_its_cut_is_negative():
    """With a cut of minus one on one side and plus one on the other, half is drawn."""
    square = np.array([[[0, 0, 1], [11, 0, 1], [0, 11, 1]], [[11, 11, 1], [0, 11, 1], [11, 0, 1]]])
    cut = np.array([[-1, 1, -1], [1, -1, 1]], float)  # minus one at the left border
    _, which, _ = drawn(square.astype(float), cut)
    assert (which[:, :5] < 0).all()
    assert (which[:, 6:] >= 0).all()


@pytest.mark.parametrize(("near", "colour"), [(2.0, 200), (0.0, 9)])
def test_a_strand_is_drawn_only_where_it_is_nearer(near, colour):
    """A strand in front of a surface is seen, one behind is not."""
    depth, canvas = np.ones((SIDE, SIDE), np.float32), np.full((SIDE, SIDE, 3), 9, np.float32)
    points = np.array([[[1, 6, near], [10, 6, near]]], float)
    strands(points, np.full((1, 2, 3), 200.0), np.full((1, 2), 1.5), depth, canvas)
    assert (canvas[6, 2:9] == colour).all()
    assert (canvas[9] == 9).all()


def test_normals_point_out_of_a_closed_surface():
    """A cube's vertex normals are its diagonals, of length one."""
    out = normals(CUBE, triangles_of(QUADS))
    assert (np.sign(out) == np.sign(CUBE)).all()
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1)


def test_subdivision_averages():
    """Every fine vertex is a weighted mean of coarse ones, so that constants stay constant."""
    matrix, fine = subdivision(QUADS, len(CUBE))
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert len(fine) == 4 * len(QUADS)
    assert matrix.shape[0] == len(CUBE) + len(edges(QUADS)) + len(QUADS)


def test_subdivision_moves_towards_the_limit_surface():
    """Catmull and Clark's rule takes a cube's corner (1, 1, 1) to (5/9, 5/9, 5/9)."""
    matrix, _ = subdivision(QUADS, len(CUBE))
    np.testing.assert_allclose(matrix[: len(CUBE)] @ CUBE, CUBE * 5 / 9)


def test_subdivision_keeps_the_border():
    """Border vertices of an open mesh stay where they are."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(25, 3))
    matrix, _ = subdivision(PLANE, 25)
    border = np.unique(np.concatenate([GRID[0], GRID[-1], GRID[:, 0], GRID[:, -1]]))
    np.testing.assert_allclose((matrix @ values)[border], values[border])


def test_smoothing_keeps_constants_and_flattens_the_rest():
    """Averaging with the neighbours changes nothing even and shrinks what is not."""
    step = averaging(PLANE, 25)
    np.testing.assert_allclose(smoothed(np.ones((25, 1)), step, 3), 1)
    spike = np.zeros((25, 1))
    spike[12] = 1
    assert smoothed(spike, step, 3).max() < 0.3
