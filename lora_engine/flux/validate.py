"""Validation: views of people the training never saw, measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from datapipe.record import Image
from lora_engine.views import Measured, Person

Measure = Callable[[Image, Sequence[Image]], Sequence[Measured]]
"""(reference, views) to one Measured for each view."""

Synthesize = Callable[[Image, Sequence[int], Sequence[int]], Sequence[Image]]
"""(reference, yaws, seeds) to one view for each yaw."""


def validate(
    people: Iterable[tuple[str, Image]],
    yaws: Sequence[int],
    synthesize: Synthesize,
    measure: Measure,
) -> list[Person]:
    """Make and measure every person's views; the seeds depend on person and yaw alone."""
    done = []
    for key, reference in people:
        views = synthesize(reference, yaws, [_seed(key, yaw) for yaw in yaws])
        measured = measure(reference, views)
        done.append(
            Person(
                key,
                reference,
                dict(zip(yaws, views, strict=True)),
                dict(zip(yaws, measured, strict=True)),
            )
        )
    return done


def _seed(key: str, yaw: int) -> int:
    return int.from_bytes(hashlib.sha256(f"validation:{key}:{yaw}".encode()).digest()[:7])
