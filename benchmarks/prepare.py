"""Prepare against the straightforward script: decode every frame, analyse each, take the best.

And the reader against decord at what decord does best: frames in a row from a plain file.

    python -m benchmarks.prepare CLIP…

Clips are lengthened to a minute first, forwards and backwards in turn, with a key frame every 250
frames. CPU seconds count the decoding process too; wall times depend on what else the machine does.
"""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import av
import tyro

from datapipe.faces import FACES, face_analyzer
from datapipe.faces.base import FaceAnalyzer
from datapipe.prepare.frontal import FrontalBound, Measured, measure
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import Image, Reference, Sample, Source
from datapipe.stage import Resources
from datapipe.video.table import Limits
from datapipe.video.worker import Clip

Result = TypeVar("Result")


@dataclass(frozen=True)
class PrepareBenchmark:
    """Compare Prepare with looking at every frame."""

    clips: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Videos with one person or more; the most prominent one is compared."""
    faces: FACES = "light"
    """The face backend of both."""
    seconds: float = 60.0
    """Length to which the clips are brought."""


@dataclass(frozen=True)
class Timed:
    """How long something took."""

    wall: float
    cpu: float


def timed(work: Callable[[], Result]) -> tuple[Result, Timed]:
    wall, cpu = time.perf_counter(), _cpu()
    found = work()
    return found, Timed(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def sparse(path: Path, faces: FaceAnalyzer) -> Reference:
    prepare = Prepare(PrepareSettings(), faces, resources=Resources(num_cpus=1))
    prepare.setup()
    try:
        done = prepare(Sample("clip", Source(str(path), path.suffix)))
    finally:
        prepare.close()
    return done.identities[0].reference


def exhaustive(path: Path, faces: FaceAnalyzer) -> Reference:
    """Find the largest face of every frame, by the same bound and score.

    Raises BadSample where none is frontal.
    """
    import decord

    faces.setup()
    bound = FrontalBound()
    video = decord.VideoReader(str(path), num_threads=1)
    best: tuple[float, int, Measured] | None = None
    for index in range(len(video)):
        image = video[index].asnumpy()
        for face in faces.find([image])[0][:1]:
            if bound.frontal(face, image):
                measured = measure(image, face, 1.0)
                merit = measured.merit(bound)
                if best is None or merit > best[0]:
                    best = merit, index, measured
    if best is None:
        raise SystemExit(f"{path}: no frontal face in any frame")
    _, index, measured = best
    pose, sharp = measured.face.pose, measured.sharpness
    assert pose is not None
    return Reference(
        timestamp=float(video.get_frame_timestamp(index)[0]),
        frame=index,
        box=measured.face.box,
        crop=(0, 0, 0, 0),
        pose=pose,
        score=measured.face.score,
        sharpness=sharp or 0.0,
        seen=len(video),
    )


def frames(path: Path) -> Iterator[Image]:
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def lengthen(path: Path, out: Path, seconds: float) -> Path:
    """The clip, forwards and backwards in turn, as H.264 with libx264's usual settings."""
    once = list(frames(path))
    with av.open(str(path)) as source, av.open(str(out), "w") as file:
        rate = source.streams.video[0].average_rate
        stream = file.add_stream("libx264", rate=rate, options={"g": "250"})
        stream.height, stream.width = once[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        endless = itertools.cycle([*once, *reversed(once)])
        for picture in itertools.islice(endless, round(seconds * rate)):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return out


def compare(path: Path, faces: FaceAnalyzer) -> None:
    quick, short = timed(lambda: sparse(path, faces))
    full, long = timed(lambda: exhaustive(path, faces))
    print(f"{path.stem}: {full.seen} frames")
    for name, found, took in (("prepare", quick, short), ("every frame", full, long)):
        print(
            f"  {name:12} {took.wall:7.1f} s wall {took.cpu:7.1f} s CPU   frame {found.frame:5}"
            f"   yaw {found.pose.yaw:+5.1f}   pitch {found.pose.pitch:+5.1f}"
            f"   sharpness {found.sharpness:.3f}"
        )
    worse = abs(quick.pose.yaw) - abs(full.pose.yaw)
    print(
        f"  {long.wall / short.wall:.1f} times as fast by wall time, {long.cpu / short.cpu:.1f} by "
        f"CPU time; |yaw| {worse:+.1f} degrees; sharpness {quick.sharpness / full.sharpness:.0%}"
    )


def compare_in_a_row(path: Path, count: int = 81) -> None:
    """Read the middle of a clip as `encode` does, with both decoders, in this process."""
    import decord
    import numpy as np

    def reader() -> list[Image]:
        clip = Clip(path, Limits(10**8, 10**6, 10**6))
        first = max(0, (len(clip.table.times) - count) // 2)
        wanted.extend(range(len(clip.table.times))[first : first + count])
        answers = clip.frames(wanted, None)
        return [np.array(data).reshape(*head["size"], 3) for head, (data,) in answers]

    def others() -> list[Image]:
        return list(decord.VideoReader(str(path), num_threads=1).get_batch(wanted).asnumpy())

    wanted: list[int] = []
    ours, short = timed(reader)
    theirs, long = timed(others)
    ends = [np.abs(ours[n].astype(int) - theirs[n]).mean() for n in (0, -1)]
    print(
        f"  {len(wanted)} frames in a row: reader {short.cpu:.2f} s CPU, decord {long.cpu:.2f}; "
        f"the pictures differ by {max(ends):.1f} levels at the ends"
    )


def main(settings: PrepareBenchmark) -> None:
    faces = face_analyzer(settings.faces)
    with tempfile.TemporaryDirectory() as folder:
        for clip in settings.clips:
            long = lengthen(clip, Path(folder) / f"{clip.stem}.mp4", settings.seconds)
            compare(long, faces)
            compare_in_a_row(long)


if __name__ == "__main__":
    main(tyro.cli(PrepareBenchmark))
