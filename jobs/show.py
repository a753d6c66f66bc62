"""`harmoview show`: everything that a run knows of one sample, as text and as a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jobs.cli import command


@dataclass(frozen=True)
class ShowSettings:
    """Show one sample of a run: where it came from, what was made of it, and why it is kept or not.

    Judges the stored scores; needs no model and changes nothing.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run folder that `harmoview synthesize` made."""
    key: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEY")]
    """The sample's key; `harmoview stats` has examples."""
    rules: str | None = None
    """Rules file to judge by; the default is what RUN/shards was packed with, else the package's
    rules."""
    image: Path | None = None
    """Also write a picture (JPEG): the reference and every view with its numbers."""
    json: bool = False
    """Print JSON instead of text; docs/inspect.md describes it."""


def execute(settings: ShowSettings) -> None:
    """Look the sample up, print, draw."""
    from dataset.run import Run
    from jobs.console.output import write
    from jobs.console.show import print_story

    story = Run(settings.run).show(settings.key, settings.rules)
    if settings.json:
        print(json.dumps(story.as_dict(), indent=1))
    else:
        print_story(story)
    if settings.image:
        write(settings.image, story.picture())
        if not settings.json:
            print(f"picture: {settings.image}")


main = command(__name__, ShowSettings, execute)
