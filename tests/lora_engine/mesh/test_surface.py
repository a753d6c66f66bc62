"""Laws of mesh geometry."""

import numpy as np

from lora_engine.mesh.surface import averaging, edges, normals, smoothed, subdivision, triangles_of

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)
GRID = np.arange(25).reshape(5, 5)
PLANE = np.stack([GRID[:-1, :-1], GRID[:-1, 1:], GRID[1:, 1:], GRID[1:, :-1]], axis=-1).reshape(
    -1, 4
)


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
