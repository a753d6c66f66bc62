"""Tables that contradict each other are told, and rows of nobody do not count."""

import pytest

from datapipe.errors import UserError
from datapipe.run.ledger import put_scores
from dataset.judged import AppliedRules, judged_tables
from tests.datapipe.runs import DECIDE, LABELS, RULES, TinyRun

APPLIED = AppliedRules(DECIDE, RULES.as_dict())


def counted(tiny):
    with judged_tables(tiny.folder, tiny.info, APPLIED) as connection:
        return connection.execute("SELECT count(*), count(DISTINCT key) FROM judged").fetchone()


@pytest.fixture
def tiny(tmp_path):
    made = TinyRun(tmp_path)
    made.add("a", [{}, {}])
    made.add("b")
    return made


def test_scores_of_keys_that_are_not_in_the_ledger_do_not_count(tiny):
    """A driver that is writing, or was killed, leaves scores before their ledger segment."""
    tiny.save()
    before = counted(tiny)
    tiny.add("c")
    put_scores(tiny.folder, tiny.samples, LABELS, "g0000-000007.parquet")
    assert counted(tiny) == before == (21, 2)


def test_files_in_any_order_count_alike(tiny):
    """Segments need no order: what belongs together is found by key and identity."""
    tiny.save(per_segment=1)
    first, second = sorted((tiny.folder.local / "views").iterdir())
    swapped = first.read_bytes(), second.read_bytes()
    second.write_bytes(swapped[0])
    first.write_bytes(swapped[1])
    assert counted(tiny) == (21, 2)


def again(tiny, what):
    """The same rows in another segment."""
    folder = tiny.folder.local / what
    (first,) = folder.iterdir()
    (folder / first.name.replace("000000", "000001")).write_bytes(first.read_bytes())


def without_views(tiny):
    (file,) = (tiny.folder.local / "views").iterdir()
    file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_views, "candidate a has no complete scores"),
        (lambda tiny: again(tiny, "ledger"), "the ledger holds a twice"),
        (lambda tiny: again(tiny, "references"), "candidate a is scored twice"),
        (lambda tiny: again(tiny, "views"), "candidate a has a view that is scored twice"),
    ],
)
def test_contradictions_are_named(tiny, spoil, message):
    """The first key is named, and counts that would be wrong are not given."""
    tiny.save()
    spoil(tiny)
    with pytest.raises(UserError, match=message):
        counted(tiny)


def test_two_sets_of_scorers_are_refused(tiny):
    """No one set of rules can judge both."""
    tiny.save()
    tiny.add("c")
    other = LABELS | {"recogniser": "other"}
    tiny.ledger.append(tiny.samples, other, 0)
    with pytest.raises(UserError, match="scored by different scorers"):
        counted(tiny)
