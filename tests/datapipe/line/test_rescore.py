"""New scores take the place of the old ones when every candidate has them, and never before."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from datapipe.errors import UserError
from datapipe.line import rescore
from datapipe.line.line import LocalLine
from datapipe.record import Scores
from datapipe.run.info import Scoring, load_info
from datapipe.run.tables import Ledger, tables
from datapipe.stage import Resources
from dataset.judged import RowColumns, candidate_rows
from tests.datapipe.runs import TinyRun

OTHER = {"aesthetic_scorer": "other", "recogniser": "none", "pose_estimator": "none"}


class Flat:
    """A scorer that gives every picture one number, and stumbles where it is told to."""

    name = "score"
    resources = Resources(num_cpus=1)

    def __init__(self, store, broken=(), full=()):
        self.store, self.broken, self.full = store, broken, full
        self.scored = []

    def setup(self):
        pass

    def __call__(self, sample):
        if sample.key in self.full:
            raise UserError("the disk is full")
        if sample.key in self.broken:
            raise RuntimeError("boom")
        self.scored.append(sample.key)
        score = Scores(True, aesthetic=7.0)
        identities = tuple(
            replace(one, scores=score, views=tuple(replace(v, scores=score) for v in one.views))
            for one in self.store.read(sample.candidate).sample.identities
        )
        return replace(sample, identities=identities)


@pytest.fixture
def tiny(tmp_path):
    """Five candidates and a rejected video in two segments."""
    made = TinyRun(tmp_path)
    for key in "abcde":
        made.add(key)
    made.reject("f")
    made.save()
    return made


def again(tiny, line=LocalLine, **trouble):
    """Score anew; the keys that were scored."""
    stage = Flat(tiny.store, **trouble)
    info = rescore.begin_scoring(tiny.folder, load_info(tiny.folder), Scoring(0, {"n": 1}, OTHER))
    try:
        rescore.rescore(tiny.folder, info, line([stage]), lambda _: None)
    finally:
        tiny.done = stage.scored
    return stage.scored


def current(tiny):
    """Aesthetic scores of all views by key, read as pack reads them."""
    with tables(tiny.folder, load_info(tiny.folder)) as connection:
        found = list(candidate_rows(connection, 2, RowColumns()))
    rows = [row for batch in found for row in batch.views.to_pylist()]
    return {
        key: {r["aesthetic"] for r in rows if r["key"] == key} for key in {r["key"] for r in rows}
    }


def test_every_candidate_is_scored_once_and_the_old_scores_go(tiny):
    """And the table holds each view once."""
    before = pq.read_table(tiny.folder.local / "views").num_rows
    assert sorted(again(tiny)) == list("abcde")
    assert current(tiny) == {key: {7.0} for key in "abcde"}
    assert pq.read_table(tiny.folder.local / "views").num_rows == before


def test_a_scoring_goes_on_in_parts_as_it_does_in_one(tiny, monkeypatch):
    """No execution is handed more than a part; what throws is tried twice, as in one part."""
    handed = []

    class Watched(LocalLine):
        def run(self, listing):
            handed.append([sample.key for sample in listing()])
            return super().run(listing)

    monkeypatch.setattr(rescore, "PART", 1)
    tiny.add("g")
    tiny.add("h")
    tiny.save()
    with pytest.raises(UserError, match="disk is full"):
        again(tiny, Watched, broken={"b"}, full={"d"})
    assert handed == [["a", "b", "c"], ["b"], ["d", "e"]]
    handed.clear()
    assert again(tiny, Watched, broken={"b"}) == ["d", "e", "g", "h"]
    assert handed == [["b"], ["b"], ["d", "e"], ["g", "h"]]
    assert current(tiny) == {key: {7.0} for key in "acdegh"}


def test_a_scoring_that_stops_keeps_the_old_scores_and_continues(tiny):
    """What was scored before it stopped is not scored again."""
    with pytest.raises(UserError, match="disk is full"):
        again(tiny, full={"d"})
    assert tiny.done == ["a", "b", "c"]
    assert current(tiny) == {key: {80.0} for key in "abcde"}
    assert again(tiny) == ["d", "e"]
    assert current(tiny) == {key: {7.0} for key in "abcde"}


def test_a_candidate_that_cannot_be_scored_becomes_an_error_row(tiny):
    """The others get their scores; when it is mended, the sample is done again as any error is."""
    assert again(tiny, broken={"b"}) == ["a", "c", "d", "e"]
    assert current(tiny) == {key: {7.0} for key in "acde"}
    rows = {row["key"]: row for row in pq.read_table(tiny.folder.local / "ledger").to_pylist()}
    assert (rows["b"]["outcome"], rows["b"]["reason"], rows["b"]["candidate"]) == (
        "error",
        "exception",
        None,
    )
    assert "boom" in rows["b"]["detail"]
    assert rows["a"]["outcome"] == "candidate"
    assert rows["f"]["outcome"] == "rejected"
    assert Ledger(tiny.folder).drop_errors() == 1


def test_more_than_a_fifth_of_them_stop_the_scoring(tiny):
    """It is the scorer then; the run keeps its earlier scores, and the ledger its rows."""
    with pytest.raises(UserError, match=r"(?s)2 of 5 candidates could not.*the first is b.*boom"):
        again(tiny, broken={"b", "c"})
    assert current(tiny) == {key: {80.0} for key in "abcde"}
    assert again(tiny) == ["b", "c"]
    assert current(tiny) == {key: {7.0} for key in "abcde"}


def test_a_run_that_is_continued_after_scoring_loses_no_score(tiny):
    """However many segments the scoring was written in, against those of the ledger."""
    for key in "cde":
        with pytest.raises(UserError):
            again(tiny, full={key})
    again(tiny)
    info = load_info(tiny.folder)
    ledger = Ledger(tiny.folder)
    ledger.recover(info.scoring.generation)
    tiny.add("g")
    ledger.append(tiny.samples, OTHER, info.scoring.generation)
    assert current(tiny) == {**{key: {7.0} for key in "abcde"}, "g": {80.0}}


def test_what_a_killed_driver_left_of_old_scores_goes_with_the_next_scoring(tiny):
    """It was killed between the switch and the deletion."""
    old = tiny.folder.local / "views/g0000-000000.parquet"
    data = old.read_bytes()
    again(tiny)
    old.write_bytes(data)
    again(tiny)
    assert not old.exists()
    assert current(tiny) == {key: {7.0} for key in "abcde"}
