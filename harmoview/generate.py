"""Videos of prompts and people: a pipeline that is loaded once, and the orders it is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import Image
from datapipe.run.info import library_versions
from harmoview.attention import use_best_attention
from harmoview.guidance import Guidance
from harmoview.identity import decode
from harmoview.load import Loaded, add_loras, check_base, load_pipeline
from harmoview.media import encode_mp4, square
from harmoview.model.references import check_identities
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.orders import Order, Sampling, hashes, made_by
from harmoview.recipes import NEGATIVE_PROMPT
from lora_engine.views import SheetCell, contact_sheet
from training import parallel
from training.device import silence_libraries

Frames = npt.NDArray[np.uint8]
Told = Callable[[int, int], object]
"""Is told how many denoising steps are done, of how many."""
LONGEST = 16
"""Letters of a person's name in the picture beside the video."""
LAST_LETTER = "ÿ"
"""The last letter that the font of that picture has; other names are in the JSON only."""


def _untold(done: int, total: int) -> None:
    """Who does not ask is not told."""


class Generator:
    """A pipeline on its device."""

    def __init__(self, base: str, checkpoint: Path, sampling: Sampling) -> None:
        """`base` is a Wan pipeline, a folder or hub name, `checkpoint` an exported model.

        Raises UserError, in a sentence, where something is missing or does not fit.
        """
        silence_libraries()
        check_base(base)
        device = _device(sampling)
        dtype = torch.bfloat16 if sampling.dtype == "bfloat16" else torch.float32
        vit = None if sampling.vit == "none" else sampling.vit
        self._made_by = made_by(base, checkpoint, sampling)
        self.asked = {"base": base, "checkpoint": str(checkpoint), **asdict(sampling)}
        self.loaded = load_pipeline(base, checkpoint, vit, dtype)
        self.checkpoint = checkpoint
        self._used = _resolve(sampling, self.loaded)
        if self.loaded.pipeline.config.boundary_ratio is None:
            if self._used["guidance_low"] is not None:
                raise UserError("--guidance-low: this base has no low-noise expert")
            if sampling.lora_low:
                raise UserError("--lora-low: this base has no low-noise expert")
        apart = self.loaded.pipeline.model.config.reference_attention == "references"
        if sampling.reference_kv and not apart:
            raise UserError(
                f"--reference-kv: {checkpoint} was not trained with it; its references attend to "
                "the video"
            )
        _place(self.loaded, sampling, device, self._used["shift"])
        if parallel.processes() > 1:
            self.loaded.pipeline.share_out(self._scales(), torch.device(device))

    def _scales(self) -> list[Guidance]:
        """The scales of the experts, high noise first."""
        high, low, own = (
            self._used[name] for name in ("guidance", "guidance_low", "reference_scale")
        )
        return [
            Guidance(text, text if own is None else own)
            for text in (high, high if low is None else low)
        ]

    def used(self, order: Order) -> dict[str, Any]:
        """Every number of an order's video, the base's own where none was asked for."""
        recipe = asdict(self.loaded.recipe)
        sizes = {
            name: recipe[name] if (own := getattr(order, name)) is None else own
            for name in ("height", "width", "frames", "fps")
        }
        return {**self._used, **sizes}

    def __call__(self, order: Order, told: Told = _untold) -> tuple[Frames, dict[str, Any]]:
        """Frames (F, H, W, 3) and the record of what made them; `told` is called after each step,
        with how many are done of how many. Raises UserError.

        Of several processes that make the video together the first decodes it; the others' frames
        are empty.
        """
        used = self.used(order)
        views = self.check(order)

        def after(_: object, index: int, *__: object) -> dict[str, torch.Tensor]:
            told(index + 1, used["steps"])
            return {}

        result = self.loaded.pipeline(
            prompt=order.prompt,
            negative_prompt=used["negative_prompt"],
            height=used["height"],
            width=used["width"],
            num_frames=used["frames"],
            num_inference_steps=used["steps"],
            guidance_scale=used["guidance"],
            guidance_scale_2=used["guidance_low"],
            reference_scale=used["reference_scale"],
            reference_kv=used["reference_kv"],
            references=views,
            callback_on_step_end=after,
            generator=torch.Generator("cpu").manual_seed(order.seed),
            output_type="np" if parallel.rank() == 0 else "latent",
        )
        if parallel.rank() > 0:
            return np.empty((0, used["height"], used["width"], 3), np.uint8), {}
        frames = np.asarray(np.rint(result.frames[0] * 255), dtype=np.uint8)
        return frames, self._record(order, used)

    def check(self, order: Order) -> list[dict[int, Image]]:
        """Check an order's size and pictures, and return these. Raises UserError."""
        used = self.used(order)
        try:
            self.loaded.pipeline.check_size(used["height"], used["width"], used["frames"])
        except ValueError as wrong:
            raise UserError(f"{order.name}: {wrong}") from wrong
        views = [decode(one, order.name) for one in order.pictures]
        try:
            check_identities(views, self.loaded.pipeline.model.layout)
        except ValueError as wrong:
            raise UserError(f"{order.name}: {wrong}") from wrong
        return views

    def _record(self, order: Order, used: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **self.asked,
            **used,
            "prompt": order.prompt,
            "seed": order.seed,
            "identity": list(order.people),
            "pictures": hashes(order.pictures),
            "made_by": self._made_by,
            "versions": library_versions(("diffusers", "torch", "transformers")),
        }


