"""Writing the trained model as `from_pretrained` and `harmoview generate` read it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from harmoview.checkpoint import save_parts
from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.expert_phase import ExpertPhase
from harmoview.train.learner import ExpertLearner
from harmoview.train.settings import TrainSettings
from harmoview.trainable import Lora, add_lora, has_lora
from training import parallel


def export(
    folder: Path, settings: TrainSettings, part: ExpertPhase, learner: ExpertLearner
) -> None:
    """Write `folder`/transformer or transformer_2 in place of an older one; all workers call it.

    Written is the whole model where all of it learned, else the new parts and the adapter if there
    is one, even if only one of the two learned. The weights are averaged ones if there are any, in
    the precision of the computation.
    """
    with learner.weights.averaged():
        state = _gathered(learner)
    if parallel.rank() == 0:
        target = folder / part.model
        temporary, old = folder / f".{part.model}.tmp", folder / f".{part.model}.old"
        for left in (temporary, old):  # what a killed run has left
            shutil.rmtree(left, ignore_errors=True)
        with torch.device("meta"):  # an unsharded model, which takes the gathered weights
            config = learner.model.config.items()
            model = HarmoViewTransformer3DModel(**{k: v for k, v in config if k[0] != "_"})
        if part.phase.train == "full":
            model.load_state_dict(_in_precision(state, learner.dtype, model), assign=True)
            model.save_pretrained(temporary)
        else:
            if has_lora(part.phase.train):
                add_lora(model, Lora(settings.rank, settings.rank, settings.seed))
            model.load_state_dict(state, strict=False, assign=True)
            save_parts(model, temporary)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    parallel.wait_for_all()


def _gathered(learner: ExpertLearner) -> dict[str, Tensor]:
    """Gather the weights that learned and the new parts on the first worker.

    One at a time is gathered, to spare memory.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in learner.model.named_parameters():
        if not parameter.requires_grad and name not in NEW_PARTS:
            continue
        part = parameter.detach()
        whole = part.full_tensor() if isinstance(part, DTensor) else part
        if parallel.rank() == 0:
            found[name] = whole.cpu()
    return found


def _in_precision(
    state: dict[str, Tensor], dtype: torch.dtype, model: HarmoViewTransformer3DModel
) -> dict[str, Tensor]:
    exact = tuple(model._keep_in_fp32_modules or ())
    return {
        name: value if any(part in name for part in exact) else value.to(dtype)
        for name, value in state.items()
    }
