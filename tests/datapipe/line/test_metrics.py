"""What Prometheus scrapes of a line, and what its workers log, is what the ledger says."""

import json
import re
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datapipe.errors import BadSample
from datapipe.files import Folder
from datapipe.line.cluster import worker_logs
from datapipe.line.drive import Recorder, Remaining, drive
from datapipe.line.line import RayLine
from datapipe.line.metrics import COUNTERS, IN_LINE, SECONDS
from datapipe.record import Sample, Scores, Source
from datapipe.run.info import open_run
from datapipe.run.tables import Ledger
from datapipe.stage import BusyTime, GpuTurns, Resources, apply, gpu_busy, gpu_waited
from tests.datapipe.fast_line import INFO, Mean, Portraits, Roll, numbers, stages

FORGED = '\n{"key": "k0001", "message": "forged"}\n'
POISON = {"k0004": "throw", "k0005": "SIGKILL"}
COUNT = 12


class Choosy(Portraits):
    """Prepare: refuses two samples, one of them with a text that would like to be a log line."""

    def __call__(self, sample):
        if sample.key in ("k0002", "k0003"):
            raise BadSample("no_face", FORGED if sample.key == "k0002" else "nobody there")
        return super().__call__(sample)


class OnGpu(Roll):
    """An engine whose work is the GPU's."""

    def __call__(self, *told):
        with gpu_busy:
            return super().__call__(*told)


class Detects(Mean):
    """Score: no face in the profile views."""

    def __call__(self, sample):
        done = super().__call__(sample)
        return replace(
            done,
            identities=tuple(
                replace(identity, views=tuple(map(_unseen_in_profile, identity.views)))
                for identity in done.identities
            ),
        )


def _unseen_in_profile(view):
    return replace(view, scores=Scores(False)) if abs(view.yaw) == 90 else view


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run on Ray with rejected, broken and killed samples: its folder, figures, logs, share."""
    import ray

    root = tmp_path_factory.mktemp("metrics")
    folder, corpus = Folder(root / "run"), numbers(root / "run", COUNT)
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        job_config=worker_logs(),
    )
    try:
        entry, synthesize, score = stages(root / "run", root / "calls")
        entry.prepare, score.__class__ = Choosy(), Detects
        synthesize.engine = OnGpu(str(root / "run"), str(root / "calls"), POISON, pause=0.05)
        synthesize.resources = Resources(num_gpus=1, threads=3)
        info, ledger = open_run(folder, INFO), Ledger(folder)
        line = RayLine([entry, synthesize, score], name=folder.url)
        todo = Remaining(corpus, folder.url, ledger.segments)
        drive(line, todo, Recorder(ledger, info.scoring.labels, 0), lambda _: None)
        (node,) = ray.nodes()
        figures = scrape(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")
        logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
        lines = [
            line
            for log in sorted(logs.glob("worker-*.err"))
            for line in log.read_text().splitlines()
        ]
        yield root / "run", figures, lines, line.gpu_share()
    finally:
        ray.shutdown()


def scrape(address):
    """The line's series: name -> [(labels, value)], when all samples have arrived there."""
    end = time.monotonic() + 120
    while True:
        with urllib.request.urlopen(address, timeout=30) as answer:
            text = answer.read().decode()
        series = {}
        for line in text.splitlines():
            if found := re.match(r"ray_(harmoview_\w+|data_num_row\w+)\{(.*)\} (\S+)$", line):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
                series.setdefault(found[1], []).append((labels, float(found[3])))
        if sum(value for _, value in series.get("harmoview_samples_total", [])) >= COUNT:
            return series
        assert time.monotonic() < end, f"only {series.get('harmoview_samples_total')}"
        time.sleep(1)


def by(series, *names):
    """Values summed by the labels."""
    sums = Counter()
    for labels, value in series:
        sums[tuple(labels.get(name, "") for name in names)] += value
    return +sums


@pytest.mark.slow
@pytest.mark.ray
def test_samples_by_outcome_and_reason_are_the_ledger(seen):
    """Also those whose worker died, which never came out of the line."""
    run, figures, _, _ = seen
    rows = pq.read_table(run / "ledger").to_pylist()
    wanted = Counter((row["outcome"], row["reason"] or "") for row in rows)
    assert wanted["error", "worker_died"] == wanted["error", "exception"] == 1
    assert wanted["rejected", "no_face"] == 2
    assert by(figures["harmoview_samples_total"], "outcome", "reason") == wanted
    assert {labels["run"] for labels, _ in figures["harmoview_samples_total"]} == {str(run)}


@pytest.mark.slow
@pytest.mark.ray
def test_views_by_yaw_are_the_table(seen):
    """Made by the engine and detected."""
    run, figures, _, _ = seen
    every = pq.read_table(run / "views").to_pylist()
    rows = [row for row in every if row["source"] == "synthesised"]
    made = Counter((f"{row['yaw']:+d}",) for row in rows)
    detected = Counter((f"{row['yaw']:+d}",) for row in rows if row["detected"])
    assert by(figures["harmoview_views_total"], "yaw") == made
    assert by(figures["harmoview_views_detected_total"], "yaw") == detected
    assert len(made) == 7
    assert len(detected) == 5


