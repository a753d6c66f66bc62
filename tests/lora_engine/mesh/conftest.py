"""The mesh and the landmarker, loaded once."""

import cv2
import pytest

from datapipe.models import model_path
from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer
from lora_engine.mesh.studio import Studio


@pytest.fixture(scope="session")
def base():
    return Studio(model_path("mpfb2"), model_path("face-landmarker"))


@pytest.fixture(scope="session")
def portrait():
    """A synthetic person's studio portrait, RGB, 640 pixels."""
    path = model_path("portraits") / "P001" / "assets" / "studio_portrait.jpg"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (640, 640), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def engine():
    made = MeshSynthesizer(MeshSettings(size=256))
    made.setup()
    return made
