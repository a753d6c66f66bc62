"""HarmoView's pipeline: a prompt and one or two identities in, a video out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor

from harmoview.model.injection import FrontalEncoder
from harmoview.model.reference_kv import ReferenceCache
from harmoview.model.references import References, Views, encode_references
from harmoview.model.transformer import HarmoViewTransformer3DModel


@dataclass(frozen=True, slots=True)
class Guidance:
    """Scales of three-way guidance: neg + references (ref - neg) + text (full - ref).

    The pass neg has neither references nor prompt, ref has the references, full has both. A pass
    without references has a proxy in every slot and no image tokens, which keeps the layout.
    """

    text: float
    references: float

    def weights(self) -> dict[str, float]:
        """Return the factor of each pass, without those that are 0, which need not run.

        Equal scales give guidance against neg in two passes, as in Wan.
        """
        factors = {
            "neg": 1 - self.references,
            "ref": self.references - self.text,
            "full": self.text,
        }
        return {name: factor for name, factor in factors.items() if factor != 0}


class HarmoViewPipeline(WanPipeline):  # type: ignore[misc]
    """Wan's pipeline with references; called without them, it is Wan's.

    Offloading, VAE tiling and LoRA loading are inherited. A model with MFI encodes pictures with
    `frontal_encoder`, which is not a component of the pipeline, because references that are given
    as `References` do not need it. One of two experts may be plain Wan, which sees no references.
    """

    frontal_encoder: FrontalEncoder | None = None

    @property
    def model(self) -> HarmoViewTransformer3DModel:
        """The transformer that takes references; the high-noise one where both do."""
        plain = not isinstance(self.transformer, HarmoViewTransformer3DModel)
        found: HarmoViewTransformer3DModel = self.transformer_2 if plain else self.transformer
        return found

    @property
    def _text_length(self) -> int:
        """Tokens to which prompts are padded; Wan's 512 where no model says otherwise."""
        lengths = (one.config.get("text_length") for one in (self.transformer, self.transformer_2)
                   if one is not None)  # fmt: skip
        return next((length for length in lengths if length is not None), 512)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        guidance_scale_2: float | None = None,
        *,
        references: References | Sequence[Views] | None = None,
        reference_scale: float | None = None,
        reference_kv: bool | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., dict[str, Tensor]] | None = None,
        max_sequence_length: int | None = None,
        **others: Any,
    ) -> Any:
        """Generate videos as `WanPipeline` does, of the people in `references`.

        `references` are the identities' pictures by yaw, or their encoded form. `guidance_scale` is
        the scale of the text, `guidance_scale_2` that for the low-noise expert; `reference_scale`
        is equal to them unless it is given, which saves a pass; `reference_kv` sends the references
        through the model once a video, by default where it was trained for that;
        `max_sequence_length` is by default that of the model's training. Raises ValueError where
        sizes or references do not fit the model, it was not trained for `reference_kv`, or an
        argument of `WanPipeline` is not available together with references.
        """
        if references is None:
            return super().__call__(
                prompt, negative_prompt, height, width, num_frames, num_inference_steps,
                guidance_scale, guidance_scale_2, generator=generator, latents=latents,
                prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds,
                output_type=output_type, return_dict=return_dict,
                attention_kwargs=attention_kwargs, callback_on_step_end=callback_on_step_end,
                max_sequence_length=max_sequence_length or self._text_length, **others,
            )  # fmt: skip
        if others:
            raise ValueError(f"not available together with references: {', '.join(others)}")
        self.check_inputs(
            prompt, negative_prompt, height, width, prompt_embeds, negative_prompt_embeds,
            guidance_scale_2=guidance_scale_2,
        )  # fmt: skip
        self.check_size(height, width, num_frames)
        keep = self._keeps_references(reference_kv)
        self._guidance_scale, self._attention_kwargs = guidance_scale, attention_kwargs
        self._interrupt = False
        if not isinstance(references, References):
            references = self.encode_references(references)
        text, null_text = self.encode_prompt(
            prompt, negative_prompt, True, 1, prompt_embeds, negative_prompt_embeds,
            max_sequence_length or self._text_length, self._execution_device,
        )  # fmt: skip
        latents = self.prepare_latents(
            len(text), self.model.config.in_channels, height, width, num_frames, torch.float32,
            self._execution_device, generator, latents,
        )  # fmt: skip
        low = guidance_scale if guidance_scale_2 is None else guidance_scale_2
        latents = self._denoise(
            latents,
            self._conditions(text, null_text, references.repeat(len(text))),
            [
                Guidance(scale, scale if reference_scale is None else reference_scale)
                for scale in (guidance_scale, low)
            ],
            num_inference_steps,
            keep,
            callback_on_step_end,
        )
        video = latents if output_type == "latent" else self._decode(latents, output_type)
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=video) if return_dict else (video,)

    def _keeps_references(self, asked: bool | None) -> bool:
        """Whether references go through the model once. Raises ValueError where it cannot be."""
        able = self.model.config.reference_attention == "references"
        if asked and not able:
            raise ValueError(
                "the model was not trained for reference_kv: its references attend to the video"
            )
        return able if asked is None else asked

    def _conditions(
        self, text: Tensor, null_text: Tensor, given: References
    ) -> dict[str, tuple[Tensor, dict[str, Any]]]:
        """Return what each pass of the guidance is given: its prompt, its references."""
        device, dtype = self._execution_device, self.model.dtype
        return {
            name: (words.to(device, dtype), shown.inputs(dtype, device))
            for name, words, shown in (
                ("neg", null_text, given.absent()),
                ("ref", null_text, given),
                ("full", text, given),
            )
        }

    def encode_references(self, identities: Sequence[Views]) -> References:
        """Encode the pictures of one sample's identities, once for any number of calls.

        Raises ValueError where they do not fit the model, or MFI has no `frontal_encoder`.
        """
        model = self.model
        if model.config.vit_dim is not None and self.frontal_encoder is None:
            raise ValueError("the model has MFI: set frontal_encoder, or give encoded References")
        encoder = None if model.config.vit_dim is None else self.frontal_encoder
        return encode_references(
            self.vae,
            encoder,
            identities,
            model.layout,
            model.config.reference_size,
            self._execution_device,
        )

    def check_size(self, height: int, width: int, frames: int) -> None:
        """Check a size. Raises ValueError where it does not divide into latents and patches."""
        step = self.vae_scale_factor_spatial * self.model.config.patch_size[1]
        if height % step or width % step:
            raise ValueError(f"height and width must be multiples of {step}: {height}, {width}")
        if frames % self.vae_scale_factor_temporal != 1:
            raise ValueError(
                f"frames must be 1 more than a multiple of {self.vae_scale_factor_temporal}, "
                f"got {frames}"
            )

    def set_shift(self, shift: float) -> None:
        """Set the shift of the noise levels, whatever the folder of the base says."""
        old: Any = self.scheduler  # type: ignore[has-type]
        name = "flow_shift" if "flow_shift" in old.config else "shift"
        self.scheduler = type(old).from_config(old.config, **{name: shift})

    def _denoise(
        self,
        latents: Tensor,
        conditions: dict[str, tuple[Tensor, dict[str, Any]]],
        scales: Sequence[Guidance],
        steps: int,
        keep: bool,
        callback: Callable[..., dict[str, Tensor]] | None,
    ) -> Tensor:
        self.scheduler.set_timesteps(steps, device=latents.device)
        self.scheduler.set_begin_index(0)
        self._num_timesteps = len(self.scheduler.timesteps)  # callbacks may ask for it
        boundary = (self.config.boundary_ratio or 0) * self.scheduler.config.num_train_timesteps
        caches: dict[str, ReferenceCache] = {}
        last = None
        with self.progress_bar(total=steps) as progress:
            for index, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    break
                self._current_timestep = t
                high = bool(t >= boundary)
                model, scale = (
                    (self.transformer, scales[0]) if high else (self.transformer_2, scales[1])
                )
                if model is not last:  # what one expert keeps is of no use to the other
                    caches = {name: ReferenceCache() for name in conditions} if keep else {}
                    last = model
                prediction = self._velocity(model, latents, t, conditions, scale, caches)
                latents = self.scheduler.step(prediction, t, latents, return_dict=False)[0]
                if callback is not None:
                    latents = callback(self, index, t, {"latents": latents}).get("latents", latents)
                progress.update()
        self._current_timestep = None
        return latents

    def _velocity(
        self,
        model: Any,
        latents: Tensor,
        t: Tensor,
        conditions: Mapping[str, tuple[Tensor, dict[str, Any]]],
        scale: Guidance,
        caches: Mapping[str, ReferenceCache],
    ) -> Tensor:
        """Return the guided prediction of one step, in float32."""
        looks = isinstance(model, HarmoViewTransformer3DModel)
        if not looks:  # neg and ref are the same to it
            scale = Guidance(scale.text, scale.text)
        prediction = torch.zeros_like(latents)
        for name, factor in scale.weights().items():
            words, references = conditions[name]
            apart = looks and model.config.reference_attention == "references"
            kept = {"reference_cache": caches.get(name)} if apart else {}
            shown = {**references, **kept} if looks else {}
            with model.cache_context(name):
                (velocity,) = model(
                    hidden_states=latents.to(model.dtype),
                    # one time a sample: TI2V-5B has one for each token, all the same here
                    timestep=t.expand(len(latents)),
                    encoder_hidden_states=words,
                    attention_kwargs=self._attention_kwargs,
                    return_dict=False,
                    **shown,
                )
            prediction = prediction + factor * velocity.float()
        return prediction

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        config = self.vae.config
        mean, std = (
            torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        video = self.vae.decode((latents * std + mean).to(self.vae.dtype), return_dict=False)[0]
        return self.video_processor.postprocess_video(video, output_type=output_type)
