"""The ledger holds every finished key once, whatever was killed."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Identity, Pose, Reference, Sample, Scores, Source, View
from datapipe.run.tables import KeySet, Ledger

TABLES = ("ledger", "views", "references")
LABELS = {"aesthetic_scorer": "brisque", "recogniser": "sface", "pose_estimator": "3ddfa"}


def scored(key, people=1):
    reference = Reference(0.5, 12, (0.0, 0.0, 9.0, 9.0), (0, 0, 9, 9), Pose(1, 2, 3), 0.9, 50.0, 3)
    views = tuple(View(yaw, 5, Scores(detected=yaw != 90, sharpness=3.5)) for yaw in (0, 90))
    one = Identity(reference, views, Scores(detected=True), embedding=(0.6, 0.8))
    source = Source(f"c/{key}.mp4", ".mp4")
    return Sample(key, source, "caption", (one,) * people, candidate=f"candidates/{key}.tar")


def rejected(key):
    return Sample(key, Source(f"c/{key}.mp4", ".mp4")).stop("rejected", "no_face", "none in 32")


def test_every_appended_sample_is_one_row(tmp_path):
    """Candidates and rejected samples alike; views and references one row each."""
    ledger = Ledger(Folder(tmp_path))
    ledger.append([scored("a", 2), rejected("b")], LABELS, 0)
    ledger.append([scored("c")], LABELS, 0)
    rows = {name: pq.read_table(tmp_path / name).num_rows for name in TABLES}
    assert rows == {"ledger": 3, "views": 6, "references": 3}


def test_a_row_tells_all_captions_and_why_there_is_none(tmp_path):
    """The problem is the detail too, unless the sample has a worse one."""
    several = replace(scored("a"), captions=("one", "zwei"))
    bad = replace(scored("b"), caption="", caption_problem="b.txt is not UTF-8")
    worse = replace(rejected("c"), caption_problem="c.txt is not UTF-8")
    Ledger(Folder(tmp_path)).append([several, bad, worse, scored("d")], LABELS, 0)
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "ledger").to_pylist()}
    assert [rows[key]["captions"] for key in "abcd"] == [["one", "zwei"], None, None, None]
    assert rows["b"]["detail"] == rows["b"]["caption_problem"] == "b.txt is not UTF-8"
    assert rows["c"]["detail"] == "none in 32"
    assert rows["c"]["caption_problem"] == "c.txt is not UTF-8"
    assert (rows["d"]["detail"], rows["d"]["caption_problem"]) == (None, None)


def test_a_score_that_could_not_be_measured_is_null(tmp_path):
    """Never a sentinel."""
    Ledger(Folder(tmp_path)).append([scored("a")], LABELS, 0)
    table = pq.read_table(tmp_path / "views")
    assert table["identity_cosine"].null_count == 2
    assert table["sharpness"].to_pylist() == [3.5, 3.5]


def test_an_unscored_candidate_cannot_be_recorded(tmp_path):
    """A ledger row means that everything about its key is stored."""
    sample = scored("a")
    bare = replace(sample, identities=(replace(sample.identities[0], scores=None),))
    with pytest.raises(ValueError, match="must be scored"):
        Ledger(Folder(tmp_path)).append([bare], LABELS, 0)


def test_scores_without_their_ledger_segment_are_removed(tmp_path):
    """What a driver left that was killed between the two writes does not count twice."""
    ledger = Ledger(Folder(tmp_path))
    ledger.append([scored("a")], LABELS, 0)
    ledger.append([scored("b")], LABELS, 0)
    (tmp_path / "ledger/000001.parquet").unlink()
    again = Ledger(Folder(tmp_path))
    again.recover(0)
    assert set(pq.read_table(tmp_path / "views")["key"].to_pylist()) == {"a"}
    again.append([scored("b")], LABELS, 0)
    assert pq.read_table(tmp_path / "views")["key"].to_pylist() == ["a", "a", "b", "b"]


def test_a_writer_who_was_overtaken_changes_nothing(s3_bucket, tmp_path):
    """Not even where it had looked for another's segment just before that was written."""
    run = Folder(f"{s3_bucket}/{tmp_path.name}")
    winner = Ledger(run)

    class Overtaken(Folder):
        begun = False

        def exists(self, name):
            found = super().exists(name)
            if self.begun:
                winner.append([scored("winner")], LABELS, 0)
            return found

    loser = Ledger(Overtaken(run.url))
    loser.run.begun = True
    with pytest.raises(UserError, match="another process wrote"):
        loser.append([scored("loser")], LABELS, 0)
    for name in ("ledger/000000", "views/g0000-000000", "references/g0000-000000"):
        with run.open(f"{name}.parquet") as file:
            assert set(pq.read_table(file)["key"].to_pylist()) == {"winner"}


def test_forgotten_errors_are_the_only_rows_that_go(tmp_path):
    """`--retry-errors` takes out the error rows and leaves the rest as it was."""
    ledger = Ledger(Folder(tmp_path))
    broken = scored("x").stop("error", "exception", "boom")
    ledger.append([scored("a"), broken], LABELS, 0)
    ledger.append([rejected("b")], LABELS, 0)
    assert ledger.drop_errors() == 1
    assert [key for part in ledger.recorded_keys() for key in part] == ["a", "b"]


@given(st.lists(st.lists(st.text(max_size=8))), st.text(max_size=8))
def test_a_key_set_knows_exactly_its_keys(parts, probe):
    """Digests stand for keys."""
    keys = KeySet(parts)
    assert all(key in keys for part in parts for key in part)
    assert (probe in keys) == any(probe in part for part in parts)
