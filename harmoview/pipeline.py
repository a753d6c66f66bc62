"""HarmoView's pipeline: a prompt and one or two identities in, a video out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor
from torch.distributed import ProcessGroup

from harmoview.attention import use_best_attention
from harmoview.guidance import Guidance, guided
from harmoview.model.context_parallel import GROUPS, share_sequences, sharers
from harmoview.model.injection import FrontalEncoder
from harmoview.model.reference_kv import ReferenceCache
from harmoview.model.references import References, Views, encode_references
from harmoview.model.transformer import HarmoViewTransformer3DModel
from training.parallel import processes

EXPERTS = ("transformer", "transformer_2")
"""Names of the components that denoise: the only model or the high-noise one, the low-noise one."""


class HarmoViewPipeline(WanPipeline):  # type: ignore[misc]
    """Wan's pipeline with references; called without them, it is Wan's.

    Offloading, VAE tiling and LoRA loading are inherited. A model with MFI encodes pictures with
    `frontal_encoder`, which is not a component of the pipeline, because references that are given
    as `References` do not need it. One of two experts may be plain Wan, which sees no references.
    """

    frontal_encoder: FrontalEncoder | None = None
    guidance_groups: Mapping[str, ProcessGroup] = MappingProxyType({})
    """For experts whose passes of guidance are shared out, the processes that have one each."""

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
        """Check a size. Raises ValueError where it does not divide into latents and patches.

        Nor may a sequence be left that the processes that share it cannot cut evenly.
        """
        step = self.vae_scale_factor_spatial * self.model.config.patch_size[1]
        if height % step or width % step:
            raise ValueError(f"height and width must be multiples of {step}: {height}, {width}")
        if frames % self.vae_scale_factor_temporal != 1:
            raise ValueError(
                f"frames must be 1 more than a multiple of {self.vae_scale_factor_temporal}, "
                f"got {frames}"
            )
        steps = (frames - 1) // self.vae_scale_factor_temporal + 1
        tokens = steps * (height // step) * (width // step)
        slots = len(self.model.layout.yaws) * (self.model.config.reference_size // step) ** 2
        for name in EXPERTS:
            together = 1 if (model := getattr(self, name)) is None else sharers(model)
            for count, what in ((tokens, "the video"), (slots, "a person's references")):
                if count % together:
                    raise ValueError(
                        f"{together} processes cannot share the {count:,} tokens of {what} evenly: "
                        "choose another size or number of frames, or fewer processes"
                    )

    def share_out(self, scales: Sequence[Guidance], device: torch.device) -> None:
        """Let all processes of torch.distributed make each video together; each one gets it.

        Every process must make the same calls, with generators of the same state. `scales` are
        those of the experts, high noise first: where their passes divide the processes, each pass
        has a group of its own, and what a group has in common is the pass's sequence. So the
        experts may be shared out in different ways. Call this last, when LoRAs are loaded. Raises
        UserError where a model cannot be shared out.
        """
        groups = {}
        for name, scale in zip(EXPERTS, scales, strict=False):
            if (model := getattr(self, name)) is None:
                continue
            passes, everyone = len(_seen_by(model, scale).weights()), processes()
            together = everyone // passes if everyone % passes == 0 else everyone
            if together > 1:  # FlashAttention 3, as diffusers calls it, shares no sequence
                use_best_attention(model, device, model.dtype, learns=True)
            mesh = share_sequences(model, together, device)
            if together < everyone:
                groups[name] = mesh[GROUPS].get_group()
        self.guidance_groups = groups

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
        experts = list(zip(EXPERTS, scales, strict=True))
        with self.progress_bar(total=steps) as progress:
            for index, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    break
                self._current_timestep = t
                expert, scale = experts[0 if t >= boundary else 1]
                if expert != last:  # what one expert keeps is of no use to the other
                    caches = {name: ReferenceCache() for name in conditions} if keep else {}
                    last = expert
                prediction = self._velocity(expert, latents, t, conditions, scale, caches)
                latents = self.scheduler.step(prediction, t, latents, return_dict=False)[0]
                if callback is not None:
                    latents = callback(self, index, t, {"latents": latents}).get("latents", latents)
                progress.update()
        self._current_timestep = None
        return latents

    def _velocity(
        self,
        expert: str,
        latents: Tensor,
        t: Tensor,
        conditions: Mapping[str, tuple[Tensor, dict[str, Any]]],
        scale: Guidance,
        caches: Mapping[str, ReferenceCache],
    ) -> Tensor:
        """Return the guided prediction of one step, in float32."""
        return guided(
            _seen_by(getattr(self, expert), scale).weights(),
            lambda name: self._pass(expert, name, latents, t, *conditions[name], caches.get(name)),
            latents,
            self.guidance_groups.get(expert),
        )

    def _pass(
        self,
        expert: str,
        name: str,
        latents: Tensor,
        t: Tensor,
        words: Tensor,
        references: Mapping[str, Any],
        cache: ReferenceCache | None,
    ) -> Tensor:
        """Return what an expert predicts in one pass of the guidance."""
        model = getattr(self, expert)
        looks = isinstance(model, HarmoViewTransformer3DModel)
        if not looks or model.config.reference_attention == "all":
            cache = None
        shown = {**references, "reference_cache": cache} if looks else {}
        # step caches of diffusers compare sequences, and the next ones lack what is kept in this
        state = name if cache is None or cache.filled else f"{name}, with references"
        with model.cache_context(state):
            velocity: Tensor = model(
                hidden_states=latents.to(model.dtype),
                # one time a sample: TI2V-5B has one for each token, all the same here
                timestep=t.expand(len(latents)),
                encoder_hidden_states=words,
                attention_kwargs=self._attention_kwargs,
                return_dict=False,
                **shown,
            )[0]
        return velocity

    def _decode(self, latents: Tensor, output_type: str) -> Any:
        config = self.vae.config
        mean, std = (
            torch.tensor(values, device=latents.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        video = self.vae.decode((latents * std + mean).to(self.vae.dtype), return_dict=False)[0]
        return self.video_processor.postprocess_video(video, output_type=output_type)


def _seen_by(model: Any, scale: Guidance) -> Guidance:
    """Return the scales for a model; to a plain Wan the passes neg and ref are the same."""
    looks = isinstance(model, HarmoViewTransformer3DModel)
    return scale if looks else Guidance(scale.text, scale.text)
