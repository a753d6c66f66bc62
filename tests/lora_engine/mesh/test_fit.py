"""Laws of the fit, on heads whose shape is known."""

import numpy as np
import pytest

from lora_engine.mesh.anatomy import Phenotype
from lora_engine.mesh.fit import fit

pytestmark = pytest.mark.weights
UNIT = 250.0  # pixels per decimetre


def known_head(base, seed):
    """A random symmetric head and its landmarks as an exact landmarker would see them."""
    anatomy = base.anatomy
    amounts = np.random.default_rng(seed).uniform(-0.4, 0.4, len(anatomy.directions))
    mean = anatomy.mean(Phenotype())
    shape = mean + np.tensordot(amounts, anatomy.directions, axes=1)
    marks = base.where.on(shape)
    offset = marks - marks.mean(axis=0)
    flat = offset[:, :2] / (1 - offset[:, 2:] / 12.0)  # the fit's own assumed distance
    points = np.zeros((478, 3))
    points[:468] = np.column_stack([flat, offset[:, 2]]) * UNIT + [400, -400, 0]
    return shape, points


def sized(marks):
    """Landmarks about their middle, at one size: a picture does not tell how large a head is."""
    offset = marks - marks.mean(axis=0)
    return offset * 0.5 / np.sqrt((offset[:, :2] ** 2).mean())


@pytest.mark.parametrize("seed", range(3))
def test_a_known_face_is_found_again(base, seed):
    """Landmarks are met to half a millimetre, and depth is nearer the truth than the average is."""
    shape, points = known_head(base, seed)
    found = fit(base.anatomy, base.where, points, Phenotype())
    average = base.anatomy.mean(Phenotype())
    truth, got, plain = (sized(base.where.on(v)) for v in (shape, found.shape, average))
    assert np.abs(got - truth)[:, :2].mean() < 0.005
    assert np.abs(got - truth)[:, 2].mean() < 0.8 * np.abs(plain - truth)[:, 2].mean()


def test_the_shape_is_symmetric_and_the_aligned_one_meets_the_picture(base):
    """A crooked face stays crooked only in the shape that colours are taken through."""
    _, points = known_head(base, 5)
    points[:468, 0] += 6 * (points[:468, 1] > -380)  # the upper half of the face slips aside
    found = fit(base.anatomy, base.where, points, Phenotype())
    mirrored = found.shape[base.anatomy.mirror] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, found.shape, atol=1e-3)
    pixels = found.camera.to_pixels(base.where.on(found.aligned))[:, :2]
    assert np.abs(pixels - found.landmarks[:468]).mean() < 1.0


def test_a_turned_camera_is_known(base):
    """A face seen from 20 degrees aside is told to be turned by about that."""
    shape, _ = known_head(base, 7)
    marks = base.where.on(shape)
    angle = np.radians(20)
    ways = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    points = np.zeros((478, 3))
    points[:468] = (marks - marks.mean(axis=0)) @ ways.T * UNIT + [400, -400, 0]
    found = fit(base.anatomy, base.where, points, Phenotype())
    assert found.camera.angle == pytest.approx(20, abs=2.5)
