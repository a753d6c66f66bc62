"""Laws of the head model."""

import numpy as np
import pytest

from lora_engine.mesh.anatomy import Phenotype, shading_normals
from lora_engine.mesh.texture import HEIGHT, WIDTH

pytestmark = pytest.mark.weights
FLIP = np.array([-1, 1, 1])


@pytest.mark.parametrize("male", [0.0, 0.5, 1.0])
def test_heads_are_symmetric(base, male):
    """An average head equals its mirror image, and so does every direction it may differ in."""
    anatomy = base.anatomy
    mean = anatomy.mean(Phenotype(male=male))
    np.testing.assert_allclose(mean[anatomy.mirror] * FLIP, mean, atol=1e-3)
    moved = anatomy.directions[:, anatomy.mirror] * FLIP
    np.testing.assert_allclose(moved, anatomy.directions, atol=1e-9)


def test_every_average_has_its_eyes_in_the_same_place(base):
    """Women, men and all ancestries can be mixed without a shift."""
    eyes = np.concatenate(base.anatomy.eyes)
    kinds = [Phenotype(m, *share) for m in (0.0, 1.0) for share in np.eye(3)]
    middles = [base.anatomy.mean(kind)[eyes].mean(axis=0) for kind in kinds]
    np.testing.assert_allclose(middles, np.tile(middles[0], (len(kinds), 1)), atol=1e-9)


def test_landmarks_lie_on_the_mesh_in_mirrored_pairs(base):
    """Each landmark's mirror is its own inverse, and the chin is below the lips, below the nose."""
    where = base.where
    np.testing.assert_array_equal(where.mirror[where.mirror], np.arange(478))
    marks = where.on(base.anatomy.mean(Phenotype()))
    pairs = marks[where.mirror[:468]] * FLIP
    assert np.abs(pairs - marks).mean() < 0.02
    assert marks[152, 1] < marks[13, 1] < marks[4, 1] < marks[10, 1]


def test_the_atlas_gives_vertices_their_own_values_back(base):
    """What is spread over the texture is found again at the vertices, but for hidden folds."""
    fine = base.anatomy.refine(base.anatomy.mean(Phenotype()))
    spread = base.atlas.spread(fine)
    assert spread.shape == (HEIGHT, WIDTH, 3)
    face = (fine[:, 2] > 1.0) & (base.anatomy.ear < 0.1)
    gap = base.atlas.on_vertices(spread[..., 1])[face] - fine[face, 1]
    assert np.percentile(abs(gap), 75) < 0.02


def test_shading_normals_are_unit_and_symmetric(base):
    """Light cannot favour a side of a symmetric head."""
    fine = base.anatomy.refine(base.anatomy.mean(Phenotype()))
    out = shading_normals(fine, base.anatomy)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1)
    assert abs(out[:, 0].sum()) < 1e-2 * len(out)
