"""Training: `train` runs to the last step, or until told to stop, in a folder that was claimed."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch hides it

from datapipe.errors import UserError
from harmoview.data.encoded import EncodedShards, padded
from harmoview.data.loader import BatchReader, EncodedBatch, batches
from harmoview.data.plan import MicroBatch, chosen, held_out, plan_of
from harmoview.encode.encoder import base_recipe
from harmoview.load import boundary_of
from harmoview.train.begin import check
from harmoview.train.expert_phase import Leg, legs
from harmoview.train.export import export
from harmoview.train.learner import Learner
from harmoview.train.objective import draw
from harmoview.train.sample import Sampler
from harmoview.train.settings import TrainSettings
from harmoview.train.sharded import sum_over_workers
from harmoview.train.state import checkpoints, load_state, save_state
from harmoview.train.validate import validate
from training import parallel
from training.device import device_named, forget, precision_named
from training.metrics import Metrics

CHECKPOINTS = "checkpoints"
MODEL = "model"
"""Where the trained model is exported."""
log = logging.getLogger(__name__)

Progress = Callable[[int, int, dict[str, Any]], None]
"""Told after each step the steps done, of how many, and what is in the metrics."""
Stop = Callable[[], bool]
"""Whether the run was told to stop; asked after each step."""


def train(settings: TrainSettings, shards: str, stop: Stop, progress: Progress) -> int:
    """Train from the latest checkpoint in the folder that `begin` claimed; the steps done.

    Run it in one process, or in several with torch.distributed set up. Raises UserError.
    """
    device = device_named(settings.device)
    with process_group(device):
        run = Run(settings, EncodedShards(shards), device)
        if not settings.skip_hash_check:
            run.data.check_hashes(parallel.own(run.data.manifest.shards))
        # together: on a network file system some may see a new folder later than others
        done = max(parallel.gathered(max(checkpoints(run.checkpoints), default=0)))
        with run.metrics(done) as metrics:
            for leg in run.legs:
                if done < leg.last:
                    done, stopped = run.leg(leg, done, metrics, stop, progress)
                    if stopped:
                        break
    return done


class Run:
    """What all legs of a run share."""

    def __init__(self, settings: TrainSettings, data: EncodedShards, device: torch.device) -> None:
        self.settings, self.data, self.device = settings, data, device
        check(settings, data, parallel.processes())
        self._dtype = precision_named(settings.precision, device)
        self.recipe = base_recipe(settings.base)
        self.legs = legs(settings, self.recipe.shift, boundary_of(settings.base))
        self.checkpoints = settings.out / CHECKPOINTS
        self._held_out = held_out(data.keys, settings.holdout, settings.validation_samples)
        length = data.manifest.settings.text_length
        self._no_text = padded([data.no_text()], length).to(device, self._dtype)
        self._validation = self._validation_batches()
        self._sampler = self._make_sampler()

    def leg(
        self, leg: Leg, done: int, metrics: Metrics | None, stop: Stop, progress: Progress
    ) -> tuple[int, bool]:
        """Train one phase of one expert from step `done` of the run.

        Returns the steps then done, and whether the run was told to stop.
        """
        settings = self.settings
        forget(self.device)  # the leg before: its model is in cycles
        learner = Learner(settings, leg, self._model_settings(), self.device, self._dtype)
        new_expert = leg.first == min(one.first for one in self.legs if one.model == leg.model)
        if done > leg.first or not new_expert:
            load_state(self.checkpoints, done, learner, weights_only=done == leg.first)
        stream, stopped = self._batches(leg, done - leg.first), False
        for step in range(done, leg.last):
            start = time.perf_counter()
            mine = [next(stream) for _ in range(settings.micro_batches // parallel.processes())]
            waited = time.perf_counter() - start
            frontal = learner.model.layout.frontal
            draws = [draw(b, leg.phase, leg.noise, frontal, self._seed(leg)) for b in mine]
            record: dict[str, Any] = {
                "step": step + 1, "phase": leg.number, "expert": leg.expert,
            }  # fmt: skip
            record |= learner.step(mine, draws, self._no_text)
            record["damaged"] = self._count_damaged(mine)
            record |= {"seconds": time.perf_counter() - start, "waited": waited}
            done = step + 1
            stopped = sum_over_workers(float(stop()), self.device) > 0
            self._after(leg, done, learner, record, stopped)
            if metrics is not None:
                metrics.write(record)
            progress(done, self.legs[-1].last, record)
            if stopped:
                break
        return done, stopped

    def _after(
        self, leg: Leg, done: int, learner: Learner, record: dict[str, Any], stopped: bool
    ) -> None:
        """What is due after a step: validation, a sample, a checkpoint, the model."""
        settings, ended = self.settings, done == leg.last
        if self._validation and _due(done, settings.validate_every, ended):
            with learner.inference() as model:
                record["validation"] = validate(
                    model, self._validation, leg.noise, model.layout.frontal, self.device,
                    self._dtype, self._no_text,
                )  # fmt: skip
        if self._sampler is not None and _due(done, settings.samples_every, ended):
            with learner.inference() as model:
                path = settings.out / "samples" / f"{done:08d}.mp4"
                self._sampler.make(path, model, leg, self.device, self._dtype)
        if ended:  # before the checkpoint, with which the leg is done
            export(settings.out / MODEL, settings, leg, learner)
        if stopped or _due(done, settings.checkpoint_every, ended):
            save_state(self.checkpoints, done, learner, {"leg": [leg.model, leg.number]})

    def _batches(self, leg: Leg, steps: int) -> Iterator[EncodedBatch]:
        """This worker's batches of a leg after `steps` of its steps."""
        settings = self.settings
        numbers = chosen(self.data, leg.phase.data, settings.curated)
        plan = plan_of(
            self.data,
            [number for number in numbers if number not in self._held_out],
            settings.micro_batch,
            self._seed(leg),
        )
        return batches(
            self.data,
            plan,
            start=steps * settings.micro_batches,
            rank=parallel.rank(),
            ranks=parallel.processes(),
            workers=settings.loader_workers,
            features=settings.mfi,
        )

    def _validation_batches(self) -> list[EncodedBatch]:
        if not self._held_out or (
            not self.settings.validate_every and not (self.settings.samples_every)
        ):
            return []
        numbers = sorted(self._held_out)
        reader = BatchReader(self.data, plan_of(self.data, numbers, 1, 0), self.settings.mfi)
        return [reader.read(MicroBatch(0, (number,))) for number in numbers]

    def _make_sampler(self) -> Sampler | None:
        settings = self.settings
        if not settings.samples_every:
            return None
        if not self._validation:
            raise UserError("--samples-every needs held-out samples: raise --holdout")
        fps = self.data.manifest.settings.fps or self.recipe.fps
        return Sampler(settings, settings.out / MODEL, self.recipe, self._validation[0],
                       self._no_text, fps)  # fmt: skip

    def _model_settings(self) -> dict[str, Any]:
        """The model's settings that follow from how the data were encoded."""
        encoded = self.data.manifest.settings
        features = self.data.example.features if self.settings.mfi else None
        return {
            "reference_size": encoded.reference_size,
            "text_length": encoded.text_length,
            "vit_layer": encoded.vit_layer,
            "vit_size": encoded.vit_size,
            "vit_dim": None if features is None else features.shape[-1],
            "vit_tower": None if features is None else self.data.manifest.tower,
        }

    def _seed(self, leg: Leg) -> int:
        """Of a leg's data order and draws."""
        text = f"{self.settings.seed} {leg.model} {leg.number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")

    def _count_damaged(self, mine: list[EncodedBatch]) -> int:
        for what in (text for batch in mine for text in batch.damaged):
            log.warning("skipped: %s", what)
        count = sum(len(batch.damaged) for batch in mine)
        return int(sum_over_workers(count, self.device))

    @contextmanager
    def metrics(self, done: int) -> Iterator[Metrics | None]:
        """metrics.jsonl, written by the first worker."""
        if parallel.rank() != 0:
            yield None
            return
        how = self.settings
        metrics = Metrics(how.out, done, how.tensorboard, how.wandb, "harmoview")
        try:
            yield metrics
        finally:
            metrics.close()


def _due(done: int, every: int, ended: bool) -> bool:
    return bool(every) and (ended or done % every == 0)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """torch.distributed where nobody has set it up: as torchrun says, or for this process alone."""
    if distributed.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if distributed.is_torchelastic_launched():
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend)
    else:
        distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()