@pytest.mark.slow
@pytest.mark.ray
def test_seconds_by_stage_are_the_ledger(seen):
    """Of every sample that a stage took: how many, and their sum."""
    run, figures, _, _ = seen
    rows = pq.read_table(run / "ledger").to_pylist()
    for stage in ("prepare", "synthesize", "score"):
        took = [row[f"{stage}_seconds"] for row in rows if row[f"{stage}_seconds"] is not None]
        assert by(figures[f"{SECONDS}_count"], "stage")[stage,] == len(took) > 0
        spent = by(figures["harmoview_worker_seconds_total"], "stage")[stage,]
        assert spent == pytest.approx(sum(took), rel=1e-6)


@pytest.mark.slow
@pytest.mark.ray
def test_every_metric_is_scraped_and_the_line_ends_empty(seen):
    """What the code names is what Prometheus gets."""
    _, figures, _, _ = seen
    names = {f"{name}_total" for name in COUNTERS} | {IN_LINE}
    names |= {f"{SECONDS}_{part}" for part in ("bucket", "count", "sum")}
    assert {name for name in figures if name.startswith("harmoview")} == names
    assert [value for _, value in figures[IN_LINE]] == [0]


@pytest.mark.slow
@pytest.mark.ray
def test_pools_have_their_stages_names(seen):
    """In Ray's own figures."""
    _, figures, _, _ = seen
    operators = {labels["operator"] for labels, _ in figures["data_num_row_inputs_received"]}
    wanted = {f"Map({stage})" for stage in ("prepare", "synthesize", "score")}
    assert wanted <= {operator.rpartition("_")[0] for operator in operators}


@pytest.mark.slow
@pytest.mark.ray
def test_gpu_share_is_told_by_the_workers(seen):
    """Busy for no longer than held; the summary has the same share as the counters."""
    _, figures, _, share = seen
    at_work = by(figures["harmoview_gpu_busy_seconds_total"], "worker")
    held = by(figures["harmoview_gpu_held_seconds_total"], "worker")
    assert at_work
    assert set(at_work) <= set(held)  # one may have had rejected samples only
    assert all(at_work[worker] <= held[worker] for worker in at_work)
    assert share == pytest.approx(sum(at_work.values()) / sum(held.values()), rel=1e-3)


@pytest.mark.slow
@pytest.mark.ray
def test_the_story_of_a_sample_is_found_by_its_key(seen):
    """Which stages began, in which worker on which node, and how it left; also if it killed."""
    _, _, lines, _ = seen
    told = [json.loads(line) for line in lines if line.startswith("{")]

    def story(key):
        mine = sorted((t for t in told if t.get("key") == key), key=lambda t: t["timestamp_ns"])
        assert all(t["worker_id"] and t["node_id"] for t in mine)
        return [(t["message"], t.get("stage") or t["outcome"]) for t in mine]

    begins = [("stage begins", stage) for stage in ("prepare", "synthesize", "score")]
    left = ("left the worker", "candidate")
    # one whose worker another sample killed begins anew, also where it only passes by
    assert list(dict.fromkeys(x for x in story("k0007") if x != left)) == begins
    assert story("k0007")[-1] == left
    refused = ("left the worker", "rejected")
    assert story("k0003")[:2] == [begins[0], refused]
    assert set(story("k0003")) == {begins[0], refused}  # no other stage began
    assert story("k0003")[-3:] == [refused] * 3
    assert story("k0005").count(begins[1]) == 3
    assert [t for t in told if t.get("key") == "k0004" and "boom" in t.get("detail", "")]


@pytest.mark.slow
@pytest.mark.ray
def test_text_of_a_sample_cannot_forge_a_line(seen):
    """Its line ends are escaped."""
    _, _, lines, _ = seen
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(t.get("detail") == FORGED for t in told)
    assert not any(t["message"] == "forged" for t in told)


def test_the_gpu_is_busy_while_anyone_is_inside():
    """Two at once count once; who is still inside counts until now."""
    now = 0.0
    gpu = BusyTime(lambda: now)
    with gpu:
        now = 1.0
        with gpu:
            now = 3.0
        now = 4.0
    now = 10.0
    assert gpu.seconds() == 4.0
    with gpu:
        now = 11.0
        assert gpu.seconds() == 5.0


def test_a_turn_at_the_gpu_is_waited_for_and_the_wait_is_the_threads_own():
    """Who comes while another has the GPU waits until it is free; the other has waited for none."""
    now, arrived, told = 0.0, threading.Event(), []

    def clock():
        then = now
        arrived.set()
        return then

    def come():
        with turns:
            told.append(gpu_waited.seconds)

    turns, before = GpuTurns(clock), gpu_waited.seconds
    second = threading.Thread(target=come)
    with turns:
        arrived.clear()
        second.start()
        assert arrived.wait(60)
        now = 10.0
    second.join(60)
    assert told == [10.0]
    assert gpu_waited.seconds == before


def test_the_wait_for_the_gpu_is_not_a_samples_time():
    """Three samples in hand would otherwise count each second of the GPU three times."""

    class Waits:
        name, resources = "waits", Resources(1)

        def setup(self):
            pass

        def __call__(self, sample):
            gpu_waited.seconds += 1000.0
            return sample

    done = apply(Waits(), Sample("k", Source("k.mp4", ".mp4")))
    assert done.seconds["waits"] < 0
