"""Checkpoints that resume exactly, with any number of workers, and appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from harmoview.train.learner import Learner
from training import parallel

KEPT = 2
"""Checkpoints that stay; the one before the latest is for people, not for the code."""
STATE = "state.json"


def checkpoints(folder: Path) -> list[int]:
    """The steps of which there is a whole checkpoint, in order."""
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if (p / STATE).is_file())


def save_state(folder: Path, step: int, learner: Learner, about: dict[str, Any]) -> None:
    """Write checkpoint `step` (steps done); all workers call it. Older ones go.

    Torch's distributed format: every worker writes its shards, and any number can read them.
    """
    temporary = folder / f".{step:08d}.tmp"
    if parallel.rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    parallel.wait_for_all()
    save({**_weights(learner), "optimizer": _optimizer(learner)}, checkpoint_id=temporary)
    if parallel.rank() == 0:
        state = {
            **about,
            "step": step,
            "schedule": learner.schedule.state_dict(),
            "ema": None if learner.ema is None else learner.ema.optimization_step,
        }
        (temporary / STATE).write_text(json.dumps(state))
        temporary.rename(folder / f"{step:08d}")
        for old in checkpoints(folder)[:-KEPT]:
            shutil.rmtree(folder / f"{old:08d}")
    parallel.wait_for_all()


def load_state(folder: Path, step: int, learner: Learner, *, weights_only: bool) -> None:
    """Put checkpoint `step` back; all workers call it.

    `weights_only` is for the first step of a leg, which begins with a fresh optimiser.
    """
    path = folder / f"{step:08d}"
    saved = json.loads((path / STATE).read_text())
    state = _weights(learner)
    if not weights_only:
        state["optimizer"] = _optimizer(learner)
    load(state, checkpoint_id=path)
    if learner.ema is not None:
        learner.ema.optimization_step = saved["ema"]
    if not weights_only:
        learner.schedule.load_state_dict(saved["schedule"])
        for group, rate in zip(
            learner.optimizer.param_groups, learner.schedule.get_last_lr(), strict=True
        ):
            group["lr"] = rate


def _weights(learner: Learner) -> dict[str, Any]:
    """The tensors themselves, so that loading fills them."""
    found: dict[str, Any] = {
        "model": dict(zip(learner.names, (p.detach() for p in learner.parameters), strict=True))
    }
    if learner.ema is not None:
        found["ema"] = dict(zip(learner.names, learner.ema.shadow_params, strict=True))
    return found


def _optimizer(learner: Learner) -> dict[str, Any]:
    """AdamW's tensors themselves, by the parameters' names; made where no step has made them."""
    for parameter in learner.parameters:
        if not learner.optimizer.state[parameter]:
            learner.optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    states = (learner.optimizer.state[parameter] for parameter in learner.parameters)
    return dict(zip(learner.names, states, strict=True))
