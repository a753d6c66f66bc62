"""Writing the trained model, as `harmoview generate` or ComfyUI read it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor

from datapipe.errors import UserError
from harmoview.checkpoint import NEW_PARTS_FILE, load_expert, save_parts
from harmoview.model.new_parts import NEW_PARTS, first_values
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.wan_names import wan_name
from harmoview.train.build import init_folder
from harmoview.train.expert_phase import ExpertPhase
from harmoview.train.learner import ExpertLearner
from harmoview.train.settings import TrainSettings
from harmoview.trainable import Lora, TrainSet, add_lora, has_lora
from training import parallel
from training.learned import about_checkpoint, checkpoints

Format = Literal["diffusers", "comfy", "single-file"]
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class TrainedExpert:
    """What must be known of an expert, beside its weights, to write it; a checkpoint has it."""

    base: str
    name: str
    """transformer or transformer_2."""
    train: TrainSet
    config: Mapping[str, Any]
    lora: Lora
    dtype: Literal["bfloat16", "float32"]
    """Of the exported weights, but for those that Wan keeps in float32 and for parts."""
    init: str | None = None
    """The model of --init, in the expert's folder; None where it starts from the base."""

    @property
    def whole(self) -> bool:
        """Whether the whole model is written; else new parts, and an adapter if there is one."""
        return self.train == "full"

    def empty(self) -> HarmoViewTransformer3DModel:
        """Return the model on meta, ready to take weights."""
        with torch.device("meta"):
            model: HarmoViewTransformer3DModel = HarmoViewTransformer3DModel(**self.config)
            if has_lora(self.train):
                add_lora(model, self.lora)
        return model

    def write(self, state: dict[str, Tensor], target: Path) -> None:
        """Write a folder for `from_pretrained` or `load_expert` in place of an older one."""
        temporary, old = (target.parent / f".{target.name}.{end}" for end in ("tmp", "old"))
        for left in (temporary, old):  # what a killed run has left
            shutil.rmtree(left, ignore_errors=True)
        model = self.empty()
        if self.whole:
            exact = set(model._keep_in_fp32_modules or ())
            dtype = PRECISIONS[self.dtype]
            model.load_state_dict(
                {
                    name: value if not exact.isdisjoint(name.split(".")) else value.to(dtype)
                    for name, value in state.items()
                },
                assign=True,
            )
            model.save_pretrained(temporary)
        else:
            model.load_state_dict(state, strict=False, assign=True)
            save_parts(model, temporary)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def trained_expert(
    settings: TrainSettings, part: ExpertPhase, learner: ExpertLearner
) -> TrainedExpert:
    """Return what a checkpoint says of the expert that learns."""
    config = {k: v for k, v in learner.model.config.items() if k[0] != "_"}
    dtype: Literal["bfloat16", "float32"] = (
        "bfloat16" if learner.dtype == torch.bfloat16 else "float32"
    )
    train = part.phase.train_set
    init = init_folder(settings, part.model)
    return TrainedExpert(
        settings.base, part.model, train, config, settings.lora, dtype,
        None if init is None else str(init),
    )  # fmt: skip


def described(settings: TrainSettings, part: ExpertPhase, learner: ExpertLearner) -> dict[str, Any]:
    """Return the same in JSON's types."""
    return {
        "phase": part.number, "expert": asdict(trained_expert(settings, part, learner)),
    }  # fmt: skip


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
        trained_expert(settings, part, learner).write(state, folder / part.model)
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
            found[name] = whole.to("cpu", copy=True)  # the weights change back under it
    return found


