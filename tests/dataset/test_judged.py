"""Tables that contradict each other are told, and rows of nobody do not count."""

import os
from dataclasses import replace

import pytest

from datapipe.errors import UserError
from datapipe.run.tables import put_scores, tables
from dataset.judged import RowColumns, candidate_rows, judge_rows, judged_run
from filters.judge_sql import TableJudge
from tests.datapipe.runs import LABELS, RULES, TinyRun, good


def counted(tiny):
    """What the rules say of every view, asked of the whole run."""
    with judged_run(tiny.folder, RULES) as judged:
        query = "SELECT key, identity, yaw, reason, kept FROM judged ORDER BY ALL"
        return judged.connection.execute(query).fetchall()


def read(tiny):
    """The same, read one candidate after the other."""
    judge, found = TableJudge(RULES), []
    with tables(tiny.folder, tiny.info) as connection:
        for rows in candidate_rows(connection, 1, RowColumns()):
            for view in judge_rows(rows, judge).views.to_pylist():
                found.append(tuple(view[n] for n in ("key", "identity", "yaw", "reason", "kept")))
    return found


both_ways = pytest.mark.parametrize("judged", [counted, read])


@pytest.fixture
def tiny(tmp_path):
    made = TinyRun(tmp_path)
    made.add("a", [{}, {yaw: good(yaw, sharpness=0.0) for yaw in (-90, 0, 60, 90)}])
    made.add("b")
    return made


def test_both_ways_say_the_same(tiny):
    """Of a whole run at once, or of one candidate after the other."""
    tiny.save()
    found = counted(tiny)
    assert found == read(tiny)
    assert len(found) == 21
    assert sum(kept for *_, kept in found) == 14


@both_ways
def test_scores_of_keys_that_are_not_in_the_ledger_do_not_count(tiny, judged):
    """A driver that is writing, or was killed, leaves scores before their ledger segment."""
    tiny.save()
    before = judged(tiny)
    tiny.add("c")
    put_scores(tiny.folder, tiny.samples, LABELS, "g0000-000007.parquet")
    assert judged(tiny) == before


@both_ways
def test_files_in_any_order_count_alike(tiny, judged):
    """Segments need no order: what belongs together is found by key and identity."""
    tiny.save(per_segment=1)
    before = judged(tiny)
    first, second = sorted((tiny.folder.local / "views").iterdir())
    swapped = first.read_bytes(), second.read_bytes()
    second.write_bytes(swapped[0])
    first.write_bytes(swapped[1])
    assert judged(tiny) == before


def again(tiny, what):
    """The same rows in another segment."""
    folder = tiny.folder.local / what
    (first,) = folder.iterdir()
    (folder / first.name.replace("000000", "000001")).write_bytes(first.read_bytes())


def without_views(tiny):
    (file,) = (tiny.folder.local / "views").iterdir()
    file.unlink()


@both_ways
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_views, "candidate a has no complete scores"),
        (lambda tiny: again(tiny, "ledger"), "the ledger holds a twice"),
        (lambda tiny: again(tiny, "references"), "candidate a is scored twice"),
        (lambda tiny: again(tiny, "views"), "candidate a has a view that is scored twice"),
    ],
)
def test_contradictions_are_named(tiny, judged, spoil, message):
    """The first key is named, and counts that would be wrong are not given."""
    tiny.save()
    spoil(tiny)
    with pytest.raises(UserError, match=message):
        judged(tiny)


@both_ways
def test_a_view_scored_twice_is_found_where_another_is_missing(tiny, judged):
    """The number of views alone does not tell."""
    sample = tiny.samples[0]
    first, second = sample.identities
    first = replace(first, views=(*first.views[:-1], first.views[0]))
    tiny.samples[0] = replace(sample, identities=(first, second))
    tiny.save()
    with pytest.raises(UserError, match="candidate a has a view that is scored twice"):
        judged(tiny)


@both_ways
def test_two_sets_of_scorers_are_refused(tiny, judged):
    """No one set of rules can judge both."""
    tiny.save()
    tiny.add("c")
    other = LABELS | {"recogniser": "other"}
    tiny.ledger.append(tiny.samples, other, 0)
    with pytest.raises(UserError, match="scored by different scorers"):
        judged(tiny)


@pytest.mark.parametrize(("cores", "threads"), [(2, 2), (64, 8)])
def test_threads_do_not_grow_with_the_machine(tiny, monkeypatch, cores, threads):
    """Every thread has buffers of its own, and the memory is the same for all of them."""
    tiny.save()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    used = "SELECT current_setting('threads')"
    with tables(tiny.folder, tiny.info) as connection:
        assert connection.execute(used).fetchone() == (threads,)
        for _ in candidate_rows(connection, 1, RowColumns()):
            assert connection.execute(used).fetchone() == (2,)
