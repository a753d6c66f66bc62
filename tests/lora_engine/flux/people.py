"""Synthetic people: a coloured head whose nose shows the yaw; cheap, and exactly mirrorable."""

import numpy as np

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import YAWS
from lora_engine.pairs import Subject, SubjectFrame, write_pairs


def picture(colour, yaw, side=64):
    """A head of that colour; the nose sits at sin(yaw) of its radius, yaw > 0 to the right."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1) * 2 - 1
    image = np.full((side, side, 3), 230.0)
    image[x**2 + y**2 < 0.64] = colour
    nose = (x - 0.75 * np.sin(np.radians(yaw))) ** 2 + (y - 0.1) ** 2 < 0.05
    image[nose] = (255, 40, 40)
    return image.astype(np.uint8)


def subject(key, colour, yaws=YAWS):
    frames = [SubjectFrame(yaw, encode_jpeg(picture(colour, yaw)), float(yaw), 0.1) for yaw in yaws]
    return Subject(key, f"{key}.mp4", tuple(frames))


COLOURS = [(200, 160, 120), (90, 60, 40), (150, 110, 90), (120, 140, 80)]


def save_pairs(folder, train=3, validation=1, yaws=YAWS, side=64):
    """Write pairs of so many people; their colours differ. `side` is what the manifest says."""
    people = [(f"person{i}", COLOURS[i % len(COLOURS)]) for i in range(train + validation)]
    splits = ["train"] * train + ["validation"] * validation
    subjects = [
        (split, subject(key, colour, yaws))
        for split, (key, colour) in zip(splits, people, strict=True)
    ]
    write_pairs(Folder(folder), subjects, yaws, {"side": side})
    return folder
