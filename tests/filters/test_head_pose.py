"""The 6DRepNet reader: signs, crops and refusals, on networks of the real signature."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from datapipe.errors import UserError
from datapipe.faces.base import Face
from filters.head_pose import SixDRepNet, face_crop, pose_of


def rotation(yaw, pitch, roll):
    """Rz(roll) Ry(yaw) Rx(pitch), as the network's authors build it; degrees."""
    x, y, z = np.radians([pitch, yaw, roll])
    rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return rz @ ry @ rx


def network(path, matrix, batch=1, size=224):
    """An ONNX file with an export's inputs and outputs, which sees every face in one pose."""
    nodes = [
        # The mean of the normalised picture, times zero: the output depends on the input.
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["matrix", "nothing"], ["rotation_matrix"]),
    ]
    constants = {"matrix": matrix[None].astype(np.float32), "zero": np.float32(0)}
    shape = [batch, 3, size, size]
    graph = helper.make_graph(
        nodes,
        "6drepnet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("rotation_matrix", TensorProto.FLOAT, [batch, 3, 3])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


IMAGE = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
FACE = Face((100.0, 50.0, 250.0, 240.0), np.zeros((5, 2), np.float32), 0.9)


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 10, -5), (-60, -20, 15), (85, 5, 3)])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_known_rotation_comes_out_in_the_projects_convention(tmp_path, angles, batch):
    """6DRepNet's yaw is negated; its pitch and roll are ours."""
    yaw, pitch, roll = angles
    estimator = SixDRepNet(network(tmp_path / "pose.onnx", rotation(*angles), batch))
    estimator.setup()
    pose = estimator(IMAGE, FACE)
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((-yaw, pitch, roll), abs=1e-3)


@pytest.mark.parametrize("yaw", [-75, -30, 0, 20, 60])
def test_a_mirrored_head_has_opposite_yaw_and_roll(yaw):
    """Mirroring the rotation left to right flips yaw and roll and keeps pitch."""
    matrix, mirror = rotation(yaw, 8, 12), np.diag([-1, 1, 1])
    here, there = pose_of(matrix), pose_of(mirror @ matrix @ mirror)
    assert (there.yaw, there.pitch, there.roll) == pytest.approx(
        (-here.yaw, here.pitch, -here.roll)
    )


def test_the_network_sees_a_normalised_rgb_crop(tmp_path):
    """A picture of the ImageNet mean colour is zero at the network's input."""
    path = network(tmp_path / "pose.onnx", rotation(0, 0, 0))
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32(1), "zero"))
    onnx.save(model, path)
    estimator = SixDRepNet(path)
    estimator.setup()
    grey = np.full((300, 400, 3), np.round([0.485 * 255, 0.456 * 255, 0.406 * 255]), np.uint8)
    assert estimator(grey, FACE).yaw == pytest.approx(0, abs=0.2)
    white = estimator(np.full_like(grey, 255), FACE)
    assert abs(white.yaw) > 30  # the mean, about 2.4, now disturbs the matrix


def test_the_crop_reaches_a_fifth_past_the_box_and_no_further_than_the_picture():
    """Its four sides lie a fifth of the box's other side outside, cut at the edge."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[20:270, 62:288] = 255  # box 100..250 x 50..240: 38 beside, 30 above
    assert face_crop(image, FACE.box).min() == 255
    image[20:270, 62:288] = 0
    assert face_crop(255 - image, (-50.0, -50.0, 40.0, 40.0)).min() == 255
    assert face_crop(image, (500.0, 50.0, 600.0, 150.0)) is None


def test_a_network_of_another_kind_is_refused(tmp_path):
    """The message names the file and what was expected."""
    estimator = SixDRepNet(network(tmp_path / "other.onnx", rotation(0, 0, 0), size=112))
    with pytest.raises(UserError, match=r"other\.onnx takes .*112.*\[n, 3, 224, 224\]"):
        estimator.setup()
    with pytest.raises(UserError, match=r"none\.onnx is not a file"):
        SixDRepNet(tmp_path / "none.onnx").provenance()


def test_the_file_is_named_by_hash_not_by_path(tmp_path):
    """Provenance is the same wherever the file lies, and another for another file."""
    one = SixDRepNet(network(tmp_path / "a.onnx", rotation(0, 0, 0))).provenance()
    same = SixDRepNet(network(tmp_path / "b.onnx", rotation(0, 0, 0))).provenance()
    other = SixDRepNet(network(tmp_path / "c.onnx", rotation(9, 0, 0))).provenance()
    assert one == same != other
