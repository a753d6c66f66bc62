"""Pictures to JPEG bytes and back."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from datapipe.record import Image

QUALITY = 95
"""JPEG quality of references and views; chroma is kept at full size."""


def encode_jpeg(image: Image) -> bytes:
    """An RGB picture as JPEG; the same picture gives the same bytes."""
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
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("not a JPEG picture")
    return cast(Image, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
