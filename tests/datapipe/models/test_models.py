"""Laws of the catalogue and of access to the cached files."""

import pytest

from datapipe.errors import UserError
from datapipe.models import digest, model, model_path, models_folder, state
from datapipe.models.catalogue import CATALOGUE, Archive, Model

ARCHIVE = Archive("package", "1", "package-1-py3-none-any.whl", "0" * 64)
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of "hello"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path))
    models_folder().mkdir()
    return models_folder()


def test_the_cache_follows_the_users_cache_folder(tmp_path, monkeypatch):
    """Without HARMOVIEW_HOME the files are in the user's cache folder."""
    monkeypatch.delenv("HARMOVIEW_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "harmoview" / "models"


def test_a_file_is_present_only_when_whole(home):
    """A file is missing, damaged or present by its content."""
    entry = Model("x", "p", "l", ARCHIVE, "x.bin", ("x.bin",), 5, HELLO)
    assert state(entry) == "missing"
    (home / "x.bin").write_bytes(b"hell")
    assert state(entry) == "damaged"
    (home / "x.bin").write_bytes(b"hello")
    assert state(entry) == "present"


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_any_change_in_a_folder_changes_its_digest(tmp_path, change):
    """A folder's digest covers every name and every byte below it."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"hello")
    (tmp_path / "b").write_bytes(b"hello")
    before = digest(tmp_path)
    match change:
        case "content":
            (tmp_path / "b").write_bytes(b"hallo")
        case "name":
            (tmp_path / "b").rename(tmp_path / "c")
        case "more":
            (tmp_path / "sub" / "z").write_bytes(b"")
        case "less":
            (tmp_path / "sub" / "a").unlink()
    assert digest(tmp_path) != before


def test_a_missing_file_is_the_users_to_fetch(home):
    """The error names the file, what it is for, and the command that brings it."""
    with pytest.raises(UserError, match=r"face_detection_yunet.*missing.*harmoview models fetch`"):
        model_path("yunet")
    with pytest.raises(UserError, match=r"harmoview models fetch real-clip`"):
        model_path("real-clip")


def test_a_damaged_file_is_not_handed_out(home):
    """A file with other bytes is refused."""
    (home / model("yunet").path).write_bytes(b"not a network")
    with pytest.raises(UserError, match="damaged"):
        model_path("yunet")


@pytest.mark.weights
def test_what_was_fetched_is_what_the_catalogue_says():
    """Every cached entry of the default set has the catalogue's size and hash."""
    for entry in CATALOGUE:
        if entry.optional:
            continue
        path = model_path(entry.name)
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        assert sum(file.stat().st_size for file in files) == entry.bytes


@pytest.mark.weights
def test_portraits_leave_out_the_lookalike():
    """P003 resembles a real public person and is not among the portraits."""
    people = sorted(path.name for path in model_path("portraits").iterdir())
    assert len(people) == 9
    assert "P003" not in people
