"""How pictures of a sample are named, in candidates and in shards alike."""

from __future__ import annotations

import re

_VIEW = re.compile(r"id(\d+)\.yaw([+-]\d\d\d?)\.jpg")
_REFERENCE = re.compile(r"id(\d+)\.reference\.jpg")


def reference_name(identity: int) -> str:
    """The part after the key: `id0.reference.jpg`."""
    return f"id{identity}.reference.jpg"


def view_name(identity: int, yaw: int) -> str:
    """The part after the key: `id0.yaw-90.jpg`, `id0.yaw+00.jpg`."""
    return f"id{identity}.yaw{yaw:+03d}.jpg"


def parse_name(name: str) -> tuple[int, int | None] | None:
    """(identity, yaw) of a picture's name without its key, yaw None for a reference; else None."""
    if match := _VIEW.fullmatch(name):
        return int(match[1]), int(match[2])
    if match := _REFERENCE.fullmatch(name):
        return int(match[1]), None
    return None
