"""Would a correction of yaw readings, fitted on virtual subjects, hold for real people?

    harmoview subjects --out turns --count 10 --seconds 2 --size 320
    python -m benchmarks.yaw_agreement turns --real clip.mp4 another.mp4

Two estimators that share no network read the same faces: 3DDFA, whose yaw everything here uses,
and a weak-perspective fit of MediaPipe's landmarks to the mean of studio portraits. For each a
monotone, mirrored correction is fitted on one half of the virtual subjects. A correction that is
true of heads brings the two nearer to each other on the other half and on real people; one that
only knows the renderer does so on the former alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import numpy.typing as npt
import tyro

from datapipe.faces import face_analyzer
from datapipe.faces.base import FaceAnalyzer
from datapipe.faces.landmarks import Landmarker, place, turned
from datapipe.models import model_path
from datapipe.models.catalogue import PORTRAITS
from datapipe.pictures import decode_jpeg
from datapipe.record import Image
from lora_engine.acquire.yaw_geometry import yaw_of

Floats = npt.NDArray[np.float64]
BANDS = ((0, 15), (15, 30), (30, 45), (45, 65))
"""|yaw| in degrees, by the mean of both readings: no landmark is seen well beyond."""
NAMES = ("3DDFA", "landmarks")


@dataclass(frozen=True)
class YawAgreementBenchmark:
    """Fit on virtual subjects, and compare two estimators with and without the correction."""

    turns: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TURNS")]
    """A folder of `harmoview subjects`."""
    real: tuple[Path, ...] = ()
    """Clips of real people, each of one."""
    every: int = 1
    """Frames of a virtual clip from one that is read to the next."""
    readings: int = 300
    """Frames of a real clip that are read, at most."""


class Readers:
    """Reads the yaw of a picture's largest face with both estimators."""

    def __init__(self) -> None:
        """Loads the models, and the portraits of which the mean face is made."""
        self._faces: FaceAnalyzer = face_analyzer("light")
        self._faces.setup()
        self._landmarker = Landmarker(model_path("face-landmarker"))
        folder = model_path("portraits")
        files = [folder / who / "assets/studio_portrait.jpg" for who in PORTRAITS]
        found = [self._points(decode_jpeg(file.read_bytes())) for file in files]
        shapes = [points for points, _ in found if points is not None]
        self._mean: Floats = np.mean([each / np.linalg.norm(each) for each in shapes], axis=0)

    def __call__(self, image: Image) -> tuple[float, float] | None:
        """Both yaws in degrees; > 0: the nose points to image right. None without a face."""
        points, own = self._points(image)
        if points is None or own is None:
            return None
        camera = np.linalg.lstsq(self._mean, points[:, :2], rcond=None)[0].T
        right, up = camera / np.linalg.norm(camera, axis=1, keepdims=True)
        ahead = np.cross(right, up)
        return own, float(np.degrees(np.arctan2(-right[2], np.hypot(ahead[2], up[2]))))

    def _points(self, image: Image) -> tuple[Floats | None, float | None]:
        """Landmarks (478, 3) about their middle, y down and z away, and 3DDFA's yaw."""
        found = self._faces.find([image])[0]
        if not found or found[0].pose is None:
            return None, None
        crop, _ = turned(image, *place(found[0].box, found[0].points[:2]))
        try:
            points = self._landmarker.square(crop)
        except ValueError:
            return None, None
        return points - points.mean(axis=0), yaw_of(found[0].pose)


def frames(path: Path) -> Iterator[Image]:
    with av.open(path) as video:
        for frame in video.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def readings(readers: Readers, pictures: Iterator[Image], truth: Sequence[float]) -> Floats:
    """(n, 3): the truth, NaN where it is not known, and both readings."""
    rows = []
    for place_, image in enumerate(pictures):
        read = readers(image)
        if read is not None:
            rows.append((truth[place_] if truth else np.nan, *read))
    return np.array(rows).reshape(-1, 3)


def correction(truth: Floats, read: Floats) -> tuple[float, float]:
    """Fit a and b of truth = a * read + b * read * |read|: alike on both sides.

    Raises ValueError where that does not rise with the reading as far as it was fitted.
    """
    columns = np.column_stack([read, read * np.abs(read)])
    a, b = np.linalg.lstsq(columns, truth, rcond=None)[0]
    if min(a, a + 2 * b * np.abs(read).max()) <= 0:
        raise ValueError(f"{a:g} * yaw + {b:g} * yaw * |yaw| is not monotone")
    return float(a), float(b)


def corrected(read: Floats, by: tuple[float, float]) -> Floats:
    return np.asarray(by[0] * read + by[1] * read * np.abs(read))


def report(name: str, rows: Floats, by: Sequence[tuple[float, float]]) -> None:
    """Print how far the estimators are apart, and from the truth where it is known."""
    raw = rows[:, 1:]
    right = np.column_stack([corrected(raw[:, i], by[i]) for i in range(2)])
    known = not np.isnan(rows[:, 0]).any()
    where = np.abs(rows[:, 0]) if known else np.abs(raw.mean(axis=1))
    for low, high in BANDS:
        band = (where >= low) & (where < high)
        if band.sum() < 5:
            continue
        apart = [np.abs(np.diff(each[band], axis=1)).mean() for each in (raw, right)]
        text = f"{name:<22}{f'{low}-{high}':>7}{band.sum():>8}{apart[0]:>10.1f}{apart[1]:>11.1f}"
        if known:
            for each in (raw, right):
                error = np.abs(each[band] - rows[band, :1]).mean(axis=0)
                text += "".join(f"{value:>12.1f}" for value in error)
        print(text)


def main(settings: YawAgreementBenchmark) -> None:
    """Print a line for each group and range of yaw."""
    readers = Readers()
    clips = sorted(settings.turns.glob("*.mp4"))
    halves: list[list[Floats]] = [[], []]
    for number, clip in enumerate(clips):
        told = json.loads(clip.with_suffix(".json").read_text())["people"][0]["frames"]
        kept = range(0, len(told), settings.every)
        chosen = (image for i, image in enumerate(frames(clip)) if i in kept)
        halves[number % 2].append(readings(readers, chosen, [told[i]["yaw"] for i in kept]))
    fitted, held_out = (np.concatenate(half) for half in halves)
    inside = np.abs(fitted[:, 0]) <= BANDS[-1][1] + 10
    by = [correction(fitted[inside, 0], fitted[inside, i]) for i in (1, 2)]
    marks = np.array([15.0, 30.0, 45.0, 60.0])
    for name, one in zip(NAMES, by, strict=True):
        true = zip(marks, corrected(marks, one), strict=True)
        print(name, "reads", ", ".join(f"{read:g} at {yaw:.1f}" for read, yaw in true))
    print(f"{'mean |difference|, °':<22}{'|yaw|':>7}{'frames':>8}{'apart':>10}{'corrected':>11}"
          f"{'3DDFA err':>12}{'landm. err':>12}{'corrected':>12}{'corrected':>12}")  # fmt: skip
    report("virtual, held out", held_out, by)
    together = []
    for clip in settings.real:
        every = max(1, sum(1 for _ in frames(clip)) // settings.readings)
        chosen = (image for i, image in enumerate(frames(clip)) if i % every == 0)
        together.append(readings(readers, chosen, ()))
        report(clip.stem, together[-1], by)
    if together:
        report("all of these", np.concatenate(together), by)


if __name__ == "__main__":
    main(tyro.cli(YawAgreementBenchmark))
