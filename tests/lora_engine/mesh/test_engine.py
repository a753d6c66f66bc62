"""Laws of the mesh engine as a view synthesiser."""

import hashlib
import json
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from datapipe.errors import BadSample, UserError
from jobs.options.engine import view_synthesizer
from lora_engine.flux.settings import FluxSettings
from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer

weights = pytest.mark.weights
YAWS = (-60, -30, 0, 30, 60)


@pytest.mark.parametrize("bad", [{"size": 10}, {"noise": -1}, {"blur": -1}])
def test_bad_settings_are_refused(bad):
    """Settings out of range are an error where they are written."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        MeshSettings(**bad)


def test_provenance_is_known_before_anything_is_loaded(tmp_path, monkeypatch):
    """It names data by hash and settings by value, holds no path, and survives pickling."""
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path))
    made = pickle.loads(pickle.dumps(view_synthesizer("mesh", flux=FluxSettings(), resolution=320)))
    text = json.dumps(made.provenance())
    assert '"size": 320' in text
    assert str(tmp_path) not in text
    assert len(made.provenance()["mesh"]) == 64
    with pytest.raises(UserError, match="models fetch"):
        made.setup()


@pytest.mark.slow
@weights
def test_the_same_call_gives_the_same_bytes_in_any_process(engine, portrait, tmp_path):
    """Twice here and once in a new process: identical pictures."""
    views = [engine(portrait, (45,), (7,))[0] for _ in range(2)]
    np.testing.assert_array_equal(*views)
    np.save(tmp_path / "portrait.npy", portrait)
    code = (
        "import sys, hashlib, numpy as np\n"
        "from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer\n"
        "engine = MeshSynthesizer(MeshSettings(size=256)); engine.setup()\n"
        "view = engine(np.load(sys.argv[1]), (45,), (7,))[0]\n"
        "print(hashlib.sha256(view.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "portrait.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(views[0].tobytes()).hexdigest()


@weights
def test_a_view_does_not_depend_on_the_others(engine, portrait):
    """A yaw asked for alone is the same picture as among others."""
    together = engine(portrait, (-30, 0, 30), (1, 2, 3))
    np.testing.assert_array_equal(engine(portrait, (0,), (2,))[0], together[1])


@weights
def test_the_seed_steers_only_the_noise(portrait, engine):
    """Two seeds differ by camera noise; without noise they do not differ."""
    one, two = engine(portrait, (30, 30), (1, 2))
    assert 0 < np.abs(one.astype(float) - two).mean() < 4
    clean = MeshSynthesizer(MeshSettings(size=128, noise=0.0))
    clean.setup()
    np.testing.assert_array_equal(*clean(portrait, (30, 30), (1, 2)))


@weights
def test_the_mirrored_portrait_gives_the_mirrored_views(engine, portrait):
    """Rendering at +yaw of a mirrored portrait is the mirror of the render at -yaw.

    But for single hairs and noise, which have no mirror image: the face itself, little blurred.
    """
    views = engine(portrait, YAWS, range(len(YAWS)))
    others = engine(np.ascontiguousarray(portrait[:, ::-1]), YAWS[::-1], range(len(YAWS)))
    for view, other in zip(views, others, strict=True):
        soft = [cv2.GaussianBlur(v.astype(np.float32), (0, 0), 3) for v in (view, other[:, ::-1])]
        assert np.abs(soft[0] - soft[1]).mean() < 4


@weights
def test_views_show_the_yaw_and_the_person_that_were_asked_for(engine, portrait):
    """An independent judge reads the yaw within ten degrees, and knows the person at 30."""
    faces = engine._faces
    reference = faces.embed(portrait, faces.find([portrait])[0][:1])[0]
    views = engine(portrait, YAWS, range(len(YAWS)))
    assert {view.shape for view in views} == {(256, 256, 3)}
    for yaw, view, found in zip(YAWS, views, faces.find(views), strict=True):
        assert found[0].pose.yaw == pytest.approx(yaw, abs=10)
        if abs(yaw) <= 30:
            assert faces.embed(view, found[:1])[0] @ reference > 0.55


@weights
def test_unusable_references_are_refused_with_a_reason(engine, portrait):
    """No face, a tiny face, a profile: a rejected row, not a crash."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 300, 3), dtype=np.uint8)
    tiny = np.full((400, 400, 3), 120, np.uint8)
    tiny[:100, :100] = cv2.resize(portrait, (100, 100), interpolation=cv2.INTER_AREA)
    profile = engine(portrait, (75,), (0,))[0]
    for picture in (noise, tiny, profile):
        with pytest.raises(BadSample) as wrong:
            engine(picture, (0,), (0,))
        assert wrong.value.reason == "engine_refused"


@weights
@pytest.mark.parametrize("shape", [(640, 480), (360, 640)])
def test_references_need_not_be_square(engine, portrait, shape):
    """A wider or taller picture is cut to a square around the face."""
    canvas = cv2.copyMakeBorder(portrait, 0, 0, 200, 200, cv2.BORDER_REPLICATE)
    picture = cv2.resize(canvas, (shape[1], shape[0]) if shape[1] > shape[0] else (1040, 640))
    assert engine(picture, (0,), (0,))[0].shape == (256, 256, 3)
