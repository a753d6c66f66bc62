"""The adapters of a training: one folder for each step, the best by validation marked.

Each has a model card: what it is, how stock diffusers calls it, how well it does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datapipe.files import Folder
from lora_engine.flux import prompts
from lora_engine.flux.adapter import FILE, AdapterHeader

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


FOLDER = "adapters"
BEST = "best"
"""Name of the link to the step whose validation has the highest score."""


class Adapters:
    """OUT/adapters: `step-N/` with all that synthesis needs, and the link `best`."""

    def __init__(self, out: Path, keep: int) -> None:
        """Takes the folder of a training and how many of the latest adapters stay in it."""
        self._out, self._folder, self._keep = out, out / FOLDER, keep

    def add(self, header: AdapterHeader, data: bytes) -> None:
        """Write the adapter of a step, and into OUT, as its latest; drop those of older steps.

        A step's folder has its adapter last, so one without is of a run that was killed.
        """
        figures = self._figures().get(header.steps)
        step = Folder(self._folder / _name(header.steps))
        step.put(prompts.FILE, (self._out / prompts.FILE).read_bytes())
        for folder in (step, Folder(self._out)):
            folder.put(CARD, card(header, figures).encode())
            folder.put(FILE, data)
        best = self.best()
        if best is not None:
            link = self._folder / f".{BEST}"
            link.unlink(missing_ok=True)
            link.symlink_to(_name(best))
            link.replace(self._folder / BEST)
        for old in self.steps()[: -self._keep]:
            if old != best:
                shutil.rmtree(self._folder / _name(old))

    def steps(self) -> list[int]:
        """Return the steps of which there is an adapter, in order."""
        return sorted(int(p.parent.name[5:]) for p in self._folder.glob(f"step-*/{FILE}"))

    def best(self) -> int | None:
        """Return the step, of those there are, with the highest score; None without validation.

        Of equal ones it is the first.
        """
        figures = self._figures()
        scores = {step: figures[step]["score"] for step in self.steps() if step in figures}
        return max(scores, key=lambda step: (scores[step], -step), default=None)

    def _figures(self) -> dict[int, dict[str, float]]:
        """Read what validation measured, by step."""
        files = (self._out / "validation").glob("[0-9]*.json")
        return {int(file.stem): json.loads(file.read_text()) for file in files}


def _name(step: int) -> str:
    return f"step-{step}"
