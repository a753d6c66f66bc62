"""Laws of eye visibility."""

import cv2
import numpy as np
import pytest

from datapipe.faces.crops import eye_visibility

pytestmark = pytest.mark.weights


def closed(image, face, eye):
    """A lid over an eye: the skin around it grown inwards, and a line of lashes."""
    x, y = face.points[eye].round().astype(int).tolist()
    span = float(np.linalg.norm(face.points[1] - face.points[0]))
    width, height = round(0.3 * span), round(0.15 * span)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(mask, (x, y), (width, height), 0, 0, 360, 255, -1)
    done = cv2.inpaint(image, mask, 5, cv2.INPAINT_TELEA)
    lash = (0.45 * done[y, x]).tolist()
    cv2.ellipse(done, (x, y), (width, round(0.4 * height)), 0, 25, 155, lash, round(span / 40))
    return done


@pytest.mark.parametrize("eye", [0, 1])
def test_a_closed_eye_lowers_it(portraits, found, eye):
    """One closed eye, on either side, takes away a third and more: the worse eye counts."""
    ratios = [
        eye_visibility(closed(image, found[key], eye), found[key])
        / eye_visibility(image, found[key])
        for key, image in portraits.items()
        if key[1] == "studio_portrait"
    ]
    assert np.mean(ratios) < 0.67


def test_it_is_a_share(portraits, found):
    """Values lie in 0..1; open eyes of studio portraits are well above zero."""
    for key, image in portraits.items():
        assert 0 <= eye_visibility(image, found[key]) <= 1
        if key[1] == "studio_portrait":
            assert eye_visibility(image, found[key]) > 0.15


def test_nothing_seen_is_zero(found):
    """A flat picture shows no eyes."""
    assert (
        eye_visibility(np.full((512, 512, 3), 120, np.uint8), found["P001", "studio_portrait"]) == 0
    )
