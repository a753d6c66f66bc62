"""Laws of glasses."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lora_engine.mesh.anatomy import Phenotype
from lora_engine.mesh.geometry import normals
from lora_engine.mesh.glasses import GlassesStyle, put_on
from lora_engine.mesh.head import eye_centre

pytestmark = pytest.mark.weights
STYLES = [
    GlassesStyle(np.array([20.0, 20, 20]), corners=4.0, thick=0.02),
    GlassesStyle(np.array([150.0, 150, 155]), 0.23, 0.22, 2.0, 0.008),
]
FLIP = np.array([-1, 1, 1])


@pytest.fixture(scope="module", params=range(4))
def head(base, request):
    """Fine vertices of some head, and its eyes; the first is an average one."""
    anatomy = base.anatomy
    amounts = np.random.default_rng(request.param).normal(0, 0.4, len(anatomy.directions))
    shape = anatomy.mean(Phenotype(male=request.param % 2))
    shape = shape + np.tensordot(amounts * (request.param > 0), anatomy.directions, axes=1)
    return anatomy.refine(shape), np.stack([eye_centre(shape[eye])[0] for eye in anatomy.eyes])


@pytest.mark.parametrize("style", STYLES, ids=["thick", "wire"])
def test_they_are_worn_on_the_face_and_not_in_it(base, head, style):
    """No lens touches skin, nor does the frame but for the nose, the ears and what is behind them;
    and both are near the face."""
    fine, eyes = head
    worn = put_on(style, eyes, fine, base.anatomy)
    skin = fine[base.anatomy.ear < 0.3]
    out = normals(fine, base.anatomy.triangles)[base.anatomy.ear < 0.3]
    ears = fine[base.anatomy.ear > 0.5, 2].max()
    frame = worn.vertices[(worn.vertices[:, 2] > ears) & (abs(worn.vertices[:, 0]) > 0.15)]
    for points in (frame, worn.lenses[abs(worn.lenses[:, 0]) > 0.15]):
        away, near = cKDTree(skin).query(points)
        assert (((points - skin[near]) * out[near]).sum(axis=1) > 0).all()
        assert away.max() < 0.5


@pytest.mark.parametrize("style", STYLES, ids=["thick", "wire"])
def test_each_eye_is_behind_the_middle_of_its_lens(base, head, style):
    """The glasses are symmetric, and their arms reach behind the front of the ears."""
    fine, eyes = head
    worn = put_on(style, eyes, fine, base.anatomy)
    half = len(worn.lenses) // 2
    np.testing.assert_array_equal(worn.lenses[:half] * FLIP, worn.lenses[half:])
    for lens, eye in (
        (worn.lenses[:half], eyes.max(axis=0)),
        (worn.lenses[half:], eyes.min(axis=0)),
    ):
        assert abs(lens[-1, :2] - eye[:2]).max() < 0.1
        assert lens[:, 2].min() > eye[2]
    assert worn.vertices[:, 2].min() < fine[base.anatomy.ear > 0.5, 2].mean()
    assert np.linalg.norm(worn.out, axis=1) == pytest.approx(1)
