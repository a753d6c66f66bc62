"""Work in threads or processes beside the caller's: in order, and only so far ahead."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.connection import wait
from typing import Any, TypeVar

from datapipe.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def read_ahead(
    work: Callable[[T], R], items: Iterable[T], threads: int, ahead: int | None = None
) -> Iterator[tuple[T, Future[R]]]:
    """Each item, in order, and what becomes of it; threads work on up to `ahead` later ones.

    `ahead` is the number of threads where it is not given. The future raises what `work` raised, so
    that the caller may go on with the next item. When the caller stops early, work that no thread
    has begun is dropped.
    """
    with ThreadPoolExecutor(threads, getattr(work, "__name__", "ahead")) as pool:
        yield from _in_order(pool, work, items, ahead or threads)


def in_processes(
    start: Callable[[], Callable[[T], R]],
    items: Iterable[T],
    workers: int,
    ahead: int | None = None,
) -> Iterator[R]:
    """The results in order, `ahead` (2 a worker) items ahead of the caller.

    `start` is called once in each of the fresh processes, to load models say, and returns what is
    called with each item; one worker does all in this process. Raises what the work raised, and
    UserError where a process was killed.
    """
    if workers <= 1:
        work = start()
        yield from map(work, items)
        return
    pool = process_pool(workers, _begin, start)
    try:
        for _, future in _in_order(pool, _work, items, ahead or 2 * workers):
            yield future.result()
    except BrokenProcessPool as died:
        raise UserError(
            "a worker was killed, perhaps for memory: run the same command again, with fewer "
            "--workers"
        ) from died
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def process_pool(workers: int, begin: Callable[[T], object], argument: T) -> ProcessPoolExecutor:
    """Fresh processes, each of which calls `begin` first, and ends with this one.

    A process that is killed cannot end its pool's, which would wait for work for ever.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _begin_watched, (begin, argument))


def _begin_watched(begin: Callable[[T], object], argument: T) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # in a process of a pool

    def watch(sentinel: int = parent.sentinel) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="ends with its parent", daemon=True).start()
    begin(argument)


def _in_order(
    pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[tuple[T, Future[R]]]:
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()


_START: list[Callable[[], Callable[[Any], Any]]] = []
"""In a worker process: its `start`."""


def _begin(start: Callable[[], Callable[[Any], Any]]) -> None:
    _START.append(start)


@cache
def _started() -> Callable[[Any], Any]:
    return _START[0]()  # within the first item, whose failure is told: an initializer's is not


def _work(item: Any) -> Any:
    return _started()(item)
