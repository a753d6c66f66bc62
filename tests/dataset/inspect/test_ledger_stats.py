"""What the ledger says of time and of the places that videos came from."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from datapipe.record import Sample, Source
from datapipe.run.info import save_info
from datapipe.run.tables import Ledger
from dataset.inspect.ledger_stats import DriverTime
from dataset.inspect.stats import run_stats
from tests.datapipe.runs import RULES, TinyRun


@pytest.fixture
def hours(monkeypatch):
    """Sets the ledger's clock."""
    return lambda at: monkeypatch.setattr("datapipe.run.tables.time.time", lambda: 3600.0 * at)


@pytest.fixture
def tiny(tmp_path, hours):
    """Two drivers: one of an hour with two segments, and much later one of half an hour."""
    hours(10)
    tiny = TinyRun(tmp_path)
    for at, key in ((10.5, "a"), (11, "b")):
        hours(at)
        tiny.add(key)
        tiny.save()
    hours(50)
    tiny.ledger = Ledger(tiny.folder)
    hours(50.5)
    tiny.reject("c", "error", "worker_died")
    tiny.save()
    return tiny


def test_pauses_between_drivers_do_not_count(tiny):
    """From each driver's start to its last segment; so a rate is that of a working line."""
    stats = run_stats(tiny.folder, RULES)
    assert stats.clock == DriverTime(2, 3600.0 * 10, 3600.0 * 50.5, 3600.0 * 1.5)
    rates = stats.as_dict()["throughput"]
    assert rates["videos_per_hour"] == 2.0
    assert rates["samples_per_hour"] == pytest.approx(4 / 3)
    assert rates["first"] == "1970-01-01T10:00:00+00:00"


def test_forgetting_errors_keeps_the_times(tiny):
    """A segment that is written again keeps when it was written first."""
    before = run_stats(tiny.folder, RULES).clock
    assert tiny.ledger.drop_errors() == 1
    assert run_stats(tiny.folder, RULES).clock == before


def test_a_segment_without_times_leaves_no_rate(tiny):
    """Better none than one that counts some videos without their time."""
    file = next(iter((tiny.folder.local / "ledger").iterdir()))
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    stats = run_stats(tiny.folder, RULES)
    assert stats.clock is None
    assert stats.as_dict()["throughput"] is None


def test_gpu_seconds_are_what_the_workers_held(tiny):
    """Seconds of a stage times the GPUs that run.json says its worker held."""
    save_info(tiny.folder, replace(tiny.info, gpus={"synthesize": 0.5}))
    (stage,) = run_stats(tiny.folder, RULES).as_dict()["seconds"]
    assert (stage["total"], stage["gpus"], stage["gpu_seconds"]) == (4.0, 0.5, 2.0)
    assert (stage["per_sample"], stage["gpu_seconds_per_sample"]) == (2.0, 1.0)


def test_sources_are_folders_and_tars(tmp_path):
    """The one with the most failures, and the one with the most seconds a video, come first."""
    tiny = TinyRun(tmp_path)
    tiny.add("a")
    for key in "bc":
        tiny.reject(key)
    inside = Source("s3://bucket/one.tar", ".mp4", member="x/d.mp4", offset=512)
    tiny.samples.append(Sample("d", inside).stop("error", "exception", "").spent("prepare", 9.0))
    tiny.save()
    found = run_stats(tiny.folder, RULES).sources
    assert found.count == 3
    assert [(s.source, s.videos, s.rejected, s.errors) for s in found.failing] == [
        ("/nowhere/", 2, 2, 0),
        ("s3://bucket/one.tar", 1, 0, 1),
    ]
    assert [(s.source, s.mean) for s in found.slowest] == [
        ("s3://bucket/one.tar", 9.0),
        (f"{tmp_path}/clips/", 2.0),
    ]
