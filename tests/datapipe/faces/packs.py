"""A buffalo_l model pack of tiny networks with the real files' names and signatures."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
# The distances from an anchor to a face's box and five points, in strides.
BOX = (1.5, 2.0, 1.5, 2.0)
POINTS = (-0.6, -0.6, 0.6, -0.6, 0.0, 0.1, -0.5, 0.8, 0.5, 0.8)


def write_pack(folder: Path, rotation: np.ndarray) -> Path:
    """det_10g sees a face on each white cell; 1k3d68 sees the mean face under `rotation`."""
    folder.mkdir(parents=True)
    (folder / "det_10g.onnx").write_bytes(_detector())
    (folder / "1k3d68.onnx").write_bytes(_landmarks(rotation))
    (folder / "w600k_r50.onnx").write_bytes(_recogniser())
    (folder / "2d106det.onnx").write_bytes(b"not needed, so never opened")
    return folder


def _model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _detector():
    """As det_10g: any size, batch 1, two anchors a cell, nine outputs: scores, boxes, points."""
    nodes, outputs, weights = [], [], {}
    kinds = {"score": 1, "box": 4, "points": 10}
    for kind, width in kinds.items():
        for stride in STRIDES:
            name = f"{kind}{stride}"
            # Only the coarsest level fires, by its first anchor, where the cell is white.
            kernel = np.zeros((2 * width, 3, 1, 1), np.float32)
            bias = np.zeros(2 * width, np.float32)
            if kind == "score":
                bias[:] = -20
                if stride == 32:
                    kernel[0], bias[0] = 20, -50
            else:
                bias[:] = np.tile(BOX if kind == "box" else POINTS, 2)
            weights |= {f"{name}.w": kernel, f"{name}.b": bias}
            weights[f"{name}.shape"] = np.array([-1, width])
            side = [stride, stride]
            nodes += [
                helper.make_node(
                    "AveragePool", ["input.1"], [f"{name}.1"], kernel_shape=side, strides=side
                ),
                helper.make_node("Conv", [f"{name}.1", f"{name}.w", f"{name}.b"], [f"{name}.2"]),
                helper.make_node("Transpose", [f"{name}.2"], [f"{name}.3"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}.3", f"{name}.shape"], [f"{name}.4"]),
                helper.make_node(
                    "Sigmoid" if kind == "score" else "Identity", [f"{name}.4"], [name]
                ),
            ]
            outputs.append((name, [None, width]))
    return _model(nodes, [("input.1", [1, 3, "?", "?"])], outputs, weights)


def _landmarks(rotation):
    """As 1k3d68: (None, 3, 192, 192) to 3309 numbers, of which the last 68 points count.

    The first nodes are named as there, by which insightface knows that the graph normalises.
    """
    from insightface.data import get_object

    points = np.zeros((1103, 3))
    points[-68:] = 0.8 * np.asarray(get_object("meanshape_68.pkl")) @ rotation.T
    # insightface maps an output v to (v + 1) * 96 pixels in x and y, and v * 96 in depth.
    weights = {
        "mean": np.float32(127.5),
        "scale": np.float32(1 / 128),
        "w": np.zeros((3309, 3), np.float32),
        "b": points.ravel().astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["data", "mean"], ["s"], name="_minusscalar0"),
        helper.make_node("Mul", ["s", "scale"], ["m"], name="_mulscalar0"),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["fc1"], transB=1),
    ]
    return _model(nodes, [("data", ["None", 3, 192, 192])], [("fc1", ["None", 3309])], weights)


def _recogniser():
    """As w600k_r50: (None, 3, 112, 112) to 512 numbers, here a random projection of 7 x 7 means."""
    rng = np.random.default_rng(600)
    weights = {"w": rng.normal(size=(512, 147)).astype(np.float32), "b": np.zeros(512, np.float32)}
    nodes = [
        helper.make_node(
            "AveragePool", ["input.1"], ["p"], kernel_shape=[16, 16], strides=[16, 16]
        ),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["683"], transB=1),
    ]
    return _model(nodes, [("input.1", ["None", 3, 112, 112])], [("683", ["None", 512])], weights)
