"""Laws of the sharpness of a face."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.faces.base import Face
from datapipe.faces.crops import FACE_SIZE, sharpness

pytestmark = pytest.mark.weights


def blurred(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def noisy(image, deviation):
    noise = np.random.default_rng(3).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def scaled(image, face, factor):
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    box = tuple(side * factor for side in face.box)
    return small, replace(face, box=box, points=face.points * factor)


def test_blur_lowers_it_for_everyone(portraits, found):
    """Each step of blur lowers the value, and all blurred faces are below all sharp ones."""
    values = []
    for key, image in portraits.items():
        side = found[key].size / 100
        steps = [sharpness(image, found[key])]
        steps += [sharpness(blurred(image, s * side), found[key]) for s in (1, 2, 4)]
        assert steps == sorted(steps, reverse=True)
        values.append(steps)
    sharp, one, two, _ = np.array(values).T
    assert sharp.min() > two.max() * 1.5
    assert sharp.min() > one.max()


def test_size_does_not_matter(portraits, found):
    """The same face from 112 pixels upwards has nearly the same value."""
    for key, image in portraits.items():
        small = scaled(image, found[key], 1.01 * FACE_SIZE / found[key].size)
        assert sharpness(*small) == pytest.approx(sharpness(image, found[key]), rel=0.15)


def test_contrast_and_exposure_do_not_matter(portraits, found):
    """A faint or dark picture is as sharp as the strong one."""
    for key, image in portraits.items():
        faint = (image * 0.5 + 30).round().astype(np.uint8)
        assert sharpness(faint, found[key]) == pytest.approx(sharpness(image, found[key]), rel=0.05)


def test_noise_is_not_sharpness(portraits, found):
    """A blurred face with sensor noise stays below every clean sharp face."""
    clean = min(sharpness(image, found[key]) for key, image in portraits.items())
    for key, image in portraits.items():
        soft = blurred(image, found[key].size / 50)
        assert sharpness(noisy(soft, 10), found[key]) < 0.8 * clean
        assert sharpness(noisy(image, 10), found[key]) == pytest.approx(
            sharpness(image, found[key]), rel=0.1
        )


def test_small_faces_are_not_measured(portraits, found):
    """A face under the fixed size has no sharpness: it would have to be invented."""
    key = ("P001", "studio_portrait")
    assert (
        sharpness(*scaled(portraits[key], found[key], 0.99 * FACE_SIZE / found[key].size)) is None
    )


def test_a_flat_picture_has_no_detail():
    """Where there is nothing to see the value is zero."""
    face = Face((10, 10, 210, 210), np.zeros((5, 2), np.float32), 0.9)
    assert sharpness(np.full((220, 220, 3), 90, np.uint8), face) == 0
