"""Do views keep yaw and person better, once training has seen references as production makes them?

    python -m benchmarks.references

Two tiny Kontext transformers learn from random weights, wholly, on virtual people: one with the
best frame of each person as the only reference (`--variants 1`), one with four references as
production makes them (`--variants 4`). All stand before one wall in one light, so that nothing but
the person tells them apart. Latents are the pixels themselves, rearranged, so no VAE blurs what is
measured. Views of people whom neither has seen are compared with renderings of those people: the
yaw of a view is that of the nearest one, and its person is the nearest at the yaw asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro
from diffusers import FluxTransformer2DModel

from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import FACE_CENTRE, FACE_SHARE
from datapipe.record import YAWS, Image, Pose
from lora_engine.flux import latents, vae
from lora_engine.flux.groups import Draw, Group, GroupSettings, draw, shifted_sigmas
from lora_engine.flux.latents import PRODUCTION, REFERENCE, Variety, variant
from lora_engine.flux.learner import Objective
from lora_engine.flux.prompts import PromptEmbeddings, prompt, tag
from lora_engine.mesh.geometry import Light
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, HeadShot, Sensor, Turn, render, rotations
from lora_engine.pairs import Subject, SubjectFrame
from lora_engine.subjects.distinct import invented, person_seed
from lora_engine.subjects.gallery import Gallery
from training.optimizer import adamw, rates

SIDE, PIXELS = 128, 32
"""Sides of the pairs' pictures and of what the model sees."""
NEAR, YAW, PITCH = 3.0, 15.0, 20.0
"""Degrees: of the best reference, and of any that production admits."""
LARGEST = 0.67
"""The largest share of a reference that production lets a face take."""
FINE = 5
"""Degrees between the renderings by which yaw is read."""
WORDS, WIDTH = 4, 64
"""Tokens of a prompt, which are random numbers here, and the width of the model."""
SHIFT, DENOISING = 0.5, 10
"""Of the noise levels, and steps from noise to a view."""
ARMS = {"one reference, frontal": Variety(), "as production makes them": PRODUCTION}
"""What the two trainings see."""

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReferencesBenchmark:
    """Train both ways and print the table."""

    people: int = 36
    """People to train on."""
    held_out: int = 10
    """People to test with."""
    references: int = 5
    """References of each of them, of either kind."""
    steps: int = 1200
    seeds: int = 1
    """Trainings each way."""


class Person(NamedTuple):
    """One virtual person."""

    subject: Subject
    """The seven yaws and four references, of which the first is frontal."""
    fine: Mapping[int, Image]
    """Renderings at every `FINE` degrees, from -90 to 90; of those to test with."""
    near: Sequence[Image]
    """More references within `NEAR` degrees."""
    wide: Sequence[Image]
    """More references as production admits them."""


def main(settings: ReferencesBenchmark) -> None:
    """Render the people, train, measure, print."""
    torch.set_num_threads(1)
    gallery = Gallery()
    count = settings.people + settings.held_out
    people = [
        render_person(gallery, number, settings.references if number >= settings.people else 0)
        for number in range(count)
    ]
    train, test = people[: settings.people], people[settings.people :]
    print("| trained with | references | yaw error, degrees | identity cosine | right person |")
    print("|---|---|---|---|---|")
    for name, variety in ARMS.items():
        made = [learn(train, variety, settings.steps, seed) for seed in range(settings.seeds)]
        for kind in ("frontal", "as production makes them"):
            scores = np.array([measure(one, test, kind == "frontal") for one in made])
            text = " | ".join(
                f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(made) > 1 else "")
                for mean, spread, digits in zip(
                    scores.mean(0), scores.std(0), (1, 2, 2), strict=True
                )
            )
            print(f"| {name} | {kind} | {text} |", flush=True)


