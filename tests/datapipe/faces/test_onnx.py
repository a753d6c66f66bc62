"""Laws of running ONNX models on the device that was asked for."""

import onnxruntime
import pytest
from onnx import TensorProto, helper

from datapipe.errors import UserError
from datapipe.faces.onnx import check_device, providers, session


@pytest.fixture
def tiny():
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([node], "tiny", values[:1], values[1:])
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def test_the_cpu_is_only_the_cpu(tiny):
    """A session for the CPU has no other provider, whatever the machine has."""
    assert session(tiny).get_providers() == ["CPUExecutionProvider"]


def test_cuda_is_cuda_or_an_error(tiny):
    """Asking for CUDA never ends in a session on the CPU: it runs there or says how to mend it."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert session(tiny, "cuda").get_providers()[0] == "CUDAExecutionProvider"
    else:
        with pytest.raises(UserError, match="make setup-gpu"):
            session(tiny, "cuda")


def test_a_silent_fallback_is_an_error(tiny):
    """A session that was to run on CUDA and lists the CPU first is refused."""
    with pytest.raises(UserError, match="fell back to the CPU"):
        check_device(session(tiny, "cpu"), "cuda")


def test_two_runtimes_at_once_are_named(tmp_path, monkeypatch, tiny):
    """Where onnxruntime and onnxruntime-gpu are both installed, the error says so."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="Both onnxruntime and onnxruntime-gpu"):
        check_device(session(tiny, "cpu"), "cuda")


def test_the_cpu_is_always_to_be_had():
    """The CPU needs no check."""
    assert providers("cpu") == ["CPUExecutionProvider"]
