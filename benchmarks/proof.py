"""What the video model learns from references, where the best possible answer is known.

    python -m benchmarks.proof                      # every variant and seed that is not there yet
    python -m benchmarks.proof --variants full gray --seeds 2 --minutes 4
    python -m benchmarks.proof --table              # write the table and plots of docs/proof.md

The people are those of `benchmarks.proof_world`, the model is HarmoView's own with the curriculum's
own choice of views, small enough for a CPU. Every training appends a line to the results, so that a
killed sweep goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import tyro
from diffusers.models.transformers import transformer_wan
from torch import Tensor

from benchmarks import proof_page
from benchmarks.proof_world import (
    CHANNELS,
    FEATURES,
    FRONTAL,
    TEXT_DIM,
    People,
    draw_people,
    least_error,
    views,
)
from harmoview import flow
from harmoview.curriculum import PHASES, SLOTS, Phase, shown
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.settings import Curriculum, variant

MODEL: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": CHANNELS,
    "out_channels": CHANNELS, "text_dim": TEXT_DIM, "freq_dim": 32, "ffn_dim": 128,
    "num_layers": 3, "reference_timestep": "zero",
}  # fmt: skip
PHASE_SHARES = (0.15, 0.25, 0.45, 0.15)
"""Shares of the steps that the four phases have."""
CASES = ((7, True), (4, True), (2, True), (1, True), (0, False), (1, False), (2, False),
         (4, False), (6, False))  # fmt: skip
"""How many views are shown where a model is measured, and whether the named one is among them."""
TESTED = 1024
"""People of a measurement."""
RESULTS = Path(__file__).with_name("proof.jsonl")


@dataclass(frozen=True)
class Variant:
    """What is trained: the full model or one that differs in a setting."""

    people: int = 1
    curriculum: Curriculum = "progressive"
    mfi: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The model's settings."""


def _gap(positions: int) -> Variant:
    return Variant(people=2, settings={"identity_gap": positions, "video_gap": positions})


VARIANTS = {
    "full": Variant(),
    "no view dropout": Variant(curriculum="no_view_dropout"),
    "single-view": Variant(curriculum="single_view"),
    "two, gap 28": Variant(people=2),
    "two, gap 0": _gap(0),
    "zero": Variant(settings={"absent_views": "gray", "gray_latent": [0.0] * CHANNELS}),
    "no MFI": Variant(mfi=False),
    "no Jump-RoPE": Variant(settings={"jump_rope": False}),
    "gray": Variant(settings={"absent_views": "gray", "gray_latent": [0.5] * CHANNELS}),
    "multi-view": Variant(curriculum="multi_view"),
    "two, gap 64": _gap(64),
    "two, no MFI": Variant(people=2, mfi=False),
    "sequential": Variant(settings={"absent_views": "sequential"}),
    "two, gap 16": _gap(16),
    "two, gap 4": _gap(4),
}
"""The rows of Table 2 and the sweep of gaps, the most telling first."""


def new_model(kind: Variant, seed: int) -> HarmoViewTransformer3DModel:
    """Make the model of a variant, with weights of a seed."""
    torch.manual_seed(seed)
    dim = FEATURES[1] if kind.mfi else None
    return HarmoViewTransformer3DModel(**MODEL, vit_dim=dim, **kind.settings)


def train(
    kind: Variant, seed: int, steps: int, batch: int, rate: float
) -> HarmoViewTransformer3DModel:
    """Train a new model through the four phases on people who never come again."""
    model = new_model(kind, seed).train()
    draw = torch.Generator().manual_seed(seed)
    schedule = flow.NoiseSchedule("uniform", shift=5.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, 0.1, cycle_momentum=False)
    available = [[True] * SLOTS] * kind.people
    for step, phase in enumerate(_phases(kind, steps)):
        people = draw_people(batch, kind.people, draw)
        choice = [shown(phase, available, frontal=FRONTAL, seed=seed, key=str(row), epoch=step)
                  for row in range(batch)]  # fmt: skip
        mask = torch.tensor([one.views for one in choice])
        text = people.text() * torch.tensor([one.text for one in choice])[:, None, None]
        sigma = schedule.sigma(flow.strata(batch, draw))
        clip = people.clip()
        noise = torch.randn(clip.shape, generator=draw)
        prediction = model(flow.noisy(clip, noise, sigma), sigma * flow.TIMESTEPS, text,
                           **people.inputs(mask, mfi=kind.mfi), return_dict=False)[0]  # fmt: skip
        flow.loss(prediction, clip, noise).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
    return model.eval()


def _phases(kind: Variant, steps: int) -> Iterator[Phase]:
    """Yield the phase of each step."""
    ends = [round(steps * sum(PHASE_SHARES[: number + 1])) for number in range(len(PHASE_SHARES))]
    phases = variant(PHASES, kind.curriculum)
    for step in range(steps):
        yield phases[next(number for number, end in enumerate(ends) if step < end)]


@torch.no_grad()
def estimate(
    model: HarmoViewTransformer3DModel, kind: Variant, people: People, mask: Tensor
) -> Tensor:
    """Return what the model makes of pure noise: the code of the clip, [B, C]."""
    clip = people.clip()
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(5))
    time = torch.full((len(clip),), float(flow.TIMESTEPS))
    velocity = model(noise, time, people.text(), **people.inputs(mask, mfi=kind.mfi),
                     return_dict=False)[0]  # fmt: skip
    code: Tensor = (noise - velocity).mean(dim=(2, 3, 4))
    return code


