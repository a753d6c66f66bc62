"""Real views against the truth: clips of virtual people whose yaw is known in every frame.

    harmoview subjects --out CLIPS --count 12 --two-person 4 --seconds 8
    python -m benchmarks.real_views CLIPS

For each yaw: how many have a view there, how far its true yaw is from the one it stands for, and
how many are within the tolerance. Whose face it is tell the places of faces in the truth. With
`--readings`, all frames of clips of one person are read, and it is told how often the frame that
reads nearest to a yaw is within the tolerance, by each reading and by both.
"""

from __future__ import annotations

import json
import resource
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.yaw_agreement import frames
from datapipe.faces import FACES, face_analyzer
from datapipe.faces.base import FaceAnalyzer
from datapipe.prepare.people import MIN_OVERLAP, iou
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.prepare.real_views import RealViewSettings
from datapipe.prepare.turns import LEVEL_TO, Front, turned
from datapipe.record import YAWS, Sample, Source, View
from datapipe.stage import Resources

TOLERANCE = RealViewSettings().tolerance
NEARLY_FRONTAL = 15.0
"""Degrees up to which frames are not read."""


@dataclass(frozen=True)
class RealViewsBenchmark:
    """Compare real views with the truth."""

    clips: Annotated[Path, tyro.conf.Positional]
    """A folder that `harmoview subjects` made."""
    faces: FACES = "light"
    """The face models."""
    out: Path | None = None
    """Where to put the views as pictures."""
    readings: bool = False
    """Whether to compare the readings."""


def main(settings: RealViewsBenchmark) -> None:
    """Look at every clip with and without real views, and compare."""
    clips = sorted(
        path for path in settings.clips.glob("*.mp4") if path.with_suffix(".json").exists()
    )
    faces = face_analyzer(settings.faces)
    spent: dict[bool, float] = {}
    people, errors, wrong = 0, defaultdict[int, list[float]](list), 0
    for real in (False, True):
        prepare = Prepare(PrepareSettings(), faces, resources=Resources(1.0),
                          real_yaws=YAWS if real else ())  # fmt: skip
        prepare.setup()
        before = _cpu()
        samples = [prepare(Sample(path.stem, Source(str(path), ".mp4"))) for path in clips]
        prepare.close()
        spent[real] = _cpu() - before
    for path, sample in zip(clips, samples, strict=True):
        truth = json.loads(path.with_suffix(".json").read_text())["people"]
        for number, identity in enumerate(sample.identities):
            people += 1
            who = _who(truth, identity.reference.frame, identity.reference.box)
            for view, picture in identity.cutouts:
                wrong += _who(truth, _frame(view), _box(view)) != who
                errors[view.yaw].append(truth[who]["frames"][_frame(view)]["yaw"] - view.yaw)
                if settings.out is not None:
                    settings.out.mkdir(parents=True, exist_ok=True)
                    name = f"{path.stem}.id{number}.real{view.yaw:+03d}.jpg"
                    (settings.out / name).write_bytes(picture)
    print(f"{len(clips)} clips, {people} people, {wrong} views of another person")
    for yaw in sorted(errors):
        off = np.abs(errors[yaw])
        away = f"off by {off.mean():4.1f}, at most {off.max():4.1f}"
        print(f"{yaw:+4d}  {len(off):3d} views  {away}  within {TOLERANCE:g}: "
              f"{np.mean(off <= TOLERANCE):.0%}")  # fmt: skip
    for name, most in (("up to 30", 30), ("up to 60", 60), ("all", 90)):
        off = np.abs([error for yaw, some in errors.items() if abs(yaw) <= most for error in some])
        share = f"{np.mean(off <= TOLERANCE):.1%}" if len(off) else "–"
        print(f"{name}: {len(off)} views, within {TOLERANCE:g}: {share}")
    if settings.readings:
        compare_readings(clips, samples, faces)
    seconds = sum(_seconds(path) for path in clips)
    for real, cpu in spent.items():
        print(
            f"{'with' if real else 'without'} real views: {60 * cpu / seconds:.1f} CPU s a minute"
        )


def compare_readings(clips: Sequence[Path], samples: Sequence[Sample], faces: FaceAnalyzer) -> None:
    """Of the frames nearest to each yaw by a reading, how many are within the tolerance."""
    off = defaultdict[tuple[str, int], list[float]](list)
    people = 0
    for path, sample in zip(clips, samples, strict=True):
        truth = json.loads(path.with_suffix(".json").read_text())["people"]
        if len(truth) == len(sample.identities) == 1:
            people += 1
            front = Front.of(sample.identities[0], faces)
            for (name, yaw), true in nearest(path, truth[0]["frames"], front).items():
                off[name, yaw].append(abs(true - yaw))
    print(f"{people} people, the frame that reads nearest, within {TOLERANCE:g}")
    for (name, yaw), some in sorted(off.items(), key=lambda item: (item[0][1], item[0][0])):
        within = sum(value <= TOLERANCE for value in some)
        print(f"{yaw:+4d}  {name:22} {within:3d} of {len(some):3d}, at most {max(some):4.1f}")


def nearest(
    path: Path, truth: Sequence[Mapping[str, Any]], front: Front
) -> dict[tuple[str, int], float]:
    """The true yaw of the frame that reads nearest to each yaw and within the tolerance of it."""
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for told, image in zip(truth, frames(path), strict=True):
        if abs(told["yaw"]) < NEARLY_FRONTAL:
            continue
        for face in front.faces.find([image])[0]:
            if face.pose is None or iou(face.box, told["box"]) < MIN_OVERLAP:
                continue
            first = turned(face.pose, front.faces.name)
            second = front.by_landmarks(image, face)
            assert second is not None
            reads = {"face models": first, "landmarks": second, "mean": (first + second) / 2}
            for yaw in (one for one in YAWS if 0 < abs(one) <= LEVEL_TO):
                both = front.yaw_of(image, face, yaw)
                for name, read in {**reads, "as real views are": both}.items():
                    away = 99.0 if read is None else abs(read - yaw)
                    if away <= min(TOLERANCE, best.get((name, yaw), (99.0, 0.0))[0]):
                        best[name, yaw] = away, told["yaw"]
    return {key: true for key, (_, true) in best.items()}


def _frame(view: View) -> int:
    assert view.cutout is not None
    return view.cutout.frame


def _box(view: View) -> tuple[float, float, float, float]:
    assert view.cutout is not None
    return view.cutout.box


def _who(truth: Sequence[Mapping[str, Any]], frame: int, box: Sequence[float]) -> int:
    """The person of the truth whose face is there."""
    return int(np.argmax([iou(one["frames"][frame]["box"], box) for one in truth]))


def _seconds(path: Path) -> float:
    data = json.loads(path.with_suffix(".json").read_text())
    return len(data["people"][0]["frames"]) / float(data["fps"]) if data["people"] else 0.0


def _cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main(tyro.cli(RealViewsBenchmark))
