"""Files appear whole or not at all, on a disk and on an object store."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder


@pytest.fixture(params=["disk", "memory", "s3"])
def folder(request, tmp_path):
    """The same laws everywhere."""
    if request.param == "s3":
        return Folder(f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")
    return Folder(tmp_path if request.param == "disk" else f"memory://{tmp_path.name}")


def test_what_is_put_is_read(folder):
    """And replaced by the next put."""
    folder.put("a/b.bin", b"one")
    folder.put("a/b.bin", b"two")
    assert folder.read("a/b.bin") == b"two"
    assert folder.exists("a/b.bin")
    assert folder.names("a/*.bin") == ["a/b.bin"]


def test_a_write_that_fails_leaves_nothing_and_spoils_nothing(folder):
    """Neither a part of the new content nor a temporary file."""
    folder.put("a.bin", b"old")
    with pytest.raises(ZeroDivisionError), folder.create("a.bin") as file:
        assert file.write(b"half of the new") // 0
    assert folder.read("a.bin") == b"old"
    assert folder.names("*") == ["a.bin"]


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?", "run{a,b}"])
def test_a_folders_name_is_no_pattern(tmp_path, name):
    """A run in such a folder would seem empty, and be written over."""
    Folder(tmp_path / name).put("ledger/000000.parquet", b"x")
    Folder(tmp_path / "run1").put("ledger/000009.parquet", b"another run")
    assert Folder(tmp_path / name).names("ledger/*.parquet") == ["ledger/000000.parquet"]


def test_a_deleted_file_is_gone(folder):
    """Deleting twice is no error."""
    folder.put("a.bin", b"x")
    folder.delete("a.bin")
    folder.delete("a.bin")
    assert not folder.exists("a.bin")
    with pytest.raises(FileNotFoundError):
        folder.read("a.bin")


@given(st.text(min_size=1))
def test_a_name_never_leads_out_of_the_folder(tmp_path_factory, name):
    """Names with `..` or from the root are refused."""
    folder = Folder(tmp_path_factory.getbasetemp() / "inside")
    for hostile in (f"../{name}", f"a/../../{name}", f"/{name}"):
        with pytest.raises(ValueError, match="is not a name inside"):
            folder.path(hostile)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_disk_is_told_in_a_sentence(tmp_path, monkeypatch, fault):
    """The disk's own answer, at the moment the bytes must reach it; nothing stays behind."""

    def refuse(_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=os.strerror(fault)):
        Folder(tmp_path).put("a.bin", b"x")
    assert list(tmp_path.iterdir()) == []
