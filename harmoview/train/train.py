"""Training: `train` runs to the last step, or until it is told to stop, in a claimed folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from datapipe.claim import Claim
from datapipe.errors import UserError
from datapipe.files import Folder
from harmoview.curriculum import DataFolder
from harmoview.data.encoded import EncodedShards, padded
from harmoview.data.loader import BatchReader, EncodedBatch, batches
from harmoview.data.plan import MicroBatch, chosen, held_out, plan_of
from harmoview.encode.encoder import base_recipe
from harmoview.encode.manifest import clip_of
from harmoview.flow import strata
from harmoview.load import boundary_of
from harmoview.train.checks import check, has_mfi
from harmoview.train.expert_phase import ExpertPhase, expert_phases
from harmoview.train.export import described, export
from harmoview.train.learner import ExpertLearner
from harmoview.train.objective import draw, noise_levels, permuted, seeded, tokens_of
from harmoview.train.plan import plan_run
from harmoview.train.sample import Sampler
from harmoview.train.settings import CHECKPOINTS, TrainSettings
from harmoview.train.validate import validate
from training import parallel
from training.device import card_here, device_named, free_memory, precision_named
from training.learned import latest_checkpoint
from training.metrics import Metrics
from training.options import stage

MODEL = "model"
"""Where the trained model is exported."""
log = logging.getLogger(__name__)

Progress = Callable[[int, int, dict[str, Any]], None]
"""Called after each step with the steps done, the steps in all, and what the metrics get."""
Stop = Callable[[], bool]
"""Whether the run has been told to stop; it is called after each step."""


def train(
    settings: TrainSettings, shards: str, claim: Claim, stop: Stop, progress: Progress
) -> int:
    """Train from the latest checkpoint in the claimed folder; return the steps done by then.

    Run it in one process, or in several with torch.distributed set up. Raises UserError where the
    data are damaged or do not fit the settings, and where a process that reads them was killed.
    """
    device = device_named(settings.device)
    with parallel.process_group(device), _readers_watched():
        run = CurriculumRun(settings, EncodedShards(*settings.folders(shards)), claim, device)
        if settings.verify:
            run.data.check_hashes(parallel.own_share(run.data.shards))
        done = latest_checkpoint(run.checkpoints)
        with run.metrics(done) as metrics:
            for part in run.parts:
                if done < part.last:
                    done, stopped = run.train(part, done, metrics, stop, progress)
                    if stopped:
                        break
    return done


@contextmanager
def _readers_watched() -> Iterator[None]:
    """Say what has happened when torch says, wherever the trainer then is, that a reader died.

    Torch raises that from a signal's handler; where a checkpoint was being written, it is among the
    reasons why that failed.
    """
    try:
        yield
    except (RuntimeError, UserError) as wrong:
        said = f"{wrong}\n{wrong.__cause__}"
        death = re.search(r"DataLoader worker[^\n]*?(?=\.|$)", said, re.MULTILINE)
        if death is None:
            raise
        raise UserError(
            f"a process that reads data has died, often of too little memory ({death[0]}): go on "
            "with --resume, perhaps with fewer --loader-workers"
        ) from wrong


class CurriculumRun:
    """What all phases of a run share."""

    def __init__(
        self, settings: TrainSettings, data: EncodedShards, claim: Claim, device: torch.device
    ) -> None:
        check(settings, data, parallel.processes())
        on_gpu = device.type == "cuda"
        self._card = card_here() if on_gpu else None
        self._plan = plan_run(settings, data, parallel.processes(), on_gpu=on_gpu, card=self._card)
        # the same for all: they exchange sequences while they compute again
        settings = replace(settings, recompute=parallel.gather(self._plan.recompute)[0])
        self.settings, self.data, self.device = settings, data, device
        self._claim = claim
        # a group of workers has the same samples; it is one worker, but for context parallelism
        together = settings.context_parallel
        self._groups, self._group = parallel.processes() // together, parallel.rank() // together
        self._mfi = has_mfi(settings, data)
        self._dtype = precision_named(settings.precision, device)
        self.recipe = base_recipe(settings.base)
        self.parts = expert_phases(settings, boundary_of(settings.base))
        self.checkpoints = settings.out / CHECKPOINTS
        self._held_out = held_out(data.keys, settings.holdout, settings.validation_samples)
        length = data.manifest.settings.text_length
        self._no_text = padded([data.no_text()], length).to(device, self._dtype)
        self._validation = self._validation_batches()
        self._sampler = self._make_sampler()

    def train(
        self, part: ExpertPhase, done: int, metrics: Metrics, stop: Stop, progress: Progress
    ) -> tuple[int, bool]:
        """Train one phase of one expert from step `done` of the run.

        Returns the steps then done, and whether the run was told to stop.
        """
        settings = self.settings
        free_memory(self.device)  # of the phase before, whose model is no longer needed
        stage(f"loading the model for phase {part.number}")
        learner = ExpertLearner(settings, part, self._model_settings(), self.device, self._dtype)
        new_expert = part.first == min(one.first for one in self.parts if one.model == part.model)
        if done > part.first or not new_expert:
            learner.weights.load(self.checkpoints, done, weights_only=done == part.first)
        stream, stopped = self._batches(part, done - part.first), False
        first, seed, frontal = done, self._seed(part), learner.model.layout.frontal
        for step in range(first, part.last):
            start = time.perf_counter()
            mine = [next(stream) for _ in range(settings.micro_batches // self._groups)]
            waited = time.perf_counter() - start
            mine = [permuted(batch, seed) for batch in mine]
            sigmas = noise_levels(part.noise, mine, self._probabilities(part, step))
            draws = [
                draw(batch, part.phase, sigma, frontal, seed)
                for batch, sigma in zip(mine, sigmas, strict=True)
            ]
            record: dict[str, Any] = {
                "step": step + 1, "phase": part.number, "expert": part.expert,
            }  # fmt: skip
            record |= learner.step(mine, draws, self._no_text)
            record["damaged"] = self._count_damaged(mine)
            record |= self._speed(part, mine[0], time.perf_counter() - start, waited)
            done = step + 1
            if step == first and parallel.rank() == 0:
                self._claim.record()
            stopped = parallel.sum_over_all(float(stop()), self.device) > 0
            self._after(part, done, learner, record)
            metrics.write(record)  # before the checkpoint: a resumed run drops what is too much
            if stopped or _due(done, settings.checkpoint_every, done == part.last):
                about = described(settings, part, learner)
                learner.weights.save(self.checkpoints, done, settings.keep, about)
            progress(done, self.parts[-1].last, record)
            if stopped:
                break
        return done, stopped

    def _speed(
        self, part: ExpertPhase, batch: EncodedBatch, seconds: float, waited: float
    ) -> dict[str, float]:
        """Return what a step's time was worth; all its micro-batches are as large as `batch`."""
        tokens = tokens_of(batch.video.shape) + tokens_of(
            (batch.present[0].numel(), *batch.references.shape[-2:])
        )
        found: dict[str, float] = {"seconds": seconds, "waited": waited}
        found["tokens_per_second"] = tokens * self.settings.batch / seconds
        if self._card is not None:
            flops = self._plan.flops(part.phase.train_set, self._plan.group_of(batch.video.shape,
                                     batch.present.shape[1]))  # fmt: skip
            found["mfu"] = flops / seconds / (self._card.flops * parallel.processes())
        return found

    def _after(
        self,
        part: ExpertPhase,
        done: int,
        learner: ExpertLearner,
        record: dict[str, Any],
    ) -> None:
        """Do what is due after a step but a checkpoint: validation, a sample video, the model."""
        settings, ended = self.settings, done == part.last
        if self._validation and _due(done, settings.validate_every, ended):
            stage("validating")
            with learner.inference() as model:
                record["validation"] = validate(
                    model, self._validation, part.noise, model.layout.frontal, self.device,
                    self._dtype, self._no_text,
                )  # fmt: skip
        if self._sampler is not None and _due(done, settings.samples_every, ended):
            stage("making a sample video")
            with learner.inference() as model:
                path = settings.out / "samples" / f"{done:08d}.mp4"
                self._sampler.make(path, model, part, self.device, self._dtype)
        if ended or _due(done, settings.export_every, ended):
            # before the checkpoint, which says that the phase is done
            export(settings.out / MODEL, settings, part, learner)

    def _batches(self, part: ExpertPhase, steps: int) -> Iterator[EncodedBatch]:
        """Return the batches of this worker's group in a phase after `steps` of its steps."""
        settings = self.settings
        own = part.phase.shards or (DataFolder(self.data.folder.url),)
        weights = {self._folder(one.path): one.weight for one in own}
        numbers = chosen(self.data, part.phase.data, part.phase.curated, list(weights))
        plan = plan_of(
            self.data,
            [number for number in numbers if number not in self._held_out],
            settings.micro_batch,
            self._seed(part),
            settings.micro_batches,
            weights,
        )
        return batches(
            self.data,
            plan,
            start=steps * settings.micro_batches,
            rank=self._group,
            ranks=self._groups,
            workers=settings.loader_workers,
            features=self._mfi,
        )

    def _folder(self, path: str) -> int:
        """Return the number of a folder among the data."""
        return [folder.url for folder in self.data.folders].index(Folder(path).url)

    def _validation_batches(self) -> list[EncodedBatch]:
        if not self._held_out or (
            not self.settings.validate_every and not (self.settings.samples_every)
        ):
            return []
        # one of each clip: its other windows show the same people
        clips = {clip_of(self.data.keys[n]): n for n in sorted(self._held_out, reverse=True)}
        numbers = sorted(clips.values())
        reader = BatchReader(self.data, plan_of(self.data, numbers, 1, 0), self._mfi)
        return [reader.read(MicroBatch((0,), (number,))) for number in numbers]

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
        """Return those settings of the model that follow from how the data were encoded."""
        encoded, named = self.data.manifest.settings, self.settings.vit
        features = self.data.example.features if self._mfi else None
        return {
            "reference_size": encoded.reference_size,
            "text_length": encoded.text_length,
            "vit_layer": encoded.vit_layer,
            "vit_size": encoded.vit_size,
            "vit_dim": None if features is None else features.shape[-1],
            "vit_name": None if features is None else named or encoded.vit,
            "vit_tower": None if features is None else self.data.manifest.tower,
        }

    def _probabilities(self, part: ExpertPhase, step: int) -> Tensor:
        """Return where this worker's samples of a step stand in the distribution of noise levels.

        [batches, samples] float64; the samples of all workers together cover it.
        """
        drawn = strata(self.settings.batch, seeded(self._seed(part), "levels", step - part.first))
        return drawn.view(-1, self.settings.micro_batch)[self._group :: self._groups]

    def _seed(self, part: ExpertPhase) -> int:
        """Return the seed of a phase's order of data and draws."""
        text = f"{self.settings.seed} {part.model} {part.number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")

    def _count_damaged(self, mine: list[EncodedBatch]) -> int:
        for what in (text for batch in mine for text in batch.damaged):
            log.warning("skipped: %s", what)
        count = sum(len(batch.damaged) for batch in mine)
        return int(parallel.sum_over_all(count, self.device)) // self.settings.context_parallel

    def metrics(self, done: int) -> Metrics:
        """Open the metrics of a run that goes on after `done` steps."""
        how = self.settings
        config = json.loads(json.dumps(asdict(how), default=str))
        return Metrics(how.out, done, tensorboard=how.tensorboard, wandb=how.wandb,
                       project="harmoview", config=config)  # fmt: skip


def _due(done: int, every: int, ended: bool) -> bool:
    return bool(every) and (ended or done % every == 0)
