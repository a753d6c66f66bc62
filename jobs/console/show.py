"""The story of one sample on the terminal, or as plain text in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from datapipe.nested import leaves
from dataset.inspect.show import ClipNow, Packed, Story
from filters.judge import Verdict
from filters.rules import PYIQA
from jobs.console.output import degrees, plain, screen

INDENT = 13
"""Columns before what is told of the sample."""
HALF = 0.5
"""Share of a window from which somebody else is said to be in it."""
HASH = 12
"""Letters of a SHA-256 that are shown; JSON has all."""
_STYLES = {"candidate": "green", "rejected": "yellow", "error": "red"}
_SCORES = (
    ("yaw", "measured_yaw", "+z.1f", 7),
    ("pitch", "measured_pitch", "+z.0f", 6),
    ("roll", "measured_roll", "+z.0f", 6),
    ("cosine", "identity_cosine", ".3f", 8),
    ("sharp", "sharpness", ".3f", 7),
    ("ratio", "sharpness_ratio", ".2f", 7),
    ("aesthetic", "aesthetic", ".1f", 11),
    ("face", "face_size", ".0f", 6),
    ("expression", "expression", ".2f", 12),
)
"""Of each score: the head of its column, its name in the tables, its form, its width."""


def print_story(story: Story) -> None:
    """Print everything; no character of the corpus steers the terminal."""
    console = screen()
    row = story.row
    title = Text.assemble(
        (plain(row["key"]), "bold"), "  ", (row["outcome"], _STYLES.get(row["outcome"], ""))
    )
    if row["reason"]:
        title.append(f": {plain(row['reason'])}")
    console.print(title)
    for name, text in _facts(story):
        width = max(console.width - INDENT, 20)
        lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
        for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
            console.print(Text.assemble((f"  {label:<{INDENT - 2}}", "dim"), line), soft_wrap=True)
    for index in range(len(story.verdicts)):
        _print_identity(console, story, index)


def _facts(story: Story) -> Iterator[tuple[str, str]]:
    row = story.row
    yield "source", plain(row["source"])
    yield "clip", plain(_clip(story.clip))
    for caption in row["captions"] or filter(None, [row["caption"]]):
        yield "caption", plain(caption)
    if row["caption_problem"]:
        yield "no caption", plain(row["caption_problem"])
    if row["detail"] and row["detail"] != row["caption_problem"]:
        yield "why", plain(row["detail"], lines=True)
    stages = ("prepare", "synthesize", "score")
    spent = {stage: row[f"{stage}_seconds"] for stage in stages}
    yield "seconds", ", ".join(f"{k} {v:.2f}" for k, v in spent.items() if v is not None)
    if row["others"]:
        yield "others", f"{row['others']} more people were seen and not taken"
    if row["candidate"]:
        yield "candidate", plain(row["candidate"])
    if story.problem:
        yield "problem", plain(story.problem)
    if story.candidate:
        yield "made by", _provenance(story.candidate.provenance)
    if row["candidate"]:
        yield "scored by", _provenance(story.info.scoring.scorers)
    if story.verdicts:
        yield "packed", _packed(story.packed)


def _clip(clip: ClipNow) -> str:
    if not clip.looked:
        return "not looked at: it is on another storage than the run"
    return clip.problem or f"{clip.bytes:,} bytes, can be read"


def _packed(packed: Packed | None) -> str:
    if packed is None:
        return "RUN/shards holds no finished pack by these scorers"
    return f"RUN/shards/{packed.shard}" if packed.shard else plain(packed.why_not or "")


def _provenance(tree: Mapping[str, Any]) -> str:
    """A line for each part: its values, hashes cut short."""
    lines = []
    for part, value in tree.items():
        if isinstance(value, Mapping):
            shown = ", ".join(f"{name} {_short(one)}" for name, one in leaves(value).items())
            lines.append(f"{part}: {shown}")
        elif value is not None:
            lines.append(f"{part}: {_short(value)}")
    return plain("\n".join(lines), lines=True)


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:HASH]}…" if len(text) == 64 and text.isalnum() else text


def _print_identity(console: Console, story: Story, index: int) -> None:
    judged, own = story.verdicts[index], story.references[index]
    kept = judged.verdict.passed
    verdict = Text("kept", "green") if kept else Text(f"left out: {_why(judged.verdict)}", "red")
    console.print(Text.assemble("\n", (f"identity {index}", "bold"), "  ", verdict))
    for line in _cut(story, index):
        console.print(Text(f"  {line}"))
    named = {"aesthetic": own["aesthetic_scorer"].removeprefix(PYIQA)}
    heads = "".join(
        f"{named.get(name, name)[: width - 1]:>{width}}" for name, _, _, width in _SCORES
    )
    console.print(Text(f"\n  {'':<9}{heads}", "dim"), soft_wrap=True)
    _print_picture(console, "reference", own, judged.reference, kept)
    views = sorted(story.views_of(index).items())
    for yaw, view in views:
        _print_picture(console, degrees(yaw), view, judged.views[yaw], kept)
    console.print(Text(f"  seeds    {', '.join(_made(view) for _, view in views)}", "dim"))
    for window, judged_window in story.windows_of(index):
        _print_window(console, window, judged_window)


def _made(view: Mapping[str, Any]) -> str:
    """The seed of a synthesised view, and which attempt it is where it is not the first."""
    if view["source"] == "real":
        return f"frame at {view['timestamp']:.3f} s"
    return f"{view['seed']}" + (f" (attempt {view['attempt']})" if view["attempt"] > 1 else "")


def _print_window(console: Console, window: Mapping[str, Any], verdict: Verdict) -> None:
    """One span in which the person is seen."""
    turns = f"yaw {window['yaw_low']:+z.0f}° to {window['yaw_high']:+z.0f}°"
    with_ = f", {window['others']} others" if window["others"] else ""
    together = ", with the other identity" if window["together"] >= HALF else ""
    said = (
        f"  seen     {window['start']:.2f} to {window['end']:.2f} s, shot {window['shot']}: face "
        f"{window['face_size']:.0f} pixels, {turns}{with_}{together}"
    )
    decision = f"  {_why(verdict)}" if verdict.reason else "  passes"
    console.print(
        Text.assemble(said, (decision, "red" if verdict.reason else "green")), soft_wrap=True
    )


def _cut(story: Story, index: int) -> Iterator[str]:
    """Where the reference is from."""
    own = story.references[index]
    yield (
        f"reference: frame {own['frame']} at {own['timestamp']:.3f} s; "
        f"this person was seen in {own['seen']} of the probed frames"
    )
    if story.candidate is not None:
        stored = story.candidate.sample.identities[index].reference
        face, square = ([round(edge) for edge in box] for box in (stored.box, stored.crop))
        yield f"left, top, right, bottom there: face {face}, cut out {square} pixels"
    pose = ", ".join(f"{name} {own[f'frame_{name}']:+z.1f}°" for name in ("yaw", "pitch", "roll"))
    sure = f"detector {own['frame_score']:.2f}, sharpness {own['frame_sharpness']:.3f}"
    yield f"before it was cut: {pose}, {sure}"


def _print_picture(
    console: Console, name: str, row: Mapping[str, Any], verdict: Verdict, kept: bool
) -> None:
    numbers = "".join(
        f"{'–' if row[column] is None else format(row[column], form):>{width}}"
        for _, column, form, width in _SCORES
    )
    colour = "red" if verdict.reason else "green" if kept else "yellow"
    decision = Text(f"  {verdict.reason or 'passes'}", colour)
    console.print(Text.assemble(f"  {name:<9}{numbers}", decision), soft_wrap=True)
    if verdict.reason:
        console.print(Text(f"  {'':<9}  {plain(verdict.detail)}", colour))


def _why(verdict: Verdict) -> str:
    return plain(f"{verdict.reason}: {verdict.detail}" if verdict.detail else str(verdict.reason))
