"""Laws of the InsightFace backend, on a pack of tiny networks that insightface itself loads."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from datapipe.errors import UserError
from datapipe.faces.crops import align
from datapipe.faces.insight import FILES, InsightFaces
from datapipe.models import digest, models_folder

_spec = importlib.util.spec_from_file_location("packs", Path(__file__).with_name("packs.py"))
packs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(packs)


def turn(axis, degrees):
    """A rotation of the mean face: x to the right, y down, z to the viewer."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    match axis:
        case "yaw":  # the nose, towards z, goes to image right
            return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        case "pitch":  # the nose goes up
            return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        case "roll":  # the crown, towards -y, goes to image right
            return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    raise ValueError(axis)


@pytest.fixture
def pack(tmp_path):
    return packs.write_pack(tmp_path / "buffalo_l", np.eye(3))


@pytest.fixture
def faces(pack):
    backend = InsightFaces(folder=pack)
    backend.setup()
    return backend


def scene(*cells, size=640):
    """Black with a faint gradient, and a white square of 32 pixels on each (column, row)."""
    image = np.zeros((size, size, 3), np.uint8)
    image[..., 2] = np.linspace(0, 60, size)[None].astype(np.uint8)
    for column, row in cells:
        image[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
    return image


def test_boxes_points_and_scores_are_decoded(faces):
    """A face on a cell comes back with the box and points that the network put there."""
    (face,) = faces.find([scene((8, 10))])[0]
    x, y = 8 * 32, 10 * 32  # insightface's anchors are the cells' corners
    left, top, right, bottom = (32 * side for side in packs.BOX)
    assert face.box == pytest.approx((x - left, y - top, x + right, y + bottom), abs=0.01)
    np.testing.assert_allclose(
        face.points, np.reshape(packs.POINTS, (5, 2)) * 32 + [x, y], atol=0.01
    )
    assert 0.99 < face.score <= 1


def test_a_picture_of_another_shape_is_mapped_back(faces):
    """Boxes are in pixels of the picture given, whatever its size."""
    image = np.repeat(np.repeat(scene((8, 4)), 2, axis=0), 2, axis=1)[:720]
    (face,) = faces.find([image])[0]
    assert face.box[0] == pytest.approx(2 * (8 * 32 - 1.5 * 32), abs=0.1)


def test_several_pictures_keep_their_order(faces):
    """Each picture gets its own faces, an empty one none."""
    found = faces.find([scene((4, 4)), scene(), scene((4, 4), (14, 14))])
    assert [len(some) for some in found] == [1, 0, 2]


@pytest.mark.parametrize("axis", ["yaw", "pitch", "roll"])
@pytest.mark.parametrize("degrees", [-40, 25])
def test_pose_has_the_projects_signs(tmp_path, axis, degrees):
    """Yaw: nose to image right; pitch: looks up; roll: tilts to image right; each by itself."""
    pack = packs.write_pack(tmp_path / "turned", turn(axis, degrees))
    backend = InsightFaces(folder=pack)
    backend.setup()
    pose = backend.find([scene((8, 10))])[0][0].pose
    expected = {"yaw": 0, "pitch": 0, "roll": 0} | {axis: degrees}
    assert {name: round(getattr(pose, name), 1) for name in expected} == pytest.approx(expected)


def test_mirroring_negates_yaw_and_roll(tmp_path):
    """The mirror image of a turned face has the opposite yaw and roll and the same pitch."""
    rotation = turn("yaw", 30) @ turn("pitch", 10) @ turn("roll", 15)
    mirror = np.diag([-1, 1, 1])
    poses = []
    for name, matrix in (("one", rotation), ("two", mirror @ rotation @ mirror)):
        backend = InsightFaces(folder=packs.write_pack(tmp_path / name, matrix))
        backend.setup()
        poses.append(backend.find([scene((8, 10))])[0][0].pose)
    one, two = poses
    assert (two.yaw, two.pitch, two.roll) == pytest.approx(
        (-one.yaw, one.pitch, -one.roll), abs=0.1
    )


def test_embeddings_are_the_recognisers_own(faces, pack):
    """Unit rows in order: the network run on each aligned RGB crop as (x - 127.5) / 127.5."""
    image = scene((4, 4), (14, 14))
    found = faces.find([image])[0]
    vectors = faces.embed(image, found)
    assert vectors.shape == (2, 512)
    net = onnxruntime.InferenceSession(
        str(pack / FILES["recognition"]), providers=["CPUExecutionProvider"]
    )
    for face, vector in zip(found, vectors, strict=True):
        crop = (align(image, face.points).astype(np.float32) - 127.5) / 127.5
        raw = net.run(None, {"input.1": crop.transpose(2, 0, 1)[None]})[0][0]
        np.testing.assert_allclose(vector, raw / np.linalg.norm(raw), atol=1e-4)
    assert faces.embed(image, []).shape == (0, 512)


def test_a_backend_travels_before_setup(pack):
    """A worker gets it pickled; its provenance is known before setup and free of paths."""
    backend = pickle.loads(pickle.dumps(InsightFaces(folder=pack)))
    known = backend.provenance()
    assert known["recognition"] == digest(pack / "w600k_r50.onnx")
    assert str(pack) not in repr(known)
    backend.setup()
    assert backend.provenance() == known


def test_a_missing_pack_names_its_files(tmp_path):
    """Nothing is downloaded: the error says what was looked for, where, and how to get it."""
    backend = InsightFaces(folder=tmp_path / "nowhere")
    for call in (backend.setup, backend.provenance):
        with pytest.raises(UserError, match=r"det_10g.onnx, 1k3d68.onnx, w600k_r50.onnx.*nowhere"):
            call()


def test_an_incomplete_pack_names_the_missing_file(pack):
    """Only the file that lacks is named."""
    (pack / "1k3d68.onnx").unlink()
    with pytest.raises(UserError, match=r"not complete: 1k3d68.onnx not found"):
        InsightFaces(folder=pack).setup()


def test_the_default_pack_is_insightfaces_own(tmp_path, monkeypatch):
    """Without a folder the pack is looked for where insightface keeps it."""
    monkeypatch.setenv("HARMOVIEW_HOME", str(models_folder().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    packs.write_pack(tmp_path / ".insightface" / "models" / "buffalo_l", np.eye(3))
    InsightFaces().setup()


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_a_damaged_file_is_named(pack, content):
    """A file that is no ONNX model is the user's to replace."""
    (pack / "w600k_r50.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"w600k_r50.onnx"):
        InsightFaces(folder=pack).setup()


def test_a_model_under_anothers_name_is_refused(pack):
    """insightface recognises a model by its shape; one that does not fit its name is an error."""
    (pack / "w600k_r50.onnx").write_bytes((pack / "1k3d68.onnx").read_bytes())
    with pytest.raises(UserError, match=r"not a recognition model"):
        InsightFaces(folder=pack).setup()


def test_cuda_is_cuda_or_an_error(pack):
    """Asking for CUDA either runs there or fails at setup with the way to mend it."""
    backend = InsightFaces(folder=pack, device="cuda")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        backend.setup()
        assert len(backend.find([scene((8, 10))])[0]) == 1
    else:
        with pytest.raises(UserError, match="make setup-gpu"):
            backend.setup()


@pytest.mark.parametrize("bad", [{"min_score": 1.0}, {"threads": 0}])
def test_bad_settings_are_refused(bad):
    """Settings out of range are an error where they are written."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        InsightFaces(**bad)
