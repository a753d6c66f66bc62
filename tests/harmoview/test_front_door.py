"""What Python users import: all of it from `harmoview`, each name when it is asked for."""

import subprocess
import sys

import pytest

import harmoview
from harmoview import synthesize


def test_every_public_name_is_there():
    """Those that `dir` shows, and no others."""
    assert {"Run", "Rules", "synthesize", "__version__"} <= set(dir(harmoview))
    assert all(getattr(harmoview, name) for name in dir(harmoview))
    with pytest.raises(AttributeError, match="nothing"):
        _ = harmoview.nothing


def test_looking_at_a_run_needs_no_torch_and_no_ray():
    """They take seconds, and a machine that only reads need not have torch."""
    code = (
        "import sys, datapipe, harmoview; from harmoview import Rules, Run\n"
        "print(*{'torch', 'ray', 'diffusers'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"enigne": "mesh"}, "--engine"),
        ({"engine": "mash"}, "mesh"),
        ({"local": True, "workers": 2}, "--workers"),
        ({"limit": 0}, "--limit"),
        ({"yaws": (30, 30)}, "--yaws"),
        ({"prepare": {"frontal": {"max_yaw": "wide"}}}, "--prepare.frontal.max-yaw"),
    ],
)
def test_a_wrong_option_is_told_before_any_work(tmp_path, options, said):
    """In the command's words; nothing is written."""
    with pytest.raises(ValueError, match=said):
        synthesize(tmp_path / "clips", tmp_path / "run", **options)
    assert not list(tmp_path.iterdir())