def render_person(gallery: Gallery, number: int, more: int) -> Person:
    """Render a person; `more` are the references of either kind for the test."""
    head = invented(gallery, person_seed(0, number)).head
    rng = np.random.default_rng([1, number])
    frames = tuple(
        SubjectFrame(yaw, encode_jpeg(shoot(head, Pose(yaw, 0, 0), rng)), float(yaw), 0.0)
        for yaw in YAWS
    )
    bounds = [(NEAR, NEAR), *[(YAW, PITCH)] * 3]
    references = tuple(
        SubjectFrame(0, encode_jpeg(shoot(head, pose_within(*bound, rng), rng)), 0.0, 0.0,
                     number=place, reference=True)
        for place, bound in enumerate(bounds)
    )  # fmt: skip
    subject = Subject(f"p{number}", f"p{number}", frames, references=references)
    yaws = range(-90, 91, FINE) if more else ()
    fine = {yaw: shoot(head, Pose(yaw, 0, 0), rng) for yaw in yaws}
    near, wide = (
        [shoot(head, pose_within(*bound, rng), rng) for _ in range(more)]
        for bound in ((NEAR, NEAR), (YAW, PITCH))
    )
    return Person(subject, fine, near, wide)


def pose_within(yaw: float, pitch: float, rng: np.random.Generator) -> Pose:
    """Draw a pose between these bounds, evenly."""
    return Pose(float(rng.uniform(-yaw, yaw)), float(rng.uniform(-pitch, pitch)), 0.0)


def shoot(head: Head, pose: Pose, rng: np.random.Generator) -> Image:
    """Render (SIDE, SIDE, 3), cut around the face.

    As in references the face is in the middle; beyond `YAW` the head stays where it is at 0.
    """
    turn = Turn(rotations(pose), head.pivot)
    upright = Turn(rotations(Pose(0.0, 0.0, 0.0)), head.pivot)
    whole = Camera(head.face.mean(axis=0))
    box = whole.project(upright(head.face, upright.level(head.face)), SIDE, SIDE)[:, :2]
    scale = whole.scale * FACE_SHARE * SIDE / float(np.ptp(box, axis=0).mean())
    near = abs(pose.yaw) <= YAW
    face = turn(head.face, turn.level(head.face)) if near else head.face
    middle = (face.min(axis=0) + face.max(axis=0)) / 2
    camera = Camera(middle * [near, 1, 1], (0.5, FACE_CENTRE), scale)
    light = Light.from_direction(np.array([0.0, 0.4, 1.0]), key=0.25)
    wall = np.full((2, 2, 3), 168.0, np.float32)
    return Sensor()(render([HeadShot(head, pose, camera, light)], (SIDE, SIDE), wall), rng)


