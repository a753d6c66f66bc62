"""Windows against the truth: virtual people who come and go, and what encode takes of their films.

    python -m benchmarks.windows [--out FOLDER]

Beside the frames that encode takes stand those of the middle of each film, cut from the middle of
the picture, which it took before there were windows. Made faces are alike: people are told apart at
a cosine of 0.5 here, where Prepare's default for real ones is lower.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from datapipe.faces.light import LightFaces
from datapipe.pictures import encode_jpeg
from datapipe.prepare.people import iou
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.prepare.windows import TRACK, read_track
from datapipe.record import Sample, Source
from datapipe.stage import Resources
from datapipe.video.decoder import Decoder, VideoInfo
from harmoview.encode.packed import frame_indices
from harmoview.encode.settings import choose_bucket, default_buckets
from harmoview.encode.windows import Box, TrainWindow, best_bucket, crop_for, train_windows
from harmoview.recipes import A14B
from lora_engine.subjects.distinct import distinct_people
from lora_engine.subjects.film import Actor, Cast, Film, FilmShot
from lora_engine.subjects.gallery import Gallery

A, B, C = range(3)
FILMS: Mapping[str, tuple[FilmShot, ...]] = {
    "enters late": (FilmShot(12, (Actor(A, enters=4.2),)),),
    "leaves early": (FilmShot(12, (Actor(A, leaves=6.7),)),),
    "shots with others": (
        FilmShot(5, (Actor(A, 0.45),)),
        FilmShot(7, (Actor(B, 0.45),)),
        FilmShot(6, (Actor(A, 0.6, 0.8),)),
        FilmShot(3, (Actor(C),)),
        FilmShot(4),
    ),
    "at the side": (FilmShot(8, (Actor(A, 0.14, 0.7),)),),
    "two, one leaves": (FilmShot(14, (Actor(A, 0.3, 0.8), Actor(B, 0.72, 0.75, leaves=7.0))),),
    "cut away": (FilmShot(6, (Actor(A),)), FilmShot(4), FilmShot(5, (Actor(A, 0.35, 0.7),))),
    "fades": (
        FilmShot(6, (Actor(A),)),
        FilmShot(8, (Actor(B),), dissolve=1.0),
        FilmShot(7, (Actor(A, 0.55, 0.8),), dissolve=0.5),
    ),
    "a minute": tuple(
        FilmShot(7.5, (Actor(who, x, 0.8),))
        for who, x in zip((A, B, A, A, B, A, B, A), (0.5, 0.4, 0.3, 0.6, 0.5, 0.4, 0.6, 0.5),
                          strict=True)
    ),
}  # fmt: skip
DRAWN = "shots with others"
COLOURS = ((70, 160, 70), (60, 110, 200))
"""Of identities in a drawn film."""
BUCKETS = default_buckets(A14B, 16)
FPS = float(A14B.fps)


@dataclass(frozen=True)
class WindowsBenchmark:
    """Compare windows with the truth."""

    out: Path | None = None
    """Where the films are kept; there already, they are not made again."""
    height: int = 540
    """Of the films, pixels."""
    picture: Path | None = None
    """Where to draw a film with what was found in it, as JPEG."""


@dataclass
class Counts:
    """Frames of all identities of all films."""

    true: int = 0
    found: int = 0
    both: int = 0
    trained: int = 0
    shown: int = 0
    """Trained frames in which every named person's whole face is in the crop."""
    middle: int = 0
    middle_shown: int = 0
    """The same of the middle of the film."""
    clips: int = 0
    left_out: int = 0
    """Films without a window to train on."""


def main(settings: WindowsBenchmark) -> None:
    """Make the films, follow their people, compare."""
    prepare = Prepare(PrepareSettings(same_person=0.5), LightFaces(), resources=Resources(1.0))
    prepare.setup()
    total = Counts()
    with tempfile.TemporaryDirectory() as temporary:
        folder = settings.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, path, film in films(folder, settings.height):
            before = _cpu(prepare)
            sample = prepare(Sample("film", Source(str(path), ".mp4")))
            spent = _cpu(prepare) - before
            counts = compare(path, film, sample)
            minutes = len(film.visible) / film.fps / 60
            if settings.picture is not None and name == DRAWN:
                settings.picture.write_bytes(draw(path, film, sample))
            print(f"{name:18} {_line(counts)}  {spent / minutes:5.1f} CPU s a minute")
            for key, value in asdict(counts).items():
                setattr(total, key, getattr(total, key) + value)
    print(f"{'all':18} {_line(total)}")
    prepare.close()


def films(folder: Path, height: int) -> Iterator[tuple[str, Path, Film]]:
    """Every film, made where it is not there yet."""
    cast: Cast | None = None
    for number, (name, shots) in enumerate(FILMS.items()):
        path = folder / f"{name.replace(' ', '-').replace(',', '')}.npz"
        video = path.with_suffix(".mp4")
        size = round(height * 16 / 18) * 2, height
        if not path.exists():
            cast = cast or _cast()
            made = cast.film(shots, size, seed=number)
            video.write_bytes(made.video)
            np.savez(path, film=np.array([made], object))
        film: Film = np.load(path, allow_pickle=True)["film"][0]
        yield name, video, film


def _cast() -> Cast:
    faces = LightFaces()
    faces.setup()
    found = distinct_people(Gallery(), faces, 7, 0.42)
    return Cast([next(found) for _ in range(3)])