def measure(model: HarmoViewTransformer3DModel, kind: Variant) -> dict[str, Any]:
    """Measure a model on people of its own draw: error, excess, weight and leak by views shown.

    `excess` is the mean squared distance to `People.best`, which is the error less the least
    possible. `weight` and `leak` are the coefficients with which the best answers for the person
    and for the other one make up the model's.
    """
    found: dict[str, Any] = {"error": {}, "excess": {}, "weight": {}, "leak": {}}
    for count, named in CASES:
        draw = torch.Generator().manual_seed(10**6 + count)
        people = draw_people(TESTED, kind.people, draw)
        mask = views(people, count, draw, named=named)
        guess, best = estimate(model, kind, people, mask), people.best(mask)
        name = f"{count} {'named' if named else 'absent'}"
        found["error"][name] = float((guess - people.named).square().mean())
        found["excess"][name] = float((guess - best).square().mean())
        if count:
            causes = [best.flatten()]
            if kind.people == 2:
                causes.append(people.others().best(mask).flatten())
            parts = torch.linalg.lstsq(torch.stack(causes, 1), guess.flatten()).solution
            found["weight"][name] = float(parts[0])
            if kind.people == 2:
                found["leak"][name] = float(parts[1])
    found["attention"] = attention(model, kind)
    return found


@torch.no_grad()
def attention(model: HarmoViewTransformer3DModel, kind: Variant) -> dict[str, float]:
    """Where the video looks in the last block, by the slots of the person in the clip.

    One view is shown of each person, and not the named one. Models without slots have no answer.
    """
    if kind.settings.get("absent_views") == "sequential":
        return {}
    draw = torch.Generator().manual_seed(10**6)
    people = draw_people(TESTED, kind.people, draw)
    mask = views(people, 1, draw, named=False)
    with _watched() as maps:
        estimate(model, kind, people, mask)
    slots, rows = kind.people * SLOTS, torch.arange(TESTED)
    seen = mask[rows, people.who]
    own = torch.nn.functional.one_hot(people.yaw, SLOTS).bool()
    where = {"shown view": seen, "named slot": own, "other empty slots": ~(own | seen)}
    looks = maps[-1][:, slots:, :slots].mean(dim=1).unflatten(1, (-1, SLOTS))[rows, people.who]
    return {name: float((looks * there).sum(dim=1).mean()) for name, there in where.items()}


@contextmanager
def _watched() -> Iterator[list[Tensor]]:
    """Collect the maps of self-attention, [B, queries, keys], a mean over heads, by block."""
    plain, maps = transformer_wan.dispatch_attention_fn, []

    def watching(query: Tensor, key: Tensor, value: Tensor, **rest: Any) -> Tensor:
        if query.shape[1] == key.shape[1]:
            logits = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
            maps.append(logits.softmax(dim=-1).mean(dim=1))
        out: Tensor = plain(query, key, value, **rest)
        return out

    with mock.patch.object(transformer_wan, "dispatch_attention_fn", watching):
        yield maps


@dataclass(frozen=True)
class ProofBenchmark:
    """Train and measure what is missing, or write the page."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: int = 5
    steps: int = 1000
    batch: int = 64
    rate: float = 6e-3
    minutes: float = float("inf")
    """CPU minutes after which no training begins."""
    results: Path = RESULTS
    table: bool = False
    """Only write the table and plots."""


def run(name: str, seed: int, steps: int, batch: int, rate: float) -> dict[str, Any]:
    """Train and measure a variant; its line of the results."""
    begin = time.process_time()
    model = train(VARIANTS[name], seed, steps, batch, rate)
    trained = time.process_time() - begin
    return {"variant": name, "seed": seed, "steps": steps, "batch": batch, "rate": rate,
            "seconds": round(trained, 1), **measure(model, VARIANTS[name])}  # fmt: skip


def main(options: ProofBenchmark) -> None:
    """Go on with the sweep, one seed after the other, or write the page."""
    torch.set_num_threads(1)
    rows = read(options.results)
    if options.table:
        least = {f"{count} {'named' if named else 'absent'}": least_error(count, named=named)
                 for count, named in CASES}  # fmt: skip
        proof_page.write(rows, tuple(VARIANTS), least)
        return
    if unknown := set(options.variants) - VARIANTS.keys():
        raise SystemExit(f"no variant {min(unknown)!r}; there are {', '.join(VARIANTS)}")
    course = (options.steps, options.batch, options.rate)
    if any((row["steps"], row["batch"], row["rate"]) != course for row in rows):
        raise SystemExit(f"{options.results} has other steps, batch or rate: name another")
    done = {(row["variant"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        for name in options.variants:
            if (name, seed) in done or time.process_time() > 60 * options.minutes:
                continue
            row = run(name, seed, *course)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_rounded(row)) + "\n")
            excess = "  ".join(f"{at} {value:.3f}" for at, value in row["excess"].items())
            print(f"{name:<16} seed {seed}  {row['seconds']:.0f} s  {excess}", flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def read(results: Path) -> list[dict[str, Any]]:
    """Read the lines of a sweep, and cut off what a killed run left of one."""
    if not results.exists():
        return []
    whole = results.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        os.truncate(results, end)
    return [json.loads(line) for line in whole[:end].splitlines()]


if __name__ == "__main__":
    main(tyro.cli(ProofBenchmark))
