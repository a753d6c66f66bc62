"""A run folder is continued with the settings it was made with."""

from dataclasses import replace

import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo, Scoring, load_info, open_run, save_info

INFO = RunInfo(
    corpus="clips",
    seed=0,
    settings={"engine": {"name": "mesh", "size": 512}, "yaws": [-90, 0, 90]},
    scoring=Scoring(0, {"aesthetic": {"name": "brisque"}}, {"recogniser": "sface"}),
)


def test_run_info_is_read_back_as_it_was_saved(tmp_path):
    """run.json holds all of it."""
    folder = Folder(tmp_path)
    save_info(folder, INFO)
    assert load_info(folder) == INFO
    assert load_info(folder).settings_hash == INFO.settings_hash


def test_the_same_settings_continue_a_run(tmp_path):
    """The first call makes the run, the second finds it."""
    assert open_run(Folder(tmp_path), INFO) == INFO
    assert open_run(Folder(tmp_path), INFO) == INFO


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(INFO, seed=1), "seed: made with 0, asked for 1"),
        (replace(INFO, corpus="x"), "corpus: made with clips, asked for x"),
        (
            replace(INFO, settings={"engine": {"name": "mesh", "size": 256}, "yaws": [-90, 0, 90]}),
            "engine.size: made with 512, asked for 256",
        ),
        (replace(INFO, scoring=Scoring(0, {"aesthetic": {"name": "nima"}})), "harmoview score RUN"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, other, named):
    """The message names each setting that differs, and what to do."""
    open_run(Folder(tmp_path), INFO)
    with pytest.raises(UserError, match=named):
        open_run(Folder(tmp_path), other)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    """Commands on a run say which folder they looked at."""
    with pytest.raises(UserError, match="is not a run folder"):
        load_info(Folder(tmp_path))
