"""The videos of a suite: which are missing, as orders for a model, or rendered by built-in ones."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from typing import Any, cast

from datapipe.errors import UserError
from harmoview.bench.run import BenchRun, VideoKey
from harmoview.bench.virtual.methods import Method, SuitePeople, check_virtual, virtual_video
from harmoview.orders import Order, read_about


def missing_videos(run: BenchRun, method: str, seeds: Sequence[int]) -> list[VideoKey]:
    """Of every case and seed, those that the run lacks."""
    there = set(run.folder.names(f"videos/{method}/*.mp4"))
    wanted = [VideoKey(method, case.id, seed) for case in run.suite.cases for seed in seeds]
    return [key for key in wanted if key.path not in there]


def order(run: BenchRun, key: VideoKey, views: Sequence[int] | None) -> Order:
    """A case for a model that takes references; `views` are shown instead of the case's own.

    Seeds of a case follow each other from its own. The frontal view is the reference itself.
    Raises UserError where `views` are not of the suite.
    """
    case = run.suite.case[key.case]
    shown = tuple(case.shown if views is None else views)
    if unknown := set(shown) - set(run.suite.yaws):
        raise UserError(f"--views {sorted(unknown)[0]}: the suite has {list(run.suite.yaws)}")
    return Order(
        name=f"{key.case}.s{key.seed}",
        prompt=case.prompt,
        pictures=tuple(
            {yaw: run.suite.picture(who.id, yaw or None) for yaw in shown}
            for who in case.identities
        ),
        people=tuple(who.id for who in case.identities),
        seed=case.seed + key.seed,
        height=case.height,
        width=case.width,
        frames=case.frames,
        fps=case.fps,
        about={
            **asdict(key),
            "shown": list(shown),
            "views": None if views is None else list(views),
            "suite_sha256": run.suite.sha256,
        },
    )


def check_same(
    run: BenchRun, method: str, made_by: Mapping[str, Any], views: Sequence[int] | None
) -> None:
    """Raises UserError where a method's videos there were made in another way."""
    for name in run.folder.names(f"videos/{method}/*.json")[:1]:
        about = read_about(run.folder, name)
        before = {**(about.get("made_by") or {}), "views": about.get("views")}
        now = {**made_by, "views": None if views is None else list(views)}
        for key, value in now.items():
            if before.get(key) != value:
                raise UserError(
                    f"{run.folder.url} has videos of {method} made with {key} "
                    f"{before.get(key)!r}, not {value!r}: give this another --method"
                )


def render_videos(run: BenchRun, keys: Sequence[VideoKey], workers: int) -> Iterator[VideoKey]:
    """Make videos by built-in methods, each put whole; yields each when it is there.

    Raises UserError where the suite is not virtual, or a process ends.
    """
    check_virtual(run.suite)
    if workers == 1 or len(keys) <= 1:
        people = SuitePeople(run.suite)
        for key in keys:
            yield render_video(run, people, key)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(keys)), mp_context=context, initializer=_begin, initargs=(run,)
    )
    with pool:
        jobs = [pool.submit(_render, key) for key in keys]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BrokenProcessPool as ended:
            raise UserError(
                "a process that renders videos ended, for want of memory for example; what was "
                "made is kept: run this again, with fewer --workers if need be"
            ) from ended
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def render_video(run: BenchRun, people: SuitePeople, key: VideoKey) -> VideoKey:
    """One video, its truth first."""
    case = run.suite.case[key.case]
    made = virtual_video(people, case, cast(Method, key.method), key.seed)
    truth = {**made.truth, "fps": case.fps, "height": case.height, "width": case.width}
    about = {**asdict(key), "suite_sha256": run.suite.sha256, "truth": truth}
    run.folder.put(key.about, (json.dumps(about, separators=(",", ":")) + "\n").encode())
    run.folder.put(key.path, made.video)
    return key


_here: tuple[BenchRun, SuitePeople] | None = None
"""In a worker process: the run, and its people."""


def _begin(run: BenchRun) -> None:
    global _here
    _here = (run, SuitePeople(run.suite))


def _render(key: VideoKey) -> VideoKey:
    assert _here is not None  # by _begin
    return render_video(*_here, key)
