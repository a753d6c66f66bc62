"""A corpus of more people than were rendered: each clip again in other colours."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from lora_engine.subjects.clip import encode


def graded(clips: Path, out: Path, gradings: int) -> int:
    """Write every clip of a folder in that many colour gradings, as videos; how many there are.

    The first grading leaves the clip as it is. The others exchange, weaken and lift its channels:
    skin, hair, clothes and background become those of another person in another place, which is
    what a tiny model tells people by, for the cost of an encoding.
    """
    out.mkdir()
    for number, path in enumerate(sorted(clips.glob("*.mp4"))):
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            rate, size = round(stream.average_rate), (stream.width, stream.height)
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        for grading in range(gradings):
            rng = np.random.default_rng([number, grading])
            gains = np.eye(3)[rng.permutation(3)] * rng.uniform(0.5, 1.2, 3)
            offset = rng.uniform(-20, 50, 3)
            if grading == 0:
                gains, offset = np.eye(3), np.zeros(3)
            pictures = (
                np.clip(np.rint(frame.astype(np.float32) @ gains + offset), 0, 255)
                for frame in frames
            )
            name = f"{path.stem}-{grading}"
            (out / f"{name}.mp4").write_bytes(
                encode((picture.astype(np.uint8) for picture in pictures), size, rate)
            )
            (out / f"{name}.txt").write_bytes(path.with_suffix(".txt").read_bytes())
    return len(list(out.glob("*.mp4")))
