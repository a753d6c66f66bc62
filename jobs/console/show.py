"""The story of one sample on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from datapipe.claim import leaves
from dataset.inspect.show import ClipNow, PackOutcome, Story
from filters.judge import Verdict
from filters.rules import PYIQA
from jobs.console.output import degrees, fold, plain, screen

INDENT = 13
"""Columns before what is told of the sample."""
HALF = 0.5
"""Share of a window from which somebody else is said to be in it."""
HASH = 12
"""Letters of a SHA-256 that are shown; JSON has all."""
_STYLES = {"candidate": "green", "rejected": "yellow", "error": "red"}
_SCORES = (
    ("yaw", "measured_yaw", "+z.1f", 6),
    ("pitch", "measured_pitch", "+z.0f", 6),
    ("roll", "measured_roll", "+z.0f", 5),
    ("cosine", "identity_cosine", ".3f", 8),
    ("sharp", "sharpness", ".3f", 7),
    ("ratio", "sharpness_ratio", ".2f", 7),
    ("aesthetic", "aesthetic", ".1f", 10),
    ("face", "face_size", ".0f", 6),
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
    _print_facts(console, _facts(story))
    for index in range(len(story.verdicts)):
        _print_identity(console, story, index)
    if made := list(_made_by(story)):
        console.print(Text("\nprovenance", "bold"))
        _print_facts(console, made)


def _print_facts(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    for name, text in facts:
        for line in fold(text, console.width, f"  {name:<{INDENT - 2}}", " " * INDENT):
            console.print(Text.assemble((line[:INDENT], "dim"), line[INDENT:]), soft_wrap=True)


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
    if story.problem:
        yield "problem", plain(story.problem)
    if story.verdicts:
        yield "packed", _packed(story.packed)


def _made_by(story: Story) -> Iterator[tuple[str, str]]:
    """Which models and settings made what was judged; nothing without a candidate."""
    if story.row["candidate"]:
        yield "candidate", plain(story.row["candidate"])
    if story.candidate:
        yield "made by", _provenance(story.candidate.provenance)
    if story.row["candidate"]:
        yield "scored by", _provenance(story.info.scoring.scorers)


def _clip(clip: ClipNow) -> str:
    if not clip.looked:
        return "not looked at: it is on another storage than the run"
    return clip.problem or f"{clip.bytes:,} bytes, can be read"


def _packed(packed: PackOutcome | None) -> str:
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
    console.print(Text.assemble("\n", (f"identity {index}", "bold"), "  ", verdict), soft_wrap=True)
    for line in _cut(story, index):
        _print_folded(console, line, then=4)
    named = {"aesthetic": own["aesthetic_scorer"].removeprefix(PYIQA)}
    heads = "".join(
        f"{named.get(name, name)[: width - 1]:>{width}}" for name, _, _, width in _SCORES
    )
    console.print(Text(f"\n  {'':<9}{heads}", "dim"), soft_wrap=True)
    _print_picture(console, "reference", own, judged.reference, kept)
    views = sorted(story.views_of(index).items())
    for yaw, view in views:
        _print_picture(console, degrees(yaw), view, judged.views[yaw], kept)
    _print_folded(console, f"seeds    {', '.join(_made(view) for _, view in views)}", "dim")
    for row in story.passed_over(index):
        cosine = "–" if row["identity_cosine"] is None else f"{row['identity_cosine']:.3f}"
        said = f"{degrees(row['yaw'])} {row['source']} ({_made(row)}), cosine {cosine}"
        _print_folded(console, f"beside   {said}", "dim")
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
    others = window["others"]
    with_ = f", {others} other{'s' * (others > 1)}" if others else ""
    together = ", with the other identity" if window["together"] >= HALF else ""
    said = (
        f"seen     {window['start']:.2f} to {window['end']:.2f} s, shot {window['shot']}: face "
        f"{window['face_size']:.0f} pixels, {turns}{with_}{together}"
    )
    if verdict.reason:
        _print_folded(console, said)
        _print_below(console, _why(verdict), "red")
    else:
        _print_folded(console, f"{said}  passes")


def _print_below(console: Console, words: str, style: str) -> None:
    """What is said of the line above."""
    for part in fold(words, console.width, " " * 11, " " * 11):
        console.print(Text(part, style), soft_wrap=True)


def _print_folded(console: Console, line: str, style: str = "", then: int = 11) -> None:
    """A line about an identity; what does not fit goes on below, behind `then` columns."""
    for part in fold(line, console.width, "  ", " " * then):
        console.print(Text(part, style), soft_wrap=True)


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
    sure = (
        f"detector {own['frame_score']:.2f}, sharpness {own['frame_sharpness']:.3f}, "
        f"expression {own['expression']:.2f}"
    )
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
        _print_below(console, plain(verdict.detail), colour)


def _why(verdict: Verdict) -> str:
    return plain(f"{verdict.reason}: {verdict.detail}" if verdict.detail else str(verdict.reason))