def tokens(image: Image) -> torch.Tensor:
    """Rearrange a picture to tokens (1, 64, 48), -1..1; nothing is lost but its size."""
    small = cv2.resize(image, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
    values = torch.from_numpy(small).float().permute(2, 0, 1)[None] / 127.5 - 1
    return vae.pack(torch.nn.functional.pixel_unshuffle(values, 2))


def embeddings() -> PromptEmbeddings:
    """Return random numbers for each yaw's prompt, the same at each call."""
    random = torch.Generator().manual_seed(0)
    return PromptEmbeddings(
        {yaw: prompt(yaw) for yaw in YAWS}, WORDS,
        {yaw: torch.randn(WORDS, 32, generator=random) for yaw in YAWS},
        {yaw: torch.randn(32, generator=random) for yaw in YAWS},
    )  # fmt: skip


def learn(people: Sequence[Person], variety: Variety, steps: int, seed: int) -> Any:
    """Train a transformer from random weights, with the trainer's draws and objective."""
    torch.manual_seed(seed)
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=48, num_layers=2, num_single_layers=3, attention_head_dim=16,
        num_attention_heads=WIDTH // 16, joint_attention_dim=32, pooled_projection_dim=32,
        guidance_embeds=False, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    objective = Objective(model.train(), torch.float32, embeddings(), None)
    seen = {
        (person.subject.key, number, mirrored): {
            name: tokens(latents.mirror(image) if mirrored else image)
            for name, image in variant(person.subject, number, variety).items()
        }
        for person in people
        for number in range(variety.variants)
        for mirrored in (False, True)
    }
    how = GroupSettings(groups=2, yaws=4, flip=True, seed=seed, variants=variety.variants)
    coverage = {person.subject.key: YAWS for person in people}
    optimizer = adamw([(2e-3, list(model.parameters()))], 0.0)
    schedule = rates(optimizer, "cosine", 50, steps)
    for step in range(steps):
        optimizer.zero_grad()
        for slot in range(how.groups):
            drawn = draw(how, coverage, step, slot)
            (objective(group_of(drawn, seen)) / (how.groups * how.yaws)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def group_of(
    drawn: Draw, seen: Mapping[tuple[str, int, bool], Mapping[str, torch.Tensor]]
) -> Group:
    """Put a draw's tokens and noise together, as `load_group` does from the files."""
    pictures = seen[drawn.subject, drawn.variant, drawn.mirrored]
    targets = torch.cat([pictures[tag(yaw)] for yaw in drawn.frames])
    random = torch.Generator().manual_seed(drawn.seed)
    noise = torch.randn(targets.shape, generator=random)
    sigmas = shifted_sigmas(len(targets), SHIFT, random)
    return Group(drawn, pictures[REFERENCE], targets, noise, sigmas)


def views_of(model: Any, reference: torch.Tensor, seed: int) -> Pixels:
    """Denoise the seven views of a reference: (7, 64, 48)."""
    text, pooled = embeddings().batch(YAWS)
    random = torch.Generator().manual_seed(seed)
    now = torch.randn(len(YAWS), *reference.shape[1:], generator=random)
    side = round(reference.shape[1] ** 0.5)
    ids = torch.cat([vae.position_ids(side, slot, now) for slot in (0, 1)])
    even = torch.linspace(1, 0, DENOISING + 1)
    levels = even * math.exp(SHIFT) / (1 + (math.exp(SHIFT) - 1) * even)
    with torch.no_grad():
        for level, following in pairwise(levels):
            speed = model(
                hidden_states=torch.cat([now, reference.expand(len(YAWS), -1, -1)], dim=1),
                timestep=level.expand(len(YAWS)), pooled_projections=pooled,
                encoder_hidden_states=text, txt_ids=now.new_zeros(WORDS, 3), img_ids=ids,
                return_dict=False,
            )[0][:, : now.shape[1]]  # fmt: skip
            now = now + (following - level) * speed
    return np.asarray(now)


def measure(model: Any, people: Sequence[Person], frontal: bool) -> tuple[float, ...]:
    """Return mean yaw error, identity cosine and share of right people, over all test views.

    The cosine is that of a view and its rendering, both less the mean of all people's renderings
    at that yaw: 1 is the person, 0 the average one.
    """
    rng = np.random.default_rng(2)
    variety = Variety() if frontal else PRODUCTION
    scores = []
    for index, person in enumerate(people):
        for number, image in enumerate(person.near if frontal else person.wide):
            left, top, side = (0.0, 0.0, 1.0) if frontal else window(rng)
            cropped = latents.crop(image, left, top, side)
            reference = cropped if frontal else latents.degraded(cropped, rng, variety)
            views = views_of(model, tokens(reference), 1000 * index + number)
            truth = {
                yaw: np.concatenate([tokens(latents.crop(p.fine[yaw], left, top, side)).numpy()
                                     for p in people])
                for yaw in person.fine
            }  # fmt: skip
            scores += [score(view, yaw, index, truth)
                       for view, yaw in zip(views, YAWS, strict=True)]  # fmt: skip
    return tuple(np.mean(scores, axis=0))


def window(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the square of a reference whose face takes up to `LARGEST` of it."""
    zoom = Variety(crop_zoom=LARGEST / FACE_SHARE, crop_shift=PRODUCTION.crop_shift)
    return latents.window(rng, zoom)


def score(
    view: Pixels, yaw: int, person: int, truth: Mapping[int, Pixels]
) -> tuple[float, float, float]:
    """Return one view's yaw error in degrees, identity cosine, and whether the person is right."""
    nearest = min(truth, key=lambda other: float(np.square(truth[other][person] - view).mean()))
    here = truth[yaw]
    made, own = ((picture - here.mean(axis=0)).ravel() for picture in (view, here[person]))
    cosine = float(made @ own / (np.linalg.norm(made) * np.linalg.norm(own) + 1e-9))
    right = int(np.square(here - view).mean(axis=(1, 2)).argmin()) == person
    return abs(nearest - yaw), cosine, float(right)


if __name__ == "__main__":
    main(tyro.cli(ReferencesBenchmark))
