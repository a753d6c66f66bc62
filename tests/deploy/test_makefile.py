"""The Makefile: what its targets would run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.mark.parametrize("gpu", [True, False])
def test_a_gpu_machine_keeps_its_onnxruntime_when_set_up_again(tmp_path, gpu):
    """pip has just put onnxruntime back over onnxruntime-gpu."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    if gpu:
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / "gpu").touch()
    command = ["make", "-n", "-C", str(tmp_path), "setup"]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = done.partition("--editable")[2]
    assert ("uninstall" in after) is gpu
    removed, _, again = after.partition("iqa]")[2].partition("uninstall")[2].partition("install")
    for module in ("onnxruntime", "opencv-python"):  # and so does opencv-python-headless, pyiqa's
        assert (module in removed.split()) is gpu
        assert (module in again) is gpu


def test_torch_by_hand_is_the_torch_of_set_up():
    """Otherwise `make setup` would put its own in place of the one without CUDA."""
    wanted = re.findall(r"torch==[\d.]+\d", (MAKEFILE.parent / "README.md").read_text())
    assert wanted
    assert set(wanted) <= set(re.findall(r"\btorch==[\d.]+", MAKEFILE.read_text()))
