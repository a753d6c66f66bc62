"""ONNX Runtime sessions that run where they were asked to, or say why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from datapipe.errors import UserError

Device = Literal["cpu", "cuda"]


def providers(device: Device) -> list[str]:
    """The execution providers of a device. Raises UserError where ONNX Runtime has no CUDA."""
    import onnxruntime

    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UserError(f"this onnxruntime has no CUDA. {_remedy()}")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def options(threads: int = 1) -> Any:
    """Session options: few threads, because workers share the machine; quiet; repeatable."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = 3
    return chosen


def session(model: bytes | Path, device: Device = "cpu", threads: int = 1) -> Any:
    """An inference session.

    Raises UserError for a file that is no ONNX model, and when CUDA was asked for and is not what
    runs.
    """
    import onnxruntime

    wanted = providers(device)
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN that came as Python packages
    source = model if isinstance(model, bytes) else str(model)
    with readable(model if isinstance(model, Path) else None):
        loaded = onnxruntime.InferenceSession(source, options(threads), providers=wanted)
    check_device(loaded, device)
    return loaded


@contextmanager
def readable(path: Path | None) -> Iterator[None]:
    """Within the block ONNX Runtime's complaints become a UserError that names the file.

    Raises UserError.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    try:
        yield
    except (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf) as error:
        raise UserError(
            f"{path or 'the model'} cannot be loaded by onnxruntime: {error}"
        ) from error


def check_device(session: Any, device: Device) -> None:
    """Raises UserError when a session for CUDA has silently fallen back to the CPU."""
    # ONNX Runtime drops a provider whose libraries do not load and only logs it.
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise UserError(
            "onnxruntime could not start CUDA and fell back to the CPU: the NVIDIA driver, CUDA or "
            f"cuDNN libraries do not fit. {_remedy()}"
        )


def _remedy() -> str:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(installed) == 2:
        return (
            "Both onnxruntime and onnxruntime-gpu are installed and overwrite each other: run "
            "`make setup-gpu`, which removes the first and reinstalls the second"
        )
    return (
        f"Installed is {' and '.join(installed)}: run `make setup-gpu`, which puts onnxruntime-gpu "
        "in place of onnxruntime, or ask for the CPU"
    )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
