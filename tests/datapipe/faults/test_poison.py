"""A sample that ruins its worker costs three tries and a bounded time, and no neighbour."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from datapipe.line.worker import SampleBounds
from tests.datapipe.fast_line import calls, contents, work

COUNT = 60
POISON = {
    "k0007": "SIGSEGV",
    "k0020": "hang",
    "k0033": "leak",
    "k0050": "throw",
}
REASONS = {
    "k0007": "worker_died",
    "k0020": "timed_out",
    "k0033": "out_of_memory",
    "k0050": "exception",
}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_poison_ends_as_an_error_after_three_tries_at_most_and_hurts_no_other_sample(tmp_path):
    """Crashed, hung, leaking, throwing: all in one run of parts."""
    work(tmp_path / "clean", COUNT, tmp_path / "clean-calls", ray=False)
    wanted, tables = contents(tmp_path / "clean")
    run, log = tmp_path / "run", tmp_path / "calls"
    bounds = SampleBounds(seconds=10, gigabytes=1)
    outcomes = work(run, COUNT, log, ray=True, poison=POISON, bounds=bounds, part=40, pause=0.05)
    assert outcomes == {"candidate": COUNT - len(POISON), "error": len(POISON)}
    rows = {row["key"]: row for row in pq.read_table(run / "ledger").to_pylist()}
    found = {key: row["reason"] for key, row in rows.items() if row["outcome"] == "error"}
    assert found == REASONS
    tries = Counter(key for key, _ in calls(log))
    # fewer where it only waited in the worker that another one killed
    assert all(1 <= tries[key] <= 3 for key in POISON)
    candidates, made = contents(run)
    assert candidates == {n: data for n, data in wanted.items() if n[:-4] not in POISON}
    assert made["views"] == [row for row in tables["views"] if row["key"] not in POISON]
