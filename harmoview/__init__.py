"""The HarmoView video model and its trainer; and the front door, what Python users import.

The names are imported when they are first asked for: torch takes seconds, Ray one more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataset.run import Run
    from filters.rules import Rules
    from harmoview.load import load_pipeline
    from harmoview.model.transformer import HarmoViewTransformer3DModel
    from harmoview.pipeline import HarmoViewPipeline
    from jobs.synthesize import synthesize

__version__ = "0.1.0"
__all__ = [
    "HarmoViewPipeline",
    "HarmoViewTransformer3DModel",
    "Rules",
    "Run",
    "__version__",
    "load_pipeline",
    "synthesize",
]
_HOMES = {
    "HarmoViewPipeline": "harmoview.pipeline",
    "HarmoViewTransformer3DModel": "harmoview.model.transformer",
    "Rules": "filters.rules",
    "Run": "dataset.run",
    "load_pipeline": "harmoview.load",
    "synthesize": "jobs.synthesize",
}
"""The module that each name comes from."""


def __getattr__(name: str) -> Any:
    """Import a name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harmoview' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The names are found by completion before they are imported."""
    return __all__
