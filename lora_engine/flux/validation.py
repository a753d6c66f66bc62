"""Validation during training: views of people that training never saw, made and measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import Image
from lora_engine.flux.denoise import Denoiser
from lora_engine.flux.latents import PRODUCTION, REFERENCE, variant
from lora_engine.flux.learner import LoraLearner
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.settings import FluxSettings, TrainLoraSettings
from lora_engine.flux.training_inputs import TrainingInputs
from lora_engine.views import MeasuredView, PersonViews, grid, summary
from training import parallel

Measure = Callable[[Image, Sequence[Image]], Sequence[MeasuredView]]
"""(reference, views) to one MeasuredView for each view."""

Synthesize = Callable[[Image, Sequence[int], Sequence[int]], Sequence[Image]]
"""(reference, yaws, seeds) to one view for each yaw."""


def validate(
    people: Iterable[tuple[str, Image]],
    yaws: Sequence[int],
    synthesize: Synthesize,
    measure: Measure,
) -> list[PersonViews]:
    """Make and measure every person's views; their seeds depend on person and yaw alone."""
    done = []
    for key, reference in people:
        views = synthesize(reference, yaws, [_seed(key, yaw) for yaw in yaws])
        measured = measure(reference, views)
        done.append(
            PersonViews(
                key,
                reference,
                dict(zip(yaws, views, strict=True)),
                dict(zip(yaws, measured, strict=True)),
            )
        )
    return done


def _seed(key: str, yaw: int) -> int:
    return int.from_bytes(hashlib.sha256(f"validation:{key}:{yaw}".encode()).digest()[:7])


BASE = "base"
"""Name of the files about the base without the adapter."""


@dataclass(frozen=True, slots=True)
class Validated:
    """What one validation found."""

    figures: dict[str, object]
    """Of views with the adapter ("on") and without it ("off")."""
    sheets: Mapping[str, Image]
    """The contact sheets that were made for it, by the name under which trackers show them."""


class Validation:
    """Validates a learner: each process takes its share of the people, the first one writes."""

    def __init__(
        self,
        settings: TrainLoraSettings,
        inputs: TrainingInputs,
        learner: LoraLearner,
        embeddings: PromptEmbeddings,
        measure: Measure,
    ) -> None:
        """Reads the references of the people who are held out, as production would have them."""
        self._settings = settings
        self._inputs = inputs
        self._learner = learner
        self._embeddings = embeddings
        self._measure = measure
        self._folder = Folder(settings.out).folder("validation")
        self._off: dict[str, object] | None = None
        if self._folder.exists(f"{BASE}.json"):
            self._off = json.loads(self._folder.read_text(f"{BASE}.json"))
        held = inputs.pairs.subjects("validation")
        frontal = (one for one in held if 0 in one.yaws)
        self._people = [
            (one.key, variant(one, place, PRODUCTION)[REFERENCE])
            for place, one in enumerate(islice(frontal, settings.validation_people), 1)
        ]

    def run(self, step: int) -> Validated:
        """Validate the averaged adapter, and the base without one, of which views are made once."""
        with self._learner.weights.averaged():
            on = self._measured(adapter=True)
        sheets = {"validation/on": self._write(f"{step:06d}", on)}
        if self._off is None:
            base = self._measured(adapter=False)
            sheets["validation/off"] = self._write(BASE, base)
            self._off = summary(base)
        return Validated({"on": summary(on), "off": self._off}, sheets)

    def _write(self, name: str, people: list[PersonViews]) -> Image:
        """Write the contact sheet and the figures; the sheet."""
        sheet = grid(people)
        if parallel.rank() == 0:
            self._folder.put(f"{name}.jpg", encode_jpeg(sheet))
            self._folder.put(f"{name}.json", json.dumps(summary(people)).encode())
        return sheet

    def _measured(self, adapter: bool) -> list[PersonViews]:
        """Measure the people of all processes. Without adapter the base works as stock Kontext."""
        with self._denoiser(adapter) as denoiser:
            mine = parallel.own_share(self._people)
            spare = self._people[: 1 if self._idle(len(mine)) else 0]
            people = validate([*mine, *spare], self._settings.yaws, denoiser, self._measure)
        parts = parallel.gather(people[: len(mine)])
        return [person for part in parts for person in part]

    def _idle(self, own: int) -> bool:
        """Whether this process has fewer people than others, who need its part of the base."""
        return self._settings.shard and own < -(-len(self._people) // parallel.processes())

    @contextmanager
    def _denoiser(self, adapter: bool) -> Iterator[Denoiser]:
        """Provide a denoiser; the VAE is in memory within the block only."""
        path, transformer = self._inputs.base.path, self._learner.transformer
        device, dtype = transformer.device, self._embeddings.tokens[0].dtype
        autoencoder = AutoencoderKL.from_pretrained(
            path / "vae", dtype=dtype, use_safetensors=True
        ).to(device)
        settings = FluxSettings(
            base=str(path), denoising_steps=self._settings.validation_steps,
            # processes that share a base must make the same number of passes
            micro_batch=1 if self._settings.shard else None,
        )  # fmt: skip
        transformer.eval()
        if not adapter:
            transformer.disable_adapters()
        try:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                yield Denoiser(
                    settings, self._settings.resolution[0], transformer, autoencoder,
                    FlowMatchEulerDiscreteScheduler.from_pretrained(path / "scheduler"),
                    self._embeddings, self._learner.reference_kv if adapter else None,
                )  # fmt: skip
        finally:
            transformer.enable_adapters()
            transformer.train()
            if self._learner.reference_kv is not None:
                self._learner.reference_kv.clear()
