"""Fixtures that several packages' tests use, and how tests are shared out to workers."""

from __future__ import annotations

import importlib
import math
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis
import pytest

pytest_plugins = ["tests.cpu_time"]
BEGIN = time.monotonic()

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch comes later: two workers, two cores
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # whatever token this machine's user has
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # thousands of files are synced

# timings never decide a test, nor does luck; --hypothesis-profile search draws other examples
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "skip the tests that have not begun after so many minutes"
    parser.addoption("--minutes", type=float, default=math.inf, help=help)


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    if time.monotonic() - BEGIN > 60 * minutes:
        pytest.skip(f"not begun after {minutes:g} minutes")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers the tests on Ray go to one, since a cluster takes every CPU.

    They come first, then the files with slow tests, so that no worker is busy alone at the end.
    Those and the ones in a browser get a second try, and the run's end tells which needed it:
    a crash of Ray's or Chromium's own is none of the product.
    """
    on_ray = {item for item in items if item.get_closest_marker("ray")}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in on_ray:
        item.add_marker(pytest.mark.xdist_group("ray"))
    for item in on_ray | {item for item in items if item.get_closest_marker("browser")}:
        item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: (item not in on_ray, item.path not in slow))


def pytest_collection_finish() -> None:
    importlib.import_module("tests.frozen")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file, its fixtures with them, go to one worker."""
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).split("::", 1)[0]

        def mark_test_pending(self, item: str) -> None:
            """Nothing to do: what a crashed worker had not ended is pending again."""

    return ByFile(config, log)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(server: subprocess.Popen[bytes], port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the S3 server ended with status {server.returncode}")
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"the S3 server does not answer after {seconds} s")


@pytest.fixture(scope="session")
def _shared_head() -> Iterator[Any]:
    from tests.ray_cluster import SharedHead

    head = SharedHead()
    yield head
    head.end()


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, _shared_head: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A Ray cluster of two CPUs for this test alone, which commands join as RAY_ADDRESS names it.

    Nobody is joined to it yet, and nodes may be added. A test's second try has a new head node.
    """
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how soon an end is noticed
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")  # on a busy machine
    with _shared_head.lent(fresh=getattr(request.node, "execution_count", 1) > 1) as made:
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        yield made


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Any]:
    """`made_once(name, make)` is what `make` makes, once for all tests and workers."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def made_once(name: str, make: Callable[[], Any]) -> Any:
        file = shared / f"{name}.pickle"
        if not file.exists():
            whole = file.with_suffix(f".{os.getpid()}")
            whole.write_bytes(pickle.dumps(make()))
            whole.rename(file)
        return pickle.loads(file.read_bytes())

    return made_once


@pytest.fixture(scope="session", autouse=True)
def _lifted_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each portrait that virtual people are mixed from is lifted once."""
    if not any(item.get_closest_marker("weights") for item in request.session.items):
        yield
        return
    from lora_engine.subjects.gallery import Gallery

    lift, made_once = Gallery._lift, request.getfixturevalue("made_once")

    def once(gallery: Gallery, name: str) -> Any:
        return made_once(f"sitter-{name}", lambda: lift(gallery, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gallery, "_lift", once)
        yield


@pytest.fixture(scope="session")
def _torch_imported() -> None:
    """The process that forks others has imported torch: no test pays for it."""
    from tests.processes import forked

    first = forked().Process(target=os.getpid)
    first.start()
    first.join()


@pytest.fixture(scope="session")
def gallery() -> Any:
    """The portraits that virtual people are mixed from."""
    from lora_engine.subjects.gallery import Gallery

    return Gallery()


@pytest.fixture(scope="module", autouse=True)
def _no_ray_left() -> Iterator[None]:
    """No module runs on the cluster that another one joined."""
    yield
    if (ray := sys.modules.get("ray")) is not None and ray.is_initialized():
        ray.shutdown()


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """The URL of an empty bucket of a real S3 server (moto's, its own process).

    The environment points s3fs there, so that child processes find it too.
    """
    import s3fs

    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])))
        try:
            _wait_for(server, port, 60)
            s3fs.S3FileSystem.clear_instance_cache()
            s3fs.S3FileSystem().mkdir("harmoview")
            yield "s3://harmoview"
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.terminate()
            server.wait(10)
