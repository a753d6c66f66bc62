"""`harmoview generate`: a prompt and one or two identities in, an mp4 and its settings out."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datapipe.errors import UserError, check_range
from jobs.cli import command

if TYPE_CHECKING:
    from harmoview.load import Loaded


@dataclass(frozen=True)
class GenerateSettings:
    """Make a video of one or two people from pictures of them and a prompt.

    What is left at None follows the makers of the base; the numbers used are in the JSON beside
    the video.
    """

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    checkpoint: Path
    """What `harmoview train` exported: transformer/, and transformer_2/ for A14B."""
    prompt: str
    """What happens in the video."""
    identity: tuple[str, ...]
    """For each person a folder with reference.jpg and any of yaw-90.jpg … yaw+90.jpg, a frontal
    picture, or SHARDS::KEY (SHARDS::KEY.id1 for the second person) of packed shards."""
    out: Path = Path("video.mp4")
    """The video; the settings go beside it, as .json."""
    vit: str = "none"
    """The Qwen2.5-VL vision tower, a folder or a hub name; none for a model without MFI."""
    lora: tuple[str, ...] = ()
    """More Wan LoRA files, for the (high-noise) transformer; what was trained stays in use."""
    lora_low: tuple[str, ...] = ()
    """The same for the low-noise expert of A14B."""
    negative_prompt: str | None = None
    """What to avoid in the video; None is Wan's own."""
    height: int | None = None
    """Pixels, a multiple of 16 (of 32 for TI2V-5B). None: 480; 704 for TI2V-5B."""
    width: int | None = None
    """Pixels, a multiple as for the height. None: 832; 1280 for TI2V-5B."""
    frames: int | None = None
    """Frames of the video, 1 more than a multiple of 4. None: 81; 121 for TI2V-5B."""
    fps: int | None = None
    """Frames a second of the file. None: 16; 24 for TI2V-5B."""
    steps: int | None = None
    """Denoising steps. None: 40 for A14B, else 50."""
    guidance: float | None = None
    """Guidance scale of the text; for the high-noise expert where there are two. None: 4 for A14B,
    5 for TI2V-5B, 6 for 1.3B."""
    guidance_low: float | None = None
    """Guidance scale of the text for the low-noise expert of A14B. None: 3."""
    reference_scale: float | None = None
    """Guidance scale of the references; None is the text's, which saves a third of the time."""
    shift: float | None = None
    """Shift of the noise levels. None: 12 for A14B, 5 for TI2V-5B, 8 for 1.3B."""
    seed: int = 0
    """Seed of the noise; the same seed gives the same video on the same machine."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto is the GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of transformer, text encoder and vision tower; the VAE works in float32."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep on the GPU only the model in use, or only the layer in use."""
    tiling: bool = False
    """Decode the video in tiles, for less memory."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".mp4":
            raise ValueError(f"--out must end in .mp4, not {self.out}")
        if not 1 <= len(self.identity) <= 2:
            raise ValueError(f"--identity takes one or two, not {len(self.identity)}")
        check_range(self, "height", "width", "frames", "fps", "steps", least=1)


def execute(settings: GenerateSettings) -> None:
    """Check, load, generate, write."""
    from harmoview.identity import decode, read_identity
    from harmoview.load import check_base, load_pipeline

    if settings.quiet:
        _show_no_bars()
    check_base(settings.base)
    files = [read_identity(source) for source in settings.identity]
    views = [decode(one, source) for one, source in zip(files, settings.identity, strict=True)]
    device = _device(settings)
    import torch

    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    vit = None if settings.vit == "none" else settings.vit
    loaded = load_pipeline(settings.base, settings.checkpoint, vit, dtype)
    for name in loaded.untrained:
        print(
            f"{settings.checkpoint} has no {name}: the base's own stands in, which does not look "
            "at the references",
            file=sys.stderr,
        )
    used = _resolve(settings, loaded)
    _check(settings, loaded, views, used)
    _place(loaded, settings, device, used["shift"])
    result = loaded.pipeline(
        prompt=settings.prompt,
        negative_prompt=used["negative_prompt"],
        height=used["height"],
        width=used["width"],
        num_frames=used["frames"],
        num_inference_steps=used["steps"],
        guidance_scale=used["guidance"],
        guidance_scale_2=used["guidance_low"],
        reference_scale=used["reference_scale"],
        references=views,
        generator=torch.Generator("cpu").manual_seed(settings.seed),
    )
    _write(settings, used, files, result.frames[0])
    if not settings.quiet:
        print(f"{settings.out} ({used['frames']} frames, seed {settings.seed})")


def _show_no_bars() -> None:
    """Of the libraries that load the models."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()


