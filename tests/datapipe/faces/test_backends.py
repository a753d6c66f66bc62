"""Laws of choosing a face backend."""

import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.errors import UserError
from datapipe.faces import face_analyzer


@pytest.mark.parametrize("name", ["light", "buffalo_l"])
def test_a_backend_has_the_name_it_was_asked_by(name):
    """The name in provenance and ledger is the name on the command line."""
    assert face_analyzer(name).name == name


def test_each_backend_names_its_recogniser():
    """Thresholds belong to one recogniser, so no two backends share a name for theirs."""
    assert face_analyzer("light").recogniser != face_analyzer("buffalo_l").recogniser


def test_the_light_pack_refuses_what_it_cannot_do():
    """It has no CUDA and no folder of its own to choose."""
    with pytest.raises(UserError, match="CPU"):
        face_analyzer("light", device="cuda")
    with pytest.raises(UserError, match="files"):
        face_analyzer("light", folder=Path("somewhere"))


def test_choosing_loads_no_network_library():
    """Importing the factory is free of OpenCV, ONNX Runtime and insightface."""
    code = (
        "import sys, datapipe.faces;"
        "sys.exit(bool({'cv2', 'onnxruntime', 'insightface'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
