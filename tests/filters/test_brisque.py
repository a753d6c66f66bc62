"""BRISQUE: agrees with its reference implementation, falls with distortion, larger is better."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from datapipe.models import model_path
from datapipe.pictures import decode_jpeg
from filters.aesthetic import Brisque, features

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def brisque():
    scorer = Brisque()
    scorer.setup()
    return scorer


@pytest.fixture(scope="module")
def portrait():
    path = model_path("portraits") / "P001" / "assets" / "studio_portrait.jpg"
    return cv2.resize(decode_jpeg(path.read_bytes()), (512, 512), interpolation=cv2.INTER_AREA)


def jpeg(image, quality):
    return decode_jpeg(cv2.imencode(".jpg", image[..., ::-1], [1, quality])[1].tobytes())


def noisy(image, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def falls(scores):
    return all(a > b for a, b in pairwise(scores))


def test_it_agrees_with_the_reference_implementation(brisque, portrait):
    """The same pictures scored by brisque 0.2.0 under numpy 1.26 gave these numbers.

    Where areas are flat (the blurred picture) that package counts the signs of rounding errors,
    and differs by a few hundredths.
    """
    small = np.ascontiguousarray(portrait[:301, :257])
    pictures = [portrait, small, noisy(portrait, 25), cv2.GaussianBlur(portrait, (0, 0), 2)]
    reference = [6.2876, -4.2243, 61.2201, 83.5907]
    assert brisque(pictures) == pytest.approx([100 - x for x in reference], abs=0.05)


def test_blur_compression_and_noise_lower_the_score(brisque, portrait):
    """More of a distortion is a lower score."""
    blurred = [cv2.GaussianBlur(portrait, (0, 0), s) for s in (0.5, 1, 2, 4)]
    compressed = [jpeg(portrait, quality) for quality in (90, 50, 20, 10)]
    assert falls(brisque([portrait, *blurred]))
    assert falls(brisque([portrait, *compressed]))
    assert falls(brisque([portrait, *(noisy(portrait, sigma) for sigma in (10, 25, 50))]))


def test_a_mirrored_picture_scores_nearly_the_same(brisque, portrait):
    """Quality has no side."""
    here, there = brisque([portrait, np.ascontiguousarray(portrait[:, ::-1])])
    assert here == pytest.approx(there, abs=2)


def test_a_picture_does_not_influence_its_neighbours(brisque, portrait):
    """A batch scores each picture as if alone, and twice alike."""
    other = noisy(portrait, 10)
    assert brisque([portrait, other]) == [*brisque([portrait]), *brisque([other])]


@pytest.mark.parametrize("shape", [(64, 64, 3), (31, 512, 3)])
def test_what_cannot_be_measured_is_none(brisque, shape):
    """A flat picture and a tiny one have no statistics."""
    assert brisque([np.full(shape, 128, np.uint8)]) == [None]
    assert features(np.full(shape, 128, np.uint8)) is None


def test_the_model_files_are_named_by_hash(brisque):
    """Provenance holds a SHA-256 for each file and no path."""
    found = brisque.provenance()
    assert found["name"] == "brisque"
    assert all(len(sha) == 64 for sha in found["files"].values())
