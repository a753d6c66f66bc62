"""How the makers of each Wan base sample from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the makers of a base sample from it."""

    name: str
    height: int
    width: int
    frames: int
    fps: int
    steps: int
    shift: float
    """Shift of the noise schedule. The copy of A14B for diffusers says 3; the makers say 12."""
    guidance: float
    guidance_low: float | None = None
    """Guidance of the low-noise expert, where there are two experts."""


A14B = Recipe("Wan2.2-T2V-A14B", 480, 832, 81, 16, 40, 12.0, 4.0, 3.0)
TI2V_5B = Recipe("Wan2.2-TI2V-5B", 704, 1280, 121, 24, 50, 5.0, 5.0)
T2V_1_3B = Recipe("Wan2.1-T2V-1.3B", 480, 832, 81, 16, 50, 8.0, 6.0)
"""The three are from `wan/configs` and the README of the repositories of Wan2.2 and Wan2.1."""


def recipe_of(channels: int, experts: int) -> Recipe:
    """Return the recipe of the base with that many latent channels and transformers."""
    if experts == 2:
        return A14B
    return TI2V_5B if channels == 48 else T2V_1_3B


NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, "
    "images, static, overall gray, worst quality, low quality, JPEG compression residue, ugly, "
    "incomplete, extra fingers, poorly drawn hands, poorly drawn faces, deformed, disfigured, "
    "misshapen limbs, fused fingers, still picture, messy background, three legs, many people in "
    "the background, walking backwards"
)
"""The negative prompt of Wan's repositories, as diffusers translates it."""
