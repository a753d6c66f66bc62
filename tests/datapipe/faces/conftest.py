"""The light face pack and portraits, loaded once."""

import cv2
import pytest

from datapipe.faces.light import LightFaces
from datapipe.models import model_path

PEOPLE = ("P001", "P002", "P004", "P005", "P006", "P007", "P008", "P009", "P010")


@pytest.fixture(scope="session")
def light():
    faces = LightFaces()
    faces.setup()
    return faces


@pytest.fixture(scope="session")
def portraits():
    """512-pixel studio portraits and selfies by person and kind."""
    root = model_path("portraits")
    pictures = {}
    for person in PEOPLE:
        for kind in ("studio_portrait", "amateur_selfie"):
            picture = cv2.imread(str(root / person / "assets" / f"{kind}.jpg"))
            scale = 512 / picture.shape[1]
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            pictures[person, kind] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    return pictures


@pytest.fixture(scope="session")
def found(light, portraits):
    """The largest face of each picture."""
    return {
        key: faces[0]
        for key, faces in zip(portraits, light.find(list(portraits.values())), strict=True)
    }
