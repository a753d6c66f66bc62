"""A sample's pictures: as JPEG bytes, and by the names they have in candidates and in shards.

OpenCV is imported where it is needed: whoever only counts or packs pictures does without.
"""

from __future__ import annotations

import re
from typing import cast

import numpy as np

from datapipe.record import Image

QUALITY = 95
"""JPEG quality of references and views; chroma is kept at full size."""
_VIEW = re.compile(r"id(\d+)\.yaw([+-]\d\d\d?)\.jpg")
_REFERENCE = re.compile(r"id(\d+)\.reference\.jpg")


def reference_name(identity: int) -> str:
    """The name of a reference after the sample's key: `id0.reference.jpg`."""
    return f"id{identity}.reference.jpg"


def view_name(identity: int, yaw: int) -> str:
    """The name of a view after the sample's key: `id0.yaw-90.jpg`, `id0.yaw+00.jpg`."""
    return f"id{identity}.yaw{yaw:+03d}.jpg"


def real_name(identity: int, yaw: int) -> str:
    """The name of a real view: `id0.real+60.jpg`, in candidates only."""
    return f"id{identity}.real{yaw:+03d}.jpg"


def track_name(identity: int) -> str:
    """The name of what was seen of an identity: `id0.track.npy`, in candidates only."""
    return f"id{identity}.track.npy"


def parse_name(name: str) -> tuple[int, int | None] | None:
    """The identity and the yaw that a name after the key tells; the yaw of a reference is None.

    None where it is the name of no picture.
    """
    if match := _VIEW.fullmatch(name):
        return int(match[1]), int(match[2])
    if match := _REFERENCE.fullmatch(name):
        return int(match[1]), None
    return None


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture as JPEG; the same picture gives the same bytes.

    Raises ValueError for an array that is no picture.
    """
    import cv2

    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded as JPEG")
    return code.tobytes()


def decode_jpeg(data: bytes) -> Image:
    """The RGB picture. Raises ValueError when the bytes are not a picture."""
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as wrong:  # of no bytes, or of a header that claims a huge picture
        raise ValueError("not a JPEG picture") from wrong
    if picture is None:
        raise ValueError("not a JPEG picture")
    return cast(Image, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
