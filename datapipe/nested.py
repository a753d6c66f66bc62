"""Nested settings as one flat table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def leaves(tree: Mapping[Any, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Every value that is no mapping, by the names on the way to it; empty mappings have none."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= leaves(value, separator, f"{prefix}{name}{separator}")
        else:
            found[f"{prefix}{name}"] = value
    return found