def make(generator: Generator, order: Order, out: Folder, told: Told = _untold) -> None:
    """Write NAME.json, NAME.jpg, and last NAME.mp4, whose presence says that all are there.

    Of several processes that make the video together the first writes it. Raises UserError.
    """
    frames, record = generator(order, told)
    if parallel.rank() > 0:
        return
    text = json.dumps({**record, **order.about}, indent=1, ensure_ascii=False) + "\n"
    out.put(f"{order.name}.json", text.encode())
    out.put(f"{order.name}.jpg", encode_jpeg(shown(order, generator.loaded.pipeline.model)))
    out.put(f"{order.name}.mp4", encode_mp4(frames, generator.used(order)["fps"]))


def shown(order: Order, model: HarmoViewTransformer3DModel) -> Image:
    """Draw the people of an order, a row each, with the picture that the model sees in each slot.

    What stands in the slot of a view that is absent is no picture: it is drawn as plain grey.
    """
    side = model.config.reference_size
    nothing = np.full((side, side, 3), 225, np.uint8)
    rows = []
    for number, views in enumerate(order.pictures):
        own = order.people[number] if number < len(order.people) else ""
        name = own.rstrip("/").split("/")[-1][-LONGEST:]
        if not name or max(name) > LAST_LETTER:
            name = f"person {number}"
        seen = {yaw: square(view, side) for yaw, view in decode(views, own).items()}
        rows.append(
            [
                SheetCell(seen[yaw], f"{name} {yaw:+d}°" if yaw else f"{name} 0°")
                if yaw in seen
                else SheetCell(nothing, f"{yaw:+d}° absent" if yaw else "0° absent")
                for yaw in model.layout.yaws
            ]
        )
    return contact_sheet(rows)


def notes(generator: Generator) -> list[str]:
    """What to say of experts that the checkpoint lacks, or that have no LoRA where others do."""
    found = [
        f"{generator.checkpoint} has no {name}: the base's own stands in, which does not "
        "look at the references"
        for name in generator.loaded.untrained
    ]
    if generator.loaded.pipeline.config.boundary_ratio is not None:
        high, low = (bool(generator.asked[name]) for name in ("lora", "lora_low"))
        if high != low:
            given, other = ("--lora", "--lora-low") if high else ("--lora-low", "--lora")
            found.append(f"{given} is for one of the two experts; the other goes without {other}")
    return found


def _device(sampling: Sampling) -> str:
    """Raises UserError where the GPU that is asked for is not there, or not used."""
    cuda = torch.cuda.is_available()
    device = sampling.device if sampling.device != "auto" else ("cuda" if cuda else "cpu")
    if device == "cuda" and not cuda:
        raise UserError("--device cuda: torch sees no GPU here")
    if device == "cpu" and sampling.offload != "none":
        raise UserError(f"--offload {sampling.offload} needs a GPU to offload from")
    return device


def _resolve(sampling: Sampling, loaded: Loaded) -> dict[str, Any]:
    """The settings with every None filled in from the base's recipe."""
    recipe = asdict(loaded.recipe)
    own = {name: getattr(sampling, name) for name in ("steps", "guidance", "shift", "guidance_low")}
    negative = sampling.negative_prompt
    return {
        "recipe": recipe["name"],
        **{name: recipe[name] if value is None else value for name, value in own.items()},
        "reference_scale": sampling.reference_scale,
        "reference_kv": sampling.reference_kv,
        "negative_prompt": NEGATIVE_PROMPT if negative is None else negative,
    }


def _place(loaded: Loaded, sampling: Sampling, device: str, shift: float) -> None:
    pipeline = loaded.pipeline
    for model in filter(None, (pipeline.transformer, pipeline.transformer_2)):
        use_best_attention(model, torch.device(device), model.dtype)
    pipeline.set_shift(shift)
    pipeline.set_progress_bar_config(disable=True)
    add_loras(pipeline, "transformer", sampling.lora)
    add_loras(pipeline, "transformer_2", sampling.lora_low)
    if sampling.tiling:
        pipeline.vae.enable_tiling()
    if sampling.offload == "model":
        pipeline.enable_model_cpu_offload()
    elif sampling.offload == "sequential":
        pipeline.enable_sequential_cpu_offload()
    else:
        pipeline.to(device)
