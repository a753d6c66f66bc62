"""The model card beside an adapter: what it is, how stock diffusers calls it, how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_engine.flux.adapter import AdapterHeader

CARD = "README.md"
KONTEXT = "FLUX.1-Kontext-dev"
"""The base whose licence is known here."""


def card(header: AdapterHeader, figures: Mapping[str, Any] | None) -> str:
    """Write the card of an adapter; `figures` are those of its validation, if there was one."""
    about = ["library_name: diffusers", "pipeline_tag: image-to-image"]
    about.append("tags: [lora, flux, kontext, head-pose]")
    if "/" in header.base:
        about.append(f"base_model: {header.base}")
    if KONTEXT in header.base:
        about += ["license: other", "license_name: flux-1-dev-non-commercial-license"]
    parts = [
        "\n".join(["---", *about, "---"]),
        f"# Views of a portrait at {len(header.yaws)} yaws\n\nA LoRA of {header.base} that turns a "
        "frontal portrait to a given yaw; yaw is positive when the nose points to image right.",
        _use(header),
        "| yaw | prompt |\n|---|---|\n"
        + "\n".join(
            f"| {yaw:+d} | {text} |" for yaw, text in zip(header.yaws, header.prompts, strict=True)
        ),
        _training(header),
        *([] if figures is None else [_validation(figures)]),
    ]
    return "\n\n".join(parts) + "\n"


def _use(header: AdapterHeader) -> str:
    if header.reference_mode == "two-pass":
        return (
            "It was trained with a two-pass reference and works with `harmoview views` only, not "
            "in the stock pipeline."
        )
    side = header.resolution[0]
    return f"""```python
pipe = FluxKontextPipeline.from_pretrained("{header.base}", torch_dtype=torch.bfloat16).to("cuda")
pipe.load_lora_weights(FOLDER)
view = pipe(
    image=portrait, prompt=PROMPT, guidance_scale=2.5, max_sequence_length={header.text_length},
    height={side}, width={side}, max_area={side * side}, _auto_resize=False,
).images[0]
```"""


def _training(header: AdapterHeader) -> str:
    rows = {
        "steps": header.steps,
        "resolution": ", ".join(map(str, header.resolution)),
        "rank": header.rank,
        "alpha (folded into the weights)": f"{header.alpha:g}",
        "T5 tokens": header.text_length,
        "seed": header.seed,
        "reference": header.reference_mode,
        "pairs, SHA-256": header.data,
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"| training | |\n|---|---|\n{lines}"


def _validation(figures: Mapping[str, Any]) -> str:
    """Tabulate the figures of people who were not trained on."""
    rows = {"all": figures, **figures["per_yaw"]}
    columns = ("yaw_mae", "identity_cosine", "measured", "score")
    lines = [
        f"| {yaw} | "
        + " | ".join("" if row[name] is None else f"{row[name]:.2f}" for name in columns)
        + " |"
        for yaw, row in rows.items()
    ]
    head = "| yaw | yaw error, degrees | identity cosine | with a face | score |"
    table = "\n".join([head, "|---|---|---|---|---|", *lines])
    return f"People who were not trained on:\n\n{table}"
