"""What `harmoview pairs` reports: clips, coverage per yaw, yaw error where truth is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from jobs.console.output import new_table, screen, text
from lora_engine.acquire.clips import ClipResult
from lora_engine.acquire.people import subjects as subjects_of
from lora_engine.pairs import SPLITS, Split, Subject, SubjectFrame


def rows(clips: Sequence[ClipResult]) -> bytes:
    """A line of JSON for each clip: its outcome, why, and the frames that were picked."""
    return b"".join(json.dumps(_row(clip), sort_keys=True).encode() + b"\n" for clip in clips)


def _row(clip: ClipResult) -> dict[str, object]:
    row: dict[str, object] = {
        "key": clip.key,
        "clip": clip.name,
        "subject": clip.subject,
        "outcome": clip.outcome,
        "reason": clip.reason,
        "detail": clip.detail,
    }
    if clip.picked is not None:
        row["yaws"] = [frame.yaw for frame in clip.picked.frames]
        row["frames_looked_at"] = clip.picked.looked
        row["frames"] = clip.picked.total
    return row


def report(
    clips: Sequence[ClipResult],
    people: Mapping[str, Sequence[ClipResult]],
    where: Mapping[str, Split],
    yaws: Sequence[int],
) -> None:
    """Print what was left out, what there is at each yaw, and how far its yaw is off."""
    console = screen()
    subjects = [(where[one.person or one.key], one) for one in subjects_of(people)]
    if any(clip.picked is None for clip in clips):
        console.print(_left_out(clips))
    if subjects:
        console.print(_coverage(subjects, yaws))
    known = [f for _, s in subjects for f in s.frames if f.true_yaw is not None]
    if known:
        console.print(_errors(known, yaws))


def _left_out(clips: Sequence[ClipResult]) -> Table:
    """Clips without a subject, by reason, with one as an example."""
    bad = [clip for clip in clips if clip.picked is None]
    table = new_table("Clips left out", "reason", "clips", "for example", words=["for example"])
    for reason, count in Counter(clip.reason for clip in bad).most_common():
        example = next(clip for clip in bad if clip.reason == reason)
        last = example.detail.strip().splitlines()[-1]
        table.add_row(reason, str(count), text(f"{example.name}: {last}"))
    return table


def _coverage(subjects: Sequence[tuple[Split, Subject]], yaws: Sequence[int]) -> Table:
    """How many subjects of each split have a frame at each yaw, and how many have all."""
    table = new_table("Subjects with a frame", "yaw", *SPLITS, "share of all")
    wanted: list[tuple[str, set[int]]] = [(f"{yaw:+d}", {yaw}) for yaw in sorted(yaws)]
    for name, some in [*wanted, ("all yaws", set(yaws))]:
        having = [split for split, subject in subjects if some <= set(subject.yaws)]
        if name == "all yaws":
            table.add_section()
        share = f"{len(having) / len(subjects):.0%}"
        table.add_row(name, *(str(having.count(split)) for split in SPLITS), share)
    table.add_section()
    counts = Counter(split for split, _ in subjects)
    table.add_row("subjects", *(str(counts[split]) for split in SPLITS), "")
    return table


def _errors(frames: Sequence[SubjectFrame], yaws: Sequence[int]) -> Table:
    """True yaw against the yaw asked for and the yaw measured, degrees, away from the front."""
    title = "Yaw error in degrees, positive when turned farther (mean ± spread, largest)"
    table = new_table(title, "yaw", "frames", "truth - asked", "measured - truth")
    for yaw in sorted(yaws):
        sign = -1 if yaw < 0 else 1
        some = [(f.true_yaw, f.measured_yaw) for f in frames if f.yaw == yaw]
        true = [sign * (t - yaw) for t, _ in some if t is not None]
        read = [sign * (m - t) for t, m in some if t is not None and m is not None]
        table.add_row(f"{yaw:+d}", str(len(true)), _spread(true), _spread(read))
    return table


def _spread(errors: Sequence[float]) -> str:
    if not errors:
        return ""
    worst = max(errors, key=abs)
    return f"{np.mean(errors):+.1f} ± {np.std(errors):.1f}, {worst:+.1f}"
