"""Scoring a run: what is missing or outdated is measured, over processes, and put as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from datapipe.concurrent import process_pool
from datapipe.errors import BadSample, SampleError, UserError
from datapipe.models import digest
from datapipe.run.info import library_versions
from harmoview.bench.run import BenchRun, VideoKey
from harmoview.bench.scorers import Job, Scorer
from harmoview.bench.scores import Status, VideoScore
from harmoview.bench.store import (
    Provenance,
    put_scores,
    read_score_file,
    scores_name,
)

LIBRARIES = ("av", "numpy", "onnxruntime", "opencv-python", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Task:
    """One scorer on one video."""

    key: VideoKey
    scorer: Scorer
    made_by: Provenance


def outdated(
    run: BenchRun, scorers: Sequence[Scorer], *, retry_failed: bool = False
) -> Iterator[Task]:
    """What is to be measured: no rows of this video, scorer, version and weights are there.

    Scorers without their weights get rows that say so, and nothing to do.
    """
    hashes: dict[VideoKey, str] = {}
    models = {scorer.name: "" if scorer.missing() else scorer.model_sha256() for scorer in scorers}
    for key in run.videos():
        for scorer in scorers:
            stored = read_score_file(run.folder, scores_name(key, scorer.name))
            if key not in hashes:
                with run.local(key) as path:
                    hashes[key] = digest(path)
            made_by = Provenance(scorer.name, scorer.version, models[scorer.name], hashes[key])
            failed = any(row["status"] == "failed" for row in stored)
            if made_by.made(stored) and not (failed and retry_failed):
                continue
            if why := scorer.missing():
                keep = any(row["status"] != "missing_weights" for row in stored)
                if not (keep and stored[0]["video_sha256"] in ("", hashes[key])):
                    _put(run, key, made_by, _without(scorer, "missing_weights", why), 0.0, {})
                continue
            yield Task(key, scorer, made_by)


def score(
    run: BenchRun,
    tasks: Sequence[Task],
    workers: int,
    told: Callable[[Task, Status], None] = lambda task, status: None,
) -> None:
    """Do the tasks. A video that ends its process becomes a row with that reason.

    Raises UserError for a scorer that cannot work, after the others have.
    """
    apart = [task for task in tasks if not task.scorer.in_process]
    here = [task for task in tasks if task.scorer.in_process]
    stopped = _prepare(run, apart)
    apart = [task for task in apart if task.scorer.name not in stopped]
    for task, status in _pooled(run, apart, workers):
        told(task, status)
    ready: set[str] = set()
    for task in here:
        if task.scorer.name in stopped:
            continue
        try:
            if task.scorer.name not in ready:
                task.scorer.setup()
                ready.add(task.scorer.name)
            told(task, measure(run, task))
        except UserError as failed:
            stopped[task.scorer.name] = failed
    for wrong in stopped.values():
        raise wrong


def measure(run: BenchRun, task: Task) -> Status:
    """One task, by a scorer that is set up: its rows are put, and how it ended."""
    start = time.process_time()
    try:
        with run.local(task.key) as path:
            job = Job(
                run.folder,
                run.suite,
                task.key,
                path,
                run.about(task.key),
                task.made_by.video_sha256,
            )
            scores = task.scorer(job)
    except (BadSample, SampleError) as unfit:
        scores = _without(task.scorer, "failed", f"{unfit.reason}: {unfit}")
    seconds = time.process_time() - start
    _put(run, task.key, task.made_by, scores, seconds, task.scorer.versions())
    return "failed" if any(one.status == "failed" for one in scores) else "ok"


def _prepare(run: BenchRun, tasks: Iterable[Task]) -> dict[str, UserError]:
    """Do what processes would else all do at once: the references' embeddings.

    Returns what keeps which scorer from working, by name.
    """
    stopped: dict[str, UserError] = {}
    for name, scorer in {task.scorer.name: task.scorer for task in tasks}.items():
        if prepare := getattr(scorer, "prepare", None):
            try:
                scorer.setup()
                prepare(run)
            except UserError as failed:
                stopped[name] = failed
    return stopped


_here: tuple[BenchRun, dict[str, Scorer]] | None = None
"""In a worker process: the run, and the scorers that are set up."""


def _begin(run: BenchRun) -> None:
    global _here
    _here = (run, {})


def _work(task: Task) -> Status:
    assert _here is not None  # by _begin
    run, ready = _here
    if task.scorer.name not in ready:
        task.scorer.setup()
        ready[task.scorer.name] = task.scorer
    return measure(run, Task(task.key, ready[task.scorer.name], task.made_by))


def _pooled(run: BenchRun, tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, Status]]:
    """Over processes. When one dies, what it may have been doing runs again, each by itself."""
    left = list(tasks)
    while left:
        done: set[int] = set()
        with process_pool(min(workers, len(left)), _begin, run) as pool:
            jobs: dict[Future[Status], int] = {pool.submit(_work, t): k for k, t in enumerate(left)}
            try:
                for job in as_completed(jobs):
                    status = job.result()
                    done.add(jobs[job])
                    yield left[jobs[job]], status
            except BrokenProcessPool:
                pass
        left = [task for place, task in enumerate(left) if place not in done]
        under_way, left = left[: workers + 1], left[workers + 1 :]  # the pool hands out in order
        for task in under_way:
            yield task, _alone(run, task)


def _alone(run: BenchRun, task: Task) -> Status:
    with process_pool(1, _begin, run) as pool:
        try:
            return pool.submit(_work, task).result()
        except BrokenProcessPool:
            why = "worker_died: the process that measured this video ended"
            _put(run, task.key, task.made_by, _without(task.scorer, "failed", why), 0.0, {})
            return "failed"


def _without(scorer: Scorer, status: Status, reason: str) -> list[VideoScore]:
    return [VideoScore(metric, None, status=status, reason=reason) for metric in scorer.metrics]


def _put(
    run: BenchRun,
    key: VideoKey,
    made_by: Provenance,
    scores: Sequence[VideoScore],
    seconds: float,
    versions: dict[str, str],
) -> None:
    known = {**library_versions(LIBRARIES), **versions}
    put_scores(run.folder, run.suite.sha256, key, made_by, scores, seconds, known)
