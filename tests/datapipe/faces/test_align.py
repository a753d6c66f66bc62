"""Laws of cutting faces out of pictures."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.faces.crops import TEMPLATE, align, box_window, similarity, warp


def similar(points, scale, degrees, x, y):
    turn = np.radians(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (points @ matrix.T + [x, y]).astype(np.float32)


def picture(height=480, width=640):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 6)


@given(st.floats(0.3, 5), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500))
def test_a_similarity_is_found_exactly(scale, degrees, x, y):
    """Points that are a similar copy of the template go back to the template."""
    points = similar(TEMPLATE, scale, degrees, x, y)
    matrix = similarity(points, TEMPLATE)
    back = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(back, TEMPLATE, atol=2e-2)


@given(st.integers(0, 2**32 - 1))
def test_no_other_similarity_fits_better(seed):
    """On points that are no similar copy, any small change of the four numbers adds error."""
    rng = np.random.default_rng(seed)
    points = (similar(TEMPLATE, 2, 20, 100, 50) + rng.normal(0, 8, (5, 2))).astype(np.float32)
    matrix = similarity(points, TEMPLATE)

    def error(m):
        return ((points @ m[:, :2].T + m[:, 2] - TEMPLATE) ** 2).sum()

    for a, b, x, y in np.vstack([np.eye(4), -np.eye(4)]) * [[1e-3, 1e-3, 0.1, 0.1]]:
        assert error(matrix + np.array([[a, -b, x], [b, a, y]])) > error(matrix)


@pytest.mark.filterwarnings("ignore:`estimate` is deprecated")
def test_alignment_is_insightfaces():
    """The crop is the one that InsightFace's recognisers are fed."""
    from insightface.utils import face_align

    image = picture()
    points = similar(TEMPLATE, 1.7, 12, 200, 100) + np.float32(
        [[3, -2], [0, 4], [-5, 1], [2, 2], [1, 0]]
    )
    ours, theirs = align(image, points), face_align.norm_crop(image, points)
    assert np.abs(ours.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("side", [60.0, 150.0, 301.0])
def test_the_crop_of_a_mirrored_picture_is_the_mirrored_crop(side):
    """Cutting by box prefers neither side, at any scale."""
    image = picture()
    box = (200.0, 120.0, 200 + 0.8 * side, 120 + side)
    flipped = (640 - box[2], box[1], 640 - box[0], box[3])
    ours = warp(image, box_window(box, 112, 1.3, 0.1), 112)
    mirrored = warp(np.ascontiguousarray(image[:, ::-1]), box_window(flipped, 112, 1.3, 0.1), 112)
    assert np.abs(ours.astype(int) - mirrored[:, ::-1]).max() <= 2


def test_shrinking_averages():
    """A fine checkerboard becomes grey when shrunk: no pixel is skipped."""
    board = np.indices((480, 480)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    crop = warp(image, box_window((80, 80, 400, 400), 64, 1.0, 0.0), 64)
    assert 120 <= crop.min() <= crop.max() <= 135


def test_outside_the_picture_is_black():
    """A window past the edge, or wholly outside, is filled with black."""
    image = np.full((100, 100, 3), 200, np.uint8)
    half = warp(image, box_window((-400, -400, 400, 400), 64, 1.0, 0.0), 64)
    assert half[:30].max() == 0
    assert half[36, 36].min() == 200
    assert warp(image, box_window((500, 500, 900, 900), 64, 1.0, 0.0), 64).max() == 0
