"""The weights that learn: their optimiser, rate and moving averages, and checkpoints of it all.

A checkpoint resumes exactly, with any number of processes, and appears whole or not at all.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim.lr_scheduler import LRScheduler

from datapipe.errors import FinalError, UserError
from datapipe.files import Folder
from training import parallel

KEPT = 2
"""Checkpoints that stay where nothing else is asked for; the one before the latest is for people,
not for the code."""
SKIPPED = 10
"""Steps without a finite gradient, one after the other, that end a run: it has diverged."""
STATE = "state.json"
"""What of a checkpoint is not tensors; written last."""


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


class LearnedWeights:
    """Parameters that a training changes; each of its processes has some of them, or all."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        *,
        ema: float,
        clip: float,
    ) -> None:
        """`ema`: decay of the averages, 0 for none; `clip`: the largest norm of the gradient."""
        self.parameters = dict(parameters)
        self.optimizer, self.schedule, self._clip = optimizer, schedule, clip
        self._skipped = 0
        self.averages = EMAModel(list(parameters.values()), decay=ema) if ema else None

    def step(self) -> dict[str, float]:
        """One step along every process's gradients: their norm before clipping, and the rate.

        A gradient that is not finite is skipped, as it would make all weights NaN, and the next
        checkpoint with them. Raises FinalError where `SKIPPED` in a row are.
        """
        parameters = self.parameters.values()
        parallel.average_gradients(parameters)
        norm = parallel.clip_gradients(parameters, self._clip)
        rate = float(self.schedule.get_last_lr()[0])
        finite = math.isfinite(norm)  # the norm is of all processes, which so agree
        if finite:
            self.optimizer.step()
            if self.averages is not None:
                self.averages.step(parameters)
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped == SKIPPED:
            raise FinalError(
                f"the gradients of {SKIPPED} steps in a row were not finite: the weights are those "
                "of the last good step; look at the data and the losses in metrics.jsonl, and "
                "begin a new --out with a lower --learning-rate or a longer --warmup, and as "
                "--init the latest adapter (train-lora) or what `harmoview export` makes of the "
                "latest checkpoint (train)"
            )
        self.schedule.step()
        self.optimizer.zero_grad()
        return {"grad_norm": norm, "lr": rate, "skipped": float(not finite)}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has its averaged weights, if there are some."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange weights and averages, one by one to spare memory."""
        if self.averages is None:
            return
        averages = self.averages.shadow_params
        for parameter, average in zip(self.parameters.values(), averages, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)

    def save(
        self, folder: Path, step: int, keep: int = KEPT, about: Mapping[str, Any] | None = None
    ) -> None:
        """Write checkpoint `step` (steps done); all processes call it. All but `keep` go.

        Torch's distributed format: every process writes its part, and any number can read it.
        `about` is for `about_checkpoint`. Raises UserError where it cannot be written; the former
        ones stay.
        """
        temporary = folder / f".{step:08d}.tmp"
        if parallel.rank() == 0:
            for left in folder.glob(".*.tmp"):  # by a run that was killed
                shutil.rmtree(left)
            temporary.mkdir(parents=True)
        parallel.wait_for_all()
        try:
            save({**self._tensors(), "optimizer": self._moments()}, checkpoint_id=temporary)
        except CheckpointException as failed:
            if parallel.rank() == 0:  # half a checkpoint would keep the disk full
                shutil.rmtree(temporary, ignore_errors=True)
            why = str(next(iter(failed.failures.values()))[0]).partition("\n")[0]
            raise UserError(
                f"the checkpoint of step {step} cannot be written into {folder} ({why}); the one "
                "before it is whole: make room and go on with --resume"
            ) from failed
        if parallel.rank() == 0:
            state = {
                "step": step,
                "schedule": self.schedule.state_dict(),
                "ema": None if self.averages is None else self.averages.optimization_step,
                "about": about or {},
            }
            Folder(temporary).put(STATE, json.dumps(state).encode())  # on the disk, like the rest
            temporary.rename(folder / f"{step:08d}")
            for old in checkpoints(folder)[:-keep]:
                going = (folder / f"{old:08d}").rename(folder / f".{old:08d}.tmp")
                shutil.rmtree(going)
        parallel.wait_for_all()

    def load(self, folder: Path, step: int, *, weights_only: bool = False) -> None:
        """Put checkpoint `step` back; all processes call it.

        `weights_only` begins with a fresh optimiser. Raises UserError for other parameters.
        """
        path = folder / f"{step:08d}"
        saved, state = json.loads((path / STATE).read_text()), self._tensors()
        there = FileSystemReader(path).read_metadata().state_dict_metadata
        shapes = {f"model.{name}": p.shape for name, p in self.parameters.items()}
        if {n: getattr(m, "size", None) for n, m in there.items() if n[:6] == "model."} != shapes:
            raise UserError(f"{path} is a checkpoint of other weights; start with a new --out")
        if not weights_only:
            _make_moments(self.optimizer)
            kept = {n.removeprefix("optimizer.").rpartition(".")[0] for n in there}
            for name, parameter in self.parameters.items():
                if name not in kept:  # it had no gradient yet
                    self.optimizer.state.pop(parameter, None)
            state["optimizer"] = self._moments()
        load(state, checkpoint_id=path)
        if self.averages is not None:
            self.averages.optimization_step = saved["ema"]
        if not weights_only:
            self.schedule.load_state_dict(saved["schedule"])
            for group, rate in zip(
                self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True
            ):
                group["lr"] = rate

    def _tensors(self) -> dict[str, Any]:
        """Weights and averages themselves, so that loading fills them."""
        found: dict[str, Any] = {"model": {n: p.detach() for n, p in self.parameters.items()}}
        if self.averages is not None:
            found["ema"] = dict(zip(self.parameters, self.averages.shadow_params, strict=True))
        return found

    def _moments(self) -> dict[str, Any]:
        """What the optimiser keeps, by the parameters' names."""
        state = self.optimizer.state
        return {name: state[p] for name, p in self.parameters.items() if p in state}


def checkpoints(folder: Path) -> list[int]:
    """The steps of which there is a whole checkpoint, in order."""
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if (p / STATE).is_file())


def about_checkpoint(folder: Path, step: int) -> dict[str, Any]:
    """What whoever wrote checkpoint `step` said about it."""
    found: dict[str, Any] = json.loads((folder / f"{step:08d}" / STATE).read_text())["about"]
    return found


def latest_checkpoint(folder: Path) -> int:
    """The steps of the latest checkpoint, 0 where there is none; all processes call it.

    On a network file system some processes may see a new folder later than others.
    """
    return max(parallel.gather(max(checkpoints(folder), default=0)))


def _make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Let a fresh optimiser make what it keeps, by a step without rate and gradients."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
