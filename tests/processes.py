"""Processes of tests that need not import torch: each is a fork of one that imported it once."""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ("pytest", "tests.datapipe.faults.crash")
OF_TORCH = (
    "diffusers.hooks",
    "harmoview.load",
    "harmoview.tiny",
    "harmoview.train.train",
    "lora_engine.flux.train",
    "torch.distributed.fsdp",
)
"""What is imported beside it where the tests that were collected have imported torch anyway."""


def forked() -> ForkServerContext:
    """The context of such processes: they are started fresh, with everything imported."""
    context = multiprocessing.get_context("forkserver")
    of_torch = OF_TORCH if "torch" in sys.modules else ()
    context.set_forkserver_preload([*PRELOADED, *of_torch, "tests.frozen"])
    return context


def together(meet: Path, work: Callable[..., None], *arguments: Any, ranks: int = 2) -> None:
    """Run `work(rank, *arguments)` in so many processes that are a group of torch.distributed.

    `meet` is a path where nothing is yet. Raises what the first process to fail raised.
    """
    from torch.multiprocessing import start_processes

    start_processes(
        _rank,
        (meet, ranks, work, arguments),
        nprocs=ranks,
        start_method=forked().get_start_method(),
    )


def _rank(rank: int, meet: Path, ranks: int, work: Callable[..., None], arguments: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=ranks,
        timeout=timedelta(seconds=300),
    )  # fmt: skip
    work(rank, *arguments)
    dist.destroy_process_group()


def command(module: str, words: Sequence[str], said: Path) -> BaseProcess:
    """A command, begun in such a process; what it says on stdout and stderr goes to a file."""
    process = forked().Process(target=_command, args=(module, words, said, dict(os.environ)))
    process.start()
    return process


def _command(module: str, words: Sequence[str], said: Path, environment: dict[str, str]) -> None:
    os.environ.clear()  # of what was set when the first such process was started
    os.environ.update(environment)
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        status = importlib.import_module(module).main(words)
    finally:
        atexit._run_exitfuncs()  # which such a process leaves out; Ray's ends its cluster
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)
