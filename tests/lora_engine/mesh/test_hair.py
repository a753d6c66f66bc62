"""Laws of hair."""

import numpy as np
import pytest

from lora_engine.mesh.anatomy import Phenotype
from lora_engine.mesh.hair import HairStyle, grow

pytestmark = pytest.mark.weights
PALETTE = np.array([[60.0, 40, 30], [70, 50, 40]])


@pytest.fixture(scope="module")
def skull(base):
    fine = base.anatomy.refine(base.anatomy.mean(Phenotype()))
    scalp = np.clip((fine[:, 1] - 7.6) * 4, 0, 1) * (fine[:, 2] < 1.1)
    return fine, base.anatomy, scalp


def test_hair_grows_where_the_scalp_is_and_nowhere_else(skull):
    """Every root lies above the hairline; without scalp there is no strand."""
    fine, anatomy, scalp = skull
    hair = grow(fine, anatomy, scalp, HairStyle(density=0.1), PALETTE, 0)
    assert hair.points[:, 0, 1].min() > 7.5
    assert len(grow(fine, anatomy, 0 * scalp, HairStyle(), PALETTE, 0).points) == 0


def test_the_seed_places_the_strands(skull):
    """The same seed gives the same hair, another seed other hair."""
    fine, anatomy, scalp = skull
    one, same, other = (
        grow(fine, anatomy, scalp, HairStyle(curl=0.05, density=0.1), PALETTE, s).points
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_strand_is_as_long_as_its_style_says(skull):
    """Straight hair's length along the strand is the style's, but for its natural spread."""
    fine, anatomy, scalp = skull
    hair = grow(fine, anatomy, scalp, HairStyle(length=0.8, lie=0.0, density=0.1), PALETTE, 0)
    length = np.linalg.norm(np.diff(hair.points, axis=1), axis=2).sum(axis=1)
    assert 0.7 < np.median(length) < 0.9


def test_long_hair_hangs(skull):
    """Long parted hair ends far below the scalp it grew from."""
    fine, anatomy, scalp = skull
    style = HairStyle(3.0, 0.1, 0, 1, 0.9, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0, density=0.1)
    hair = grow(fine, anatomy, scalp, style, PALETTE, 0)
    assert np.median(hair.points[:, -1, 1]) < 6.5


def test_bad_styles_are_refused():
    """A style out of range is an error where it is written."""
    with pytest.raises(ValueError, match="length"):
        HairStyle(length=-1)
