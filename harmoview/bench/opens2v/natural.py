"""`opens2v_natural`: how real a vision-language model finds 16 frames, 1 to 5, asked three times.

The server is any that speaks OpenAI's chat protocol; its name and model are in the provenance.
Every reply is kept as it came; one that is no number from 1 to 5 gives no score.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import cv2
import numpy as np

from datapipe.record import Image
from harmoview.bench.opens2v.weights import Endpoint

RUNS = 3
FRAMES = 16
LONG_SIDE = 512
"""Pixels of the pictures that are sent."""
TRIES = 5
WAITS = (2.0, 10.0)
"""Least and most seconds before another try."""
TIMEOUT = 120.0
"""Seconds for one reply."""
CLOSED = (401, 404)
"""HTTP statuses of a server that takes nobody's requests, with this key, model and address.

403 is not among them: services that moderate answer it to one video."""
_SCORE = re.compile(r"\s*([1-5])(?:\.0*)?\s*")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request."""

    score: int | None
    raw: str
    """The reply's text, or why there is none."""
    model: str = ""
    """What the server calls itself."""
    served: bool = True
    """Whether there is a server that takes requests: another video may fare better then."""


def rubric() -> str:
    """OpenS2V-Eval's instruction (Apache-2.0), word for word: the metric is what it asks."""
    text = files("harmoview.bench.opens2v").joinpath("natural.txt").read_text(encoding="utf-8")
    return f"\n{text}"


def rubric_sha256() -> str:
    return hashlib.sha256(rubric().encode()).hexdigest()


def frame_indices(total: int) -> list[int]:
    """Every total // 16-th frame from the first on; those after the sixteenth are never seen."""
    step = max(total // FRAMES, 1)
    return [k * step for k in range(FRAMES) if k * step < total]


def as_jpeg(image: Image) -> str:
    """Long side 512, JPEG, base64."""
    high, wide = image.shape[:2]
    if high >= wide:
        size = max(1, int(wide * LONG_SIDE / high)), LONG_SIDE
    else:
        size = LONG_SIDE, max(1, int(high * LONG_SIDE / wide))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]))
    return base64.b64encode(code.tobytes()).decode()


def ask(endpoint: Endpoint, images: Sequence[Image]) -> list[Reply]:
    """Three replies to the same request."""
    pictures = [as_jpeg(image) for image in images]
    body = json.dumps(request(endpoint.model, pictures)).encode()
    with ThreadPoolExecutor(min(RUNS, endpoint.workers)) as pool:
        return list(pool.map(lambda _: _one(endpoint, body), range(RUNS)))


def request(model: str, pictures: Sequence[str]) -> dict[str, Any]:
    """The body: the frames in order, then the rubric; no temperature, as OpenS2V-Eval sets none."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}}
        for picture in pictures
    ]
    content.append({"type": "text", "text": rubric()})
    return {"model": model, "stream": False, "messages": [{"role": "user", "content": content}]}


def parse(text: str) -> int | None:
    """The score in a reply; None where it is anything but one number from 1 to 5."""
    match = _SCORE.fullmatch(text)
    return int(match[1]) if match else None


def _one(endpoint: Endpoint, body: bytes) -> Reply:
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    why, served = "", True
    for number in range(TRIES):
        if number:
            time.sleep(min(WAITS[1], WAITS[0] * 2 ** (number - 1)))
        asked = urllib.request.Request(f"{endpoint.url}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT) as answer:
                return _reply(answer.read())
        except urllib.error.HTTPError as wrong:
            why = f"HTTP {wrong.code}: {wrong.read(2000).decode(errors='replace')}"
            served = wrong.code not in CLOSED
            if wrong.code < 500 and wrong.code != 429:  # asking again would not help
                break
        except (OSError, http.client.HTTPException) as wrong:
            why, served = f"{type(wrong).__name__}: {wrong}", False
    return Reply(None, why, served=served)


def _reply(data: bytes) -> Reply:
    text = data.decode(errors="replace")
    try:
        answer = json.loads(data)
        words = answer["choices"][0]["message"]["content"]
        model = str(answer.get("model", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Reply(None, text[:4000])
    if not isinstance(words, str):  # a refusal has none
        return Reply(None, text[:4000], model)
    return Reply(parse(words), words, model)