def _device(settings: GenerateSettings) -> str:
    """Raises UserError where the GPU that is asked for is not there, or not used."""
    import torch

    cuda = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else ("cuda" if cuda else "cpu")
    if device == "cuda" and not cuda:
        raise UserError("--device cuda: torch sees no GPU here")
    if device == "cpu" and settings.offload != "none":
        raise UserError(f"--offload {settings.offload} needs a GPU to offload from")
    return device


def _resolve(settings: GenerateSettings, loaded: Loaded) -> dict[str, Any]:
    """The numbers to use: where a setting is None, the base's own."""
    from harmoview.recipes import NEGATIVE_PROMPT

    recipe = asdict(loaded.recipe)
    used = {
        name: recipe[name] if (own := getattr(settings, name)) is None else own
        for name in ("height", "width", "frames", "fps", "steps", "guidance", "shift")
    }
    low = settings.guidance_low if settings.guidance_low is not None else recipe["guidance_low"]
    own_negative = settings.negative_prompt
    return {
        "recipe": recipe["name"],
        **used,
        "guidance_low": low,
        "reference_scale": settings.reference_scale,
        "negative_prompt": NEGATIVE_PROMPT if own_negative is None else own_negative,
    }


def _check(
    settings: GenerateSettings, loaded: Loaded, views: list[Any], used: dict[str, Any]
) -> None:
    """Raises UserError where the base cannot do what is asked."""
    from harmoview.model.references import check_identities

    pipeline = loaded.pipeline
    if used["guidance_low"] is not None and pipeline.config.boundary_ratio is None:
        raise UserError("--guidance-low: this base has no low-noise expert")
    if settings.lora_low and pipeline.config.boundary_ratio is None:
        raise UserError("--lora-low: this base has no low-noise expert")
    try:
        check_identities(views, pipeline.model.layout)
        pipeline.check_size(used["height"], used["width"], used["frames"])
    except ValueError as wrong:
        raise UserError(str(wrong)) from wrong


def _place(loaded: Loaded, settings: GenerateSettings, device: str, shift: float) -> None:
    """Put the models where they are to run, with what goes on top of them."""
    import torch

    from harmoview.attention import use_best_attention
    from harmoview.load import add_loras

    pipeline = loaded.pipeline
    for model in filter(None, (pipeline.transformer, pipeline.transformer_2)):
        use_best_attention(model, torch.device(device), model.dtype)
    pipeline.set_shift(shift)
    pipeline.set_progress_bar_config(disable=settings.quiet)
    add_loras(pipeline, "transformer", settings.lora)
    add_loras(pipeline, "transformer_2", settings.lora_low)
    if settings.tiling:
        pipeline.vae.enable_tiling()
    if settings.offload == "model":
        pipeline.enable_model_cpu_offload()
    elif settings.offload == "sequential":
        pipeline.enable_sequential_cpu_offload()
    else:
        pipeline.to(device)


def _write(
    settings: GenerateSettings, used: dict[str, Any], files: list[dict[int, bytes]], frames: Any
) -> None:
    """Write the video, and beside it what it was made from."""
    import hashlib
    import json

    import numpy as np

    from datapipe.files import Folder
    from datapipe.run.info import library_versions
    from harmoview.media import write_mp4

    write_mp4(settings.out, np.asarray(np.rint(frames * 255), dtype=np.uint8), used["fps"])
    pictures = [
        {str(yaw): hashlib.sha256(data).hexdigest() for yaw, data in sorted(one.items())}
        for one in files
    ]
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()}
    versions = library_versions(("diffusers", "torch", "transformers"))
    record = {**asked, **used, "pictures": pictures, "versions": versions}
    beside = settings.out.with_suffix(".json")
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    Folder(beside.parent).put(beside.name, text.encode())


main = command(__name__, GenerateSettings, execute)
