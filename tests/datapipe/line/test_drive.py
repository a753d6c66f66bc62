"""Every sample of the listing ends in the ledger, in parts, with three tries of it at most."""

import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.files import Folder
from datapipe.line.drive import Recorder, Remaining, drive
from datapipe.line.line import LocalLine
from datapipe.run.tables import Ledger
from tests.datapipe.fast_line import LABELS, numbers


class Losing(LocalLine):
    """A line without stages that loses samples as Ray does: without a word, after two tries."""

    def __init__(self, deadly):
        super().__init__([])
        self.deadly, self.tries, self.parts = deadly, Counter(), []

    def run(self, listing):
        self.parts.append(0)
        yield from self._try(listing, 2)

    def retry(self, listing):
        yield from self._try(listing, 1)

    def _try(self, listing, tries):
        for sample in listing():
            self.parts[-1] += tries == 2
            if sample.key in self.deadly:
                self.tries[sample.key] += tries
            else:
                self.tries[sample.key] += 1
                yield sample.stop("rejected", "no_face", "")

    def count_lost(self, sample):
        pass


def drive_in_parts(root, count, part, deadly, times=1):
    """The line, and the ledger's rows by key; the command is run so many times."""
    run = Folder(root / "run")
    for _ in range(times):
        line, ledger = Losing(deadly), Ledger(run)
        todo = Remaining(numbers(root / "run", count), run.url, ledger.segments, part=part)
        drive(line, todo, Recorder(ledger, LABELS, 0), lambda _: None)
    rows = pq.read_table(root / "run/ledger").to_pylist()
    assert len(rows) == len({row["key"] for row in rows})
    return line, {row["key"]: row for row in rows}


@given(st.integers(1, 15), st.integers(1, 6), st.sets(st.integers(0, 14), max_size=4))
@settings(max_examples=30)
def test_each_part_is_finished_before_the_next(count, part, deadly):
    """So a sample that kills is tried three times, however many parts follow, and none is left."""
    keys = [f"k{number:04d}" for number in range(count)]
    with tempfile.TemporaryDirectory() as root:
        line, rows = drive_in_parts(Path(root), count, part, {f"k{n:04d}" for n in deadly})
    assert sorted(rows) == keys
    dead = [key for key, row in rows.items() if row["reason"] == "worker_died"]
    assert sorted(dead) == [key for key in keys if int(key[1:]) in deadly]
    assert line.tries == {key: 3 if key in dead else 1 for key in keys}
    assert max(line.parts) <= part


@pytest.mark.parametrize("count", [8, 9])
def test_a_run_that_is_done_runs_nothing(tmp_path, count):
    """Whether or not its last part was full."""
    line, _ = drive_in_parts(tmp_path, count, 4, {"k0001"}, times=2)
    assert not line.tries
