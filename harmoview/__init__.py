"""The HarmoView video model and its trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmoview.model.transformer import HarmoViewTransformer3DModel
    from harmoview.pipeline import HarmoViewPipeline

__version__ = "0.1.0"
__all__ = ["HarmoViewPipeline", "HarmoViewTransformer3DModel", "__version__"]


def __getattr__(name: str) -> Any:
    """Import one of the two public classes when it is first asked for: torch takes seconds."""
    if name == "HarmoViewTransformer3DModel":
        from harmoview.model.transformer import HarmoViewTransformer3DModel

        return HarmoViewTransformer3DModel
    if name == "HarmoViewPipeline":
        from harmoview.pipeline import HarmoViewPipeline

        return HarmoViewPipeline
    raise AttributeError(f"module 'harmoview' has no attribute {name!r}")
