"""Windows in a run: stored once with their candidate, in the table, and through a new scoring."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from datapipe.run.info import load_info
from datapipe.run.rows import WINDOWS
from datapipe.run.tables import tables
from tests.datapipe.runs import LABELS, TRACK, WINDOW, TinyRun


@pytest.fixture
def tiny(tmp_path):
    run = TinyRun(tmp_path)
    run.add("a", people=({}, {}))
    run.add("b")
    run.reject("c")
    run.save(per_segment=1)
    return run


def rows(run):
    with tables(run, load_info(run)) as connection:
        return connection.sql("FROM windows ORDER BY key, identity, start").to_arrow_table()


def test_every_window_is_one_row(tiny):
    """Of candidates alone, with each of its values."""
    found = rows(tiny.folder)
    assert found.column_names == WINDOWS.names
    assert [(r["key"], r["identity"]) for r in found.to_pylist()] == [("a", 0), ("a", 1), ("b", 0)]
    row = found.to_pylist()[0]
    assert all(row[name] == getattr(WINDOW, name) for name in WINDOWS.names[2:])


def test_a_candidate_gives_its_windows_and_track_back(tiny):
    """To the last digit, through JSON."""
    stored = tiny.store.find("a")
    assert stored is not None
    assert all(one.windows == (WINDOW,) for one in stored.sample.identities)
    assert all(pictures.track == TRACK for pictures in stored.pictures)
    assert json.loads(json.dumps(WINDOW.start)) == stored.sample.identities[0].windows[0].start


def test_windows_of_a_segment_without_ledger_rows_are_deleted(tiny):
    """A driver that was killed between the two left them; the sample is done again."""
    last = sorted(tiny.folder.names("ledger/*.parquet"))[-1]
    assert last == "ledger/000002.parquet"
    stray = "windows/g0000-000003.parquet"
    tiny.folder.put(stray, tiny.folder.read("windows/g0000-000001.parquet"))
    tiny.ledger.recover(0)
    assert not tiny.folder.exists(stray)
    assert len(rows(tiny.folder)) == 3


def test_a_segment_of_windows_is_never_overwritten(tiny):
    """The same bytes whoever writes; a second writer of a segment is refused."""
    before = tiny.folder.read("windows/g0000-000000.parquet")
    tiny.ledger._next = 0
    with pytest.raises(Exception, match="another process"):
        tiny.ledger.append([replace(tiny.store.find("b").sample)], LABELS, 0)
    assert tiny.folder.read("windows/g0000-000000.parquet") == before
