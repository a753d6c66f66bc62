"""Laws of the light."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_engine.mesh.geometry import Light, basis, estimate


def hemisphere(count=1500):
    """Unit normals that a camera can see."""
    normals = np.random.default_rng(1).normal(size=(count, 3))
    normals[:, 2] = abs(normals[:, 2])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(60, 200))
def test_a_light_is_recovered_from_what_it_shows(side, up, tone):
    """Evenly coloured skin under a known light gives that light back, but for its strength."""
    normals = hemisphere()
    truth = Light(np.array([0.9, side, up, 0.1, 0, 0, 0, 0, 0]))
    shown = tone * truth(normals)
    found = estimate(normals, shown)(normals)
    np.testing.assert_allclose(found, shown / np.median(shown), atol=0.08)


def test_spots_hardly_disturb_the_estimate():
    """A tenth of the skin being dark hair changes the light by little."""
    normals = hemisphere()
    shown = 150 * Light(np.array([0.9, 0.2, 0.1, 0.1, 0, 0, 0, 0, 0]))(normals)
    clean = estimate(normals, shown)(normals)
    shown[::10] = 20
    assert abs(estimate(normals, shown)(normals) - clean).mean() < 0.03


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_lamp_brightens_the_side_it_stands_on(side):
    """The surface that faces the lamp is the brightest."""
    light = Light.from_direction(np.array([side, 0.2, 0.5]), key=0.4)
    left, right = light(np.array([[-0.8, 0, 0.6], [0.8, 0, 0.6]]))
    assert (right - left) * side > 0.1


def test_the_kernel_computes_the_basis():
    """Shading is the weighted sum of the nine harmonics, within bounds."""
    normals = hemisphere(200)
    weights = np.random.default_rng(2).normal(0, 0.1, 9) + np.eye(9)[0]
    expected = np.clip(basis(normals) @ weights, 0.3, 1.7)
    np.testing.assert_allclose(Light(weights)(normals), expected, atol=1e-6)
