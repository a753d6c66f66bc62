"""Clips of the people whose portraits are among the light data."""

import cv2

from datapipe.models import model_path


def person(name, side, frames):
    """The frames of a short clip that moves a little over a person's portrait."""
    picture = cv2.imread(str(model_path("portraits") / name / "assets" / "studio_portrait.jpg"))
    picture = cv2.cvtColor(cv2.resize(picture, (side + 24, side + 24)), cv2.COLOR_BGR2RGB)
    return [picture[k : k + side, k : k + side] for k in range(0, 24, 24 // frames)]
