"""The frozen models that turn a sample into tensors: VAE, text encoder, vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel

from datapipe.errors import UserError
from harmoview.encode.packed import ClipReader
from harmoview.encode.settings import Bucket, EncodeSettings, default_buckets
from harmoview.load import check_base, load_frontal_encoder, pipeline_index
from harmoview.model.layout import ReferenceLayout
from harmoview.model.references import Views, encode_references, normalized_latents
from harmoview.model.weights import wan_config
from harmoview.recipes import Recipe, recipe_of

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class EncodedPictures:
    """The identities of one sample, encoded: I identities, V slots for views."""

    latents: Tensor
    """[I, V, C, h, w]; zeros in absent slots."""
    present: Tensor
    """[I, V], bool."""
    features: Tensor | None
    """[I, N, D], of the frontal references; None without a vision tower."""


class Encoder:
    """The models of one worker."""

    def __init__(self, settings: EncodeSettings, device: torch.device) -> None:
        """Loads the models. Raises UserError where one is missing or the buckets do not fit."""
        self.settings, self.device = settings, device
        recipe = base_recipe(settings.base)
        self.layout = ReferenceLayout()
        self._stored = DTYPES[settings.stored]
        compute = torch.bfloat16 if device.type == "cuda" else torch.float32
        # float32: the paths through Wan's VAE lose detail in bfloat16
        self._vae = AutoencoderKLWan.from_pretrained(
            settings.base, subfolder="vae", dtype=torch.float32
        ).to(device)
        buckets = self._checked_buckets(recipe)
        self.frames = ClipReader(buckets, settings.fps or recipe.fps, settings.enlarged)
        self._text = WanPipeline(
            tokenizer=AutoTokenizer.from_pretrained(settings.base, subfolder="tokenizer"),
            text_encoder=UMT5EncoderModel.from_pretrained(
                settings.base, subfolder="text_encoder", dtype=compute
            ).to(device),
            vae=self._vae,
            scheduler=None,
        )
        self._tower = None
        if settings.features:
            self._tower = load_frontal_encoder(
                settings.vit, settings.vit_layer, settings.vit_size, compute
            ).to(device)

    @property
    def tower(self) -> str | None:
        """The fingerprint of the vision tower; None without one."""
        return None if self._tower is None else str(self._tower.fingerprint)

    @torch.no_grad()
    def video(self, frames: NDArray[np.uint8]) -> Tensor:
        """Encode RGB frames [F, H, W, 3] as normalised latents [C, F', h, w], on the CPU."""
        pixels = torch.from_numpy(frames).to(self.device).permute(3, 0, 1, 2)
        latents = normalized_latents(self._vae, (pixels.float() / 127.5 - 1)[None])
        return latents[0].to("cpu", self._stored)

    @torch.no_grad()
    def pictures(self, identities: Sequence[Views]) -> EncodedPictures:
        """Encode references and views. Raises ValueError where they do not fit the slots."""
        size = self.settings.reference_size
        done = encode_references(self._vae, None, identities, self.layout, size, self.device)
        features = None
        if self._tower is not None:
            features = self._tower([views[0] for views in identities]).to("cpu", self._stored)
        latents = done.latents[0].to("cpu", self._stored)
        return EncodedPictures(latents, done.mask[0].cpu(), features)

    @torch.no_grad()
    def text(self, caption: str) -> Tensor:
        """Embed a caption with UMT5 as Wan's pipeline does, without the padding: [tokens, D]."""
        padded, _ = self._text.encode_prompt(
            caption,
            do_classifier_free_guidance=False,
            max_sequence_length=self.settings.text_length,
            device=self.device,
        )
        tokens = int(padded[0].any(dim=-1).nonzero().max()) + 1
        text: Tensor = padded[0, :tokens].to("cpu", self._stored).contiguous()
        return text

    def _checked_buckets(self, recipe: Recipe) -> tuple[Bucket, ...]:
        multiple = int(self._vae.config.scale_factor_spatial) * 2  # the transformer's patch
        named = tuple(map(Bucket.parse, self.settings.buckets))
        buckets = named or default_buckets(recipe, multiple)
        for bucket in buckets:
            if bucket.height % multiple or bucket.width % multiple:
                raise UserError(f"--buckets {bucket}: sides must be multiples of {multiple}")
        if self.settings.reference_size % multiple:
            raise UserError(f"--reference-size must be a multiple of {multiple} for this base")
        return buckets


def base_recipe(base: str) -> Recipe:
    """Return how the base's makers sample from it. Raises UserError where there is no base."""
    config = wan_config(base, "transformer")
    check_base(base)
    return recipe_of(config["in_channels"], len(expert_names(base)))


def expert_names(base: str) -> tuple[str, ...]:
    """List the base's transformers, the high-noise one first. Raises UserError without a base."""
    two = pipeline_index(base).get("boundary_ratio") is not None
    return ("transformer", "transformer_2") if two else ("transformer",)
