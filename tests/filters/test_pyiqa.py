"""pyiqa's metrics: the same scores as by pyiqa itself, larger is better, nothing on the screen."""

import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from datapipe.errors import UserError
from filters.aesthetic import check_aesthetic, load_aesthetic
from filters.pyiqa_metric import PyiqaMetric

FOLDER = Path(sys.prefix) / "iqa"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What pyiqa_scores.py prints."""
    if find_spec("pyiqa") is None and not FOLDER.is_dir():
        pytest.skip("pyiqa is not installed (make .venv/iqa)")
    folder = tmp_path_factory.mktemp("pyiqa")
    command = [sys.executable, "-m", "tests.filters.pyiqa_scores", str(folder)]
    environment = {"TORCH_HOME": str(folder), "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "sign"), [("entropy", 1), ("piqe", -1)])
def test_scores_are_pyiqas_and_larger_is_better(found, metric, sign):
    """Pictures of two sizes at once, in any order, score as one by one in pyiqa; piqe, of which
    lower is better, counts negatively."""
    by = found[metric]
    assert by["name"] == f"pyiqa:{metric}"
    assert by["together"] == pytest.approx([sign * score for score in by["pyiqa"]], abs=1e-3)
    assert by["together"] == pytest.approx(by["alone"], abs=1e-3)
    assert by["together"][0] > by["together"][1]  # blur


@pytest.mark.slow
def test_nima_is_pyiqas_own(found):
    """A checkpoint in pyiqa's format is read, without a backbone from the hub, and the score is the
    mean of ten votes."""
    by = found["nima"]
    assert by["name"] == "nima"
    assert by["scores"] == pytest.approx(by["expected"], abs=1e-4)
    assert all(1 <= score <= 10 for score in by["scores"])


@pytest.mark.slow
def test_weights_are_named_by_hash_and_held_to_it(found):
    """Other weights have another hash, and a worker that holds other ones than the run says so."""
    one, other = found["nima"]["hashes"]
    assert len(one) == 64 != one
    assert one != other
    assert "but the run started with" in found["nima"]["changed"]
    assert set(found["piqe"]["provenance"]) == {"name", "pyiqa", "weights"}


@pytest.mark.slow
def test_what_cannot_be_scored_is_said(found):
    """Names, files and weights that will not do are the user's mistake, each by its name."""
    named = found["refused"]
    assert "did you mean topiq_iaa" in named["topiq_ia"]
    assert "needs a reference picture" in named["lpips"]
    assert "neither in its cache nor to be fetched" in named["musiq"]
    for name, message in found["nima"]["refused"].items():
        assert f"{name}.pth" in message


def test_without_pyiqa_auto_is_brisque_and_says_so(tmp_path, monkeypatch):
    """`auto` never asks the network; the sentence names the scorer, the reason and what to do."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scorer, said = load_aesthetic("auto")
    assert scorer.name == "brisque"
    assert "brisque, which tells distortion, not beauty, because" in said
    assert load_aesthetic("auto", weights=tmp_path / "nima.pth")[0].name == "nima"
    assert "pyiqa:musiq" in load_aesthetic("pyiqa:musiq")[1]
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"\.\[iqa\]"):
        PyiqaMetric("nima").setup()


def test_a_name_that_is_no_scorer_is_refused():
    """Only the four forms are taken."""
    for name in ("auto", "nima", "brisque", "pyiqa:clipiqa+"):
        check_aesthetic(name)
    for name in ("musiq", "pyiqa:", "pyiqa", ""):
        with pytest.raises(ValueError, match="--aesthetic"):
            check_aesthetic(name)


def test_one_opencv_is_installed():
    """opencv-python and opencv-python-headless are the same module."""
    assert len(set(packages_distributions()["cv2"])) == 1
