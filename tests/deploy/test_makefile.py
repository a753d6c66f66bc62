"""The Makefile: what its targets would run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.mark.parametrize("gpu", [True, False])
def test_a_gpu_machine_keeps_its_onnxruntime_when_set_up_again(tmp_path, gpu):
    """After a new pyproject.toml, onnxruntime-gpu replaces what pip has just installed."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    os.utime(tmp_path / ".venv" / "ready", (0, 0))
    (tmp_path / "pyproject.toml").touch()
    if gpu:
        assert "touch .venv/gpu" in would_run(tmp_path, "setup-gpu")
        (tmp_path / ".venv" / "gpu").touch()  # make -n only says so
    lines = would_run(tmp_path, "test")
    editable = next(n for n, line in enumerate(lines) if "[train," in line)
    swaps = [n for n, line in enumerate(lines) if "uninstall" in line and "onnxruntime" in line]
    assert bool(swaps) is gpu
    assert all(editable < swap < lines.index("touch .venv/ready") for swap in swaps)


def would_run(folder, target):
    command = ["make", "-n", "-C", str(folder), target]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
