"""Ordinary photos become portraits as the training's references are, or a sentence says why not."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from datapipe.errors import UserError
from datapipe.models import model_path
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.prepare.frontal import FACE_SHARE
from harmoview import photos

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def person():
    """A real photograph."""
    file = sorted(Path(model_path("portraits")).rglob("studio_portrait.jpg"))[0]
    return decode_jpeg(file.read_bytes())


def small(person, side=240):
    return cv2.resize(person, (side, side), interpolation=cv2.INTER_AREA)


def scene(*people):
    """People on a wall, each at its place from the left, in a wide photo."""
    wall = np.full((700, 1200, 3), 150, np.uint8)
    for place, one in people:
        wall[200 : 200 + len(one), place : place + one.shape[1]] = one
    return encode_jpeg(wall)


def share(portrait):
    """The face's side over the picture's."""
    return photos._find(portrait)[0].size / len(portrait)


@pytest.mark.parametrize("factor", [1, 4])
def test_the_face_takes_as_much_of_the_square_as_in_training(person, factor):
    """In a small photo and in that of a phone; a portrait that was cut stays as it is."""
    photo = decode_jpeg(scene((300, small(person))))
    photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    cut = photos.portrait(encode_jpeg(photo), "me.jpg")
    picture = decode_jpeg(cut)
    assert photos.is_square(picture)
    assert len(picture) <= photos.SIDE
    assert share(picture) == pytest.approx(FACE_SHARE, rel=0.1)
    assert photos.portrait(cut, "me.jpg") == cut


def test_a_face_that_fills_the_photo_is_found(person):
    """The detector alone misses it; the square is then as large as the photo allows."""
    left, top, right, bottom = (round(edge) for edge in photos._find(person)[0].box)
    tight = cv2.resize(person[top:bottom, left:right], None, fx=8, fy=8)
    cut = decode_jpeg(photos.portrait(encode_jpeg(tight), "me.jpg"))
    assert cut.shape == (photos.SIDE, photos.SIDE, 3)


def test_a_passer_by_does_not_count_and_a_second_person_does(person):
    """The square leaves the small face out; two faces of a size are refused."""
    far, near = small(person, 60), small(person)
    cut = decode_jpeg(photos.portrait(scene((300, near), (900, far)), "me.jpg"))
    assert len(photos._find(cut)) == 1
    with pytest.raises(UserError, match=r"us\.jpg shows 2 people"):
        photos.portrait(scene((200, near), (700, near)), "us.jpg")


def test_any_form_of_picture_is_a_photo(person):
    """Grey, with alpha, of 16 bits, and turned by a mark that says which side is up."""
    photo = decode_jpeg(scene((300, small(person))))[..., ::-1]
    for one in (cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), cv2.cvtColor(photo, cv2.COLOR_BGR2BGRA),
                photo.astype(np.uint16) * 257):  # fmt: skip
        data = cv2.imencode(".png", one)[1].tobytes()
        assert share(decode_jpeg(photos.portrait(data, "me.png"))) == pytest.approx(0.4, rel=0.1)
    marked = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[274] = 6  # lies on its left side
    lying = PIL.Image.fromarray(np.rot90(photo[..., ::-1]).copy())
    lying.save(marked, "JPEG", exif=exif, quality=95)
    cut = decode_jpeg(photos.portrait(marked.getvalue(), "me.jpg"))
    assert share(cut) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (encode_jpeg(np.full((300, 400, 3), 200, np.uint8)), "no face in it"),
        (b"not a picture", "it is not a picture"),
        (b"", "it is not a picture"),
    ],
)
def test_what_is_no_photo_of_a_person_is_a_sentence(data, says):
    """Without a face, or without a picture, a video for example."""
    with pytest.raises(UserError, match=says):
        photos.portrait(data, "it")