def compare(path: Path, film: Film, sample: Sample) -> Counts:
    """What was found against the film's truth."""
    counts, frames = Counts(clips=1), len(film.visible)
    people = [_who(film, one.reference.frame, one.reference.box) for one in sample.identities]
    for who, identity in zip(people, sample.identities, strict=True):
        true = {k for k, seen in enumerate(film.visible) if who in seen}
        found = {
            k for w in identity.windows for k in range(frames)
            if w.start - 1e-3 <= k / film.fps < w.end - 1e-3
        }  # fmt: skip
        counts.true += len(true)
        counts.found += len(found)
        counts.both += len(true & found)
    with Decoder() as decoder:
        info = decoder.probe(path)
    described = [{"windows": [asdict(w) for w in one.windows]} for one in sample.identities]
    spans = [w for w in train_windows(described) if best_bucket(BUCKETS, w, info, FPS)]
    counts.left_out += not spans
    for span in spans:
        chosen = best_bucket(BUCKETS, span, info, FPS)
        assert chosen is not None
        bucket, crop = chosen
        named = [people[place] for place in span.identities]
        indices = frame_indices(info, bucket.frames, FPS, span.frames(info))
        counts.trained += len(indices)
        counts.shown += sum(_shown(film, k, named, crop) for k in indices)
    trained, shown = _middle(film, info, people)
    counts.middle += trained
    counts.middle_shown += shown
    return counts


def _middle(film: Film, info: VideoInfo, people: list[int]) -> tuple[int, int]:
    """Frames of the middle cut, and those that show everyone who has references."""
    bucket = choose_bucket(BUCKETS, info.height, info.width, float(info.times[-1]), FPS)
    if bucket is None:
        return 0, 0
    centre = info.width / 2, info.height / 2
    whole = TrainWindow(0.0, info.seconds, (), (*centre, *centre), 0.0)
    crop = crop_for(whole, bucket, info)
    assert crop is not None
    indices = frame_indices(info, bucket.frames, FPS, (0, info.frames - 1))
    return len(indices), sum(_shown(film, k, people, crop) for k in indices)


def _shown(film: Film, frame: int, named: list[int], crop: Box) -> bool:
    """Whether each of them is visible, and as much of the face in the crop as in the picture."""
    return all(
        who in film.visible[frame] and _inside(film, film.boxes[frame][who], crop) for who in named
    )


def _inside(film: Film, face: Box, crop: Box) -> bool:
    return (
        max(0.0, face[0]) >= crop[0] - 1
        and face[1] >= crop[1] - 1
        and min(face[2], film.size[0]) <= crop[2] + 1
        and face[3] <= crop[3] + 1
    )


def draw(path: Path, film: Film, sample: Sample, count: int = 12, wide: int = 180) -> bytes:
    """Frames of a film, and under them for each identity its windows with the measured yaw."""
    high, band = round(wide * film.size[1] / film.size[0]), 60
    seconds, people = len(film.visible) / film.fps, sample.identities
    sheet = np.full((high + band * len(people), wide * count, 3), 245, np.uint8)
    with Decoder() as decoder:
        info = decoder.probe(path)
        wanted = [info.at((k + 0.5) * seconds / count) for k in range(count)]
        for place, frame in enumerate(decoder.frames(path, wanted, wide)):
            picture = np.array(frame.image)[:high, :wide]
            for identity, colour in zip(people, COLOURS, strict=False):
                for w in identity.windows:
                    if w.start <= frame.timestamp < w.end:
                        edges = [round(edge * wide / info.width) for edge in w.box]
                        cv2.rectangle(picture, edges[:2], edges[2:], colour, 2)
            sheet[: picture.shape[0], place * wide : place * wide + picture.shape[1]] = picture
    for row, (identity, colour) in enumerate(zip(people, COLOURS, strict=False)):
        top = high + row * band
        for w in identity.windows:
            left, right = (round(t / seconds * sheet.shape[1]) for t in (w.start, w.end))
            sheet[top + 4 : top + band - 4, left:right] = 255 - (255 - np.array(colour)) // 3
        track = read_track(identity.track)
        x = track[:, TRACK.index("time")] / seconds * sheet.shape[1]
        y = top + band / 2 - track[:, TRACK.index("yaw")] / 90 * (band / 2 - 4)
        for point in np.stack([x, y], axis=1).round().astype(int):
            cv2.circle(sheet, point.tolist(), 2, colour, -1)
    return encode_jpeg(sheet)


def _who(film: Film, frame: int, box: Box) -> int:
    boxes = film.boxes[frame]
    return max(boxes, key=lambda who: iou(boxes[who], box))


def _cpu(prepare: Prepare) -> float:
    """CPU seconds of this process and of the one that decodes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    spent = own.ru_utime + own.ru_stime
    if (pid := prepare.decoder_pid) is not None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / 100
    return spent


def _line(counts: Counts) -> str:
    """Recall and precision by time, and the shares of trained frames that show the people."""
    recall, precision = counts.both / counts.true, counts.both / max(1, counts.found)
    shares = [
        "none" if not all_ else f"{some / all_:6.1%} of {all_}"
        for some, all_ in ((counts.shown, counts.trained), (counts.middle_shown, counts.middle))
    ]
    return (
        f"recall {recall:.3f} precision {precision:.3f}; trained frames that show the people: "
        f"{shares[0]}, of the middle cut {shares[1]}"
    )


if __name__ == "__main__":
    main(tyro.cli(WindowsBenchmark))