def export_checkpoint(
    folder: Path, step: int | None, out: Path, form: Format, *, averaged: bool
) -> Path:
    """Write the model of a checkpoint in `folder`, the latest where `step` is None.

    Returns the file or folder that was written, below `out`. Raises UserError where there is no
    such checkpoint.
    """
    there = checkpoints(folder)
    if step is None and there:
        step = there[-1]
    if step is None or step not in there:
        have = (
            f"there are those of steps {', '.join(map(str, there))}"
            if there
            else "give the --out of a training"
        )
        wanted = "" if step is None else f" of step {step}"
        raise UserError(f"{folder.parent} has no checkpoint{wanted}: {have}")
    expert = expert_of(about_checkpoint(folder, step)["expert"])
    state = _state(folder / f"{step:08d}", expert, averaged=averaged)
    out.mkdir(parents=True, exist_ok=True)
    target = out / expert.name
    if form == "diffusers":
        expert.write(state, target)
        return target
    if expert.whole:
        return _whole_file(state, expert, target, form)
    if form == "comfy":
        return _comfy_adapter(state, expert, target)
    # parts on their base, the adapter added to its weights
    temporary = out / f".{expert.name}.parts"
    expert.write(state, temporary / expert.name)
    model = load_expert(temporary, expert.base, expert.name, PRECISIONS[expert.dtype])
    shutil.rmtree(temporary)
    if has_lora(expert.train):
        model.fuse_lora()
        model.unload_lora()
    return _whole_file(dict(model.named_parameters()), expert, target, form)


def expert_of(described: Mapping[str, Any]) -> TrainedExpert:
    """Invert `asdict`."""
    return TrainedExpert(**{**described, "lora": Lora(**described["lora"])})


def _state(checkpoint: Path, expert: TrainedExpert, *, averaged: bool) -> dict[str, Tensor]:
    """Read the weights of a checkpoint in one process, in float32."""
    there = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    kind = "ema" if averaged and any(name.startswith("ema.") for name in there) else "model"
    shapes: dict[str, torch.Size] = {
        name.removeprefix(f"{kind}."): getattr(about, "size")  # noqa: B009
        for name, about in there.items()
        if name.startswith(f"{kind}.")
    }
    state = {name: torch.empty(shape) for name, shape in shapes.items()}
    with parallel.process_group(torch.device("cpu")):
        load({kind: state}, checkpoint_id=checkpoint)
    if expert.train != "lora":
        return state
    # the new parts are as they were at the start
    if expert.init is None:
        return {**first_values(expert.empty(), expert.lora.seed), **state}
    return {**load_file(Path(expert.init) / NEW_PARTS_FILE), **state}


def _whole_file(
    state: Mapping[str, Tensor], expert: TrainedExpert, target: Path, form: Format
) -> Path:
    """Write one file with Wan's names; for ComfyUI without the new parts, unknown to it."""
    exact, dtype = set(HarmoViewTransformer3DModel._keep_in_fp32_modules), PRECISIONS[expert.dtype]
    tensors = {
        wan_name(name): (value if not exact.isdisjoint(name.split(".")) else value.to(dtype))
        .detach()
        .contiguous()
        for name, value in state.items()
        if form == "single-file" or name not in NEW_PARTS
    }
    config = json.dumps({"_class_name": "HarmoViewTransformer3DModel", **expert.config})
    path = target.with_suffix(".safetensors")
    save_file(tensors, path, {"format": "pt", "config": config})
    return path


def _comfy_adapter(state: Mapping[str, Tensor], expert: TrainedExpert, target: Path) -> Path:
    """Write an adapter as ComfyUI's LoRA loader maps it. Raises UserError where there is none."""
    if not has_lora(expert.train):
        raise UserError(
            "--format comfy: this run trained the new parts alone, which ComfyUI does not know; "
            "take --format diffusers"
        )
    tensors = {}
    for name, value in state.items():
        layer, half, _ = name.partition(".lora_A.default.")
        if half:
            other = state[name.replace("lora_A", "lora_B")]
            key = f"diffusion_model.{wan_name(f'{layer}.weight').removesuffix('.weight')}"
            tensors[f"{key}.lora_down.weight"] = value.contiguous()
            tensors[f"{key}.lora_up.weight"] = other.contiguous()
            tensors[f"{key}.alpha"] = torch.tensor(float(expert.lora.alpha))
    path = target.with_name(f"{target.name}_lora.safetensors")
    save_file(tensors, path, {"format": "pt"})
    return path
