"""A folder is held by the settings of the work in it, and by nothing before there is work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.claim import Claim, check_not_foreign, check_same, leaves
from datapipe.errors import UserError
from datapipe.files import Folder

CLAIM = Claim(
    Folder("unused"), "run.json", {"rank": 2, "learning_rate": 0.1, "steps": 5, "out": Path("a")},
    may_change={"steps", "out"}, inputs={"base": {"vae": "1f"}}, versions={"torch": "2"},
)  # fmt: skip

trees = st.recursive(
    st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def test_a_checked_folder_is_free_until_work_is_recorded(tmp_path):
    """Checking writes nothing, so that the corrected command may have other settings."""
    claim = replace(CLAIM, folder=Folder(tmp_path))
    assert not claim.check()
    assert not list(tmp_path.iterdir())
    assert not replace(claim, settings={"rank": 3}).check()


def test_the_same_work_is_continued_with_what_may_change_changed(tmp_path):
    """Also by other versions of the libraries, which are only recorded."""
    claim = replace(CLAIM, folder=Folder(tmp_path))
    claim.record()
    later = {**claim.settings, "steps": 9, "out": Path("b")}
    assert replace(claim, settings=later, versions={}).check()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": {**CLAIM.settings, "learning_rate": 0.5}}, "--learning-rate: made with 0.1"),
        ({"settings": {**CLAIM.settings, "more": 1}}, "--more: made with nothing, asked for 1"),
        ({"inputs": {"base": {"vae": "2e"}}}, "base.vae: made with 1f, asked for 2e"),
    ],
)
def test_other_work_is_refused_naming_each_difference(tmp_path, change, named):
    """An option by its name on the command line, an input by its own."""
    claim = replace(CLAIM, folder=Folder(tmp_path))
    claim.record()
    with pytest.raises(UserError, match=named):
        replace(claim, **change).check()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"settings": 1, "inputs": {}}'])
def test_a_record_that_cannot_be_read_is_named(tmp_path, content):
    """Instead of being taken for a free folder or for other work."""
    claim = replace(CLAIM, folder=Folder(tmp_path))
    claim.folder.put("run.json", content)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        claim.check()


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    """An empty one and one that the command began are not."""
    folder = Folder(tmp_path)
    check_not_foreign(folder, "encode", "encode.json")
    folder.put("holiday.jpg", b"")
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        check_not_foreign(folder, "encode", "encode.json")
    folder.put("encode.json", b"")
    check_not_foreign(folder, "encode", "encode.json")


@given(tables, tables)
def test_settings_are_the_same_when_their_leaves_are(one, other):
    """However deep the difference lies."""
    if leaves(one) == leaves(other):
        check_same(Folder("x"), one, other)
    else:
        with pytest.raises(UserError):
            check_same(Folder("x"), one, other)
