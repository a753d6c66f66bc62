"""Wan's own names of the weights, which ComfyUI and the makers' repositories use."""

from __future__ import annotations

import re

from harmoview.model.new_parts import NEW_PARTS

PREFIX = "harmoview."
"""Of the new parts in a file with Wan's names; Wan's own image embedder is something else."""
_WAN: tuple[tuple[str, str], ...] = (
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.norm([23])\.", r".norm<\1>."),  # diffusers has the two the other way round
    (r"<2>", "3"),
    (r"<3>", "2"),
)
"""Patterns of diffusers' names, and what stands there in Wan's, applied one after the other."""


def wan_name(name: str) -> str:
    """Return Wan's name of a weight with diffusers' name; a new part gets `PREFIX`."""
    if name in NEW_PARTS:
        return PREFIX + name
    for pattern, replacement in _WAN:
        name = re.sub(pattern, replacement, name)
    return name
