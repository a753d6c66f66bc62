"""HarmoView's transformer: Wan's, with reference views in front of the video tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import (
    ModelMixin,  # noqa: F401 - a pipeline's from_pretrained looks for it in a component's module
    WanTransformer3DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn

from datapipe.record import YAWS
from harmoview.model import context_parallel, injection, new_parts
from harmoview.model.block import HarmoViewBlock, ReferenceTimestep, embed, output_rows
from harmoview.model.layout import (
    IDENTITY_GAP,
    VIDEO_GAP,
    AbsentViews,
    ReferenceLayout,
    check_absent_views,
)
from harmoview.model.reference_kv import (
    ReferenceAttention,
    ReferenceCache,
    ReferencesApart,
    check_reference_attention,
)
from harmoview.model.references import blank_absent, fill_gray, fill_proxy, patchify
from harmoview.model.rope import JumpRotaryPosEmbed, ReferenceGrid
from harmoview.model.weights import config_on_wan, load_wan
from training.parallel import processes


class HarmoViewTransformer3DModel(WanTransformer3DModel):  # type: ignore[misc]
    """Wan's transformer with multi-view references; without references it is Wan, bit for bit.

    `from_wan` loads a checkpoint of Wan, `from_pretrained` one of HarmoView.
    """

    # diffusers, FSDP and regional compilation find the blocks by the name of their class
    _no_split_modules = ["HarmoViewBlock"]  # noqa: RUF012
    _repeated_blocks = ["HarmoViewBlock"]  # noqa: RUF012

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        yaws: tuple[int, ...] = YAWS,
        identities: int = 2,
        identity_gap: int = IDENTITY_GAP,
        video_gap: int = VIDEO_GAP,
        jump_rope: bool = True,
        absent_views: AbsentViews = "proxy",
        gray_latent: Sequence[float] | None = None,
        reference_timestep: ReferenceTimestep = "shared",
        reference_attention: ReferenceAttention = "all",
        reference_size: int = 512,
        text_length: int = 512,
        vit_dim: int | None = injection.QWEN_DIM,
        vit_layer: int = injection.QWEN_LAYER,
        vit_size: int = injection.QWEN_SIZE,
        vit_tower: str | None = None,
        vit_name: str | None = None,
        identity_embedding: bool = True,
    ) -> None:
        """Builds a model; the first sixteen settings are Wan's.

        `yaws`, `identities`, the gaps and `jump_rope` are the `ReferenceLayout`. `absent_views`
        "gray" needs `gray_latent`, a number for each channel. `reference_timestep` is the noise
        level that reference tokens are told: the video's, or 0. `reference_attention` "references"
        keeps them from seeing the video, which `ReferenceCache` needs. `reference_size` and
        `vit_size` are the sides in pixels at which pictures are encoded. Prompts are padded to
        `text_length` tokens with zeros, which are attended. `vit_dim` None leaves MFI out;
        `vit_tower` and `vit_name` are the fingerprint and the folder or hub name of the tower with
        whose features the model was trained. With `identity_embedding` a learned vector for each
        identity, zero at first, is added to its MFI tokens, which otherwise do not say whose they
        are. Raises ValueError for settings that do not fit together.
        """
        if image_dim is not None or added_kv_proj_dim is not None:
            raise ValueError("image_dim and added_kv_proj_dim belong to Wan's image-to-video form")
        check_absent_views(absent_views, gray_latent, in_channels)
        if reference_timestep not in get_args(ReferenceTimestep):
            raise ValueError(f"reference_timestep is shared or zero, not {reference_timestep!r}")
        check_reference_attention(reference_attention, reference_timestep, absent_views)
        super().__init__(
            patch_size, num_attention_heads, attention_head_dim, in_channels, out_channels,
            text_dim, freq_dim, ffn_dim, num_layers, cross_attn_norm, qk_norm, eps, image_dim,
            added_kv_proj_dim, rope_max_seq_len, pos_embed_seq_len,
        )  # fmt: skip
        self.layout = ReferenceLayout(tuple(yaws), identities, identity_gap, video_gap, jump_rope)
        width = num_attention_heads * attention_head_dim
        self.rope = JumpRotaryPosEmbed(attention_head_dim, patch_size, rope_max_seq_len)
        for block in self.blocks:
            block.__class__ = HarmoViewBlock  # keeps the weights; a new block would double them
            if reference_attention == "references":
                block.attn1.set_processor(ReferencesApart())
        if absent_views == "proxy":
            self.proxy_token = nn.Parameter(torch.empty(width))
        if vit_dim is not None:
            self.condition_embedder.image_embedder = nn.Linear(vit_dim, width)
        if vit_dim is not None and identity_embedding:
            self.identity_vectors = nn.Parameter(torch.empty(identities, width))
        new_parts.initialize(self)

    @classmethod
    def from_wan(
        cls,
        path: str | Path,
        *,
        subfolder: str = "",
        dtype: torch.dtype | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> HarmoViewTransformer3DModel:
        """Load a stock Wan transformer, a folder or a hub repository, and add the new parts.

        `settings` are the model's own; `harmoview.model.weights.config_on_wan` says which of them
        follow the base. `dtype` is as in diffusers: Wan keeps norms and time embedding in float32.
        The new parts are drawn from `seed`. Raises UserError where there is no text-to-video Wan.
        """
        config = config_on_wan(str(path), subfolder, settings)
        base = load_wan(str(path), subfolder, dtype)
        with torch.device("meta"):
            model: HarmoViewTransformer3DModel = cls.from_config(config)
        model._adopt(base)
        new_parts.initialize(model, seed)
        model.requires_grad_(True).eval()
        return model

    def _adopt(self, base: WanTransformer3DModel) -> None:
        """Take the tensors of `base` in place of those on meta; new parts get no values yet."""
        dtype, device = base.proj_out.weight.dtype, base.proj_out.weight.device
        new = {
            name: torch.empty(value.shape, dtype=dtype, device=device)
            for name, value in self.named_parameters()
            if name in new_parts.NEW_PARTS
        }
        self.load_state_dict({**base.state_dict(), **new}, assign=True)
        # the table is a buffer outside the state, which would stay on meta
        config = self.config
        sizes = config.attention_head_dim, config.patch_size, config.rope_max_seq_len
        self.rope = JumpRotaryPosEmbed(*sizes).to(device)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load what `save_pretrained` has written. Raises ValueError for a plain Wan."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        missing = [name for name, value in model.named_parameters() if value.is_meta]
        if missing:
            raise ValueError(
                f"{pretrained_model_name_or_path} has no {', '.join(missing)}: it is not a "
                "HarmoView checkpoint. "
                "Load a plain Wan transformer with HarmoViewTransformer3DModel.from_wan."
            )
        return loaded

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        reference_latents: Tensor | None = None,
        reference_mask: Tensor | None = None,
        reference_cache: ReferenceCache | None = None,
    ) -> Any:
        """Predict the velocity of the video, [B, C, F, H, W], in the form of Wan's forward.

        Args:
            hidden_states: noisy video latents [B, C, F, H, W].
            timestep: noise level, 0..1000, [B] or [B, video tokens].
            encoder_hidden_states: text [B, T, text_dim].
            encoder_hidden_states_image: patch features of each identity's frontal reference,
                [B, identities, N, vit_dim]; those of an identity whose frontal slot is absent
                are left out.
            reference_latents: clean latents of the views in the order of `yaws`,
                [B, identities, views, C, h, w]; what absent slots hold is ignored.
            reference_mask: [B, identities, views], True where a view is present; default: all.
            reference_cache: filled by the first call and used by later ones, which differ in video
                and time only; for a model whose references attend to one another.

        Raises ValueError where shapes do not fit the model.
        """
        if reference_latents is None:
            if reference_mask is not None or encoder_hidden_states_image is not None:
                raise ValueError("reference_mask and image features need reference_latents")
            return super().forward(
                hidden_states, timestep, encoder_hidden_states,
                return_dict=return_dict, attention_kwargs=attention_kwargs,
            )  # fmt: skip
        if reference_mask is None:
            reference_mask = torch.ones(
                reference_latents.shape[:3], dtype=torch.bool, device=reference_latents.device
            )
        self._check(hidden_states, reference_latents, reference_mask, encoder_hidden_states_image)
        if timestep.ndim == 2 and context_parallel.config_of(self) is not None:
            raise ValueError("with references, context parallelism takes one time a sample")
        apart = self.config.reference_attention == "references"
        if reference_cache is not None and not apart:
            raise ValueError("a reference_cache needs a model with reference_attention references")
        inputs = (hidden_states, timestep, encoder_hidden_states, encoder_hidden_states_image,
                  reference_latents, reference_mask.bool())  # fmt: skip
        if self.config.absent_views == "sequential":  # as many views make equal lengths
            mask = inputs[-1]
            if processes() == 1:
                _, group = torch.unique(mask.sum(dim=2), dim=0, return_inverse=True)
            else:  # FSDP gathers weights at each pass, so every process must do as many
                group = torch.arange(len(mask), device=mask.device)
            groups = range(int(group.max()) + 1)
            alike = [(group == number).nonzero().flatten() for number in groups]
            parts = [
                self._forward(*(None if x is None else x[rows] for x in inputs),
                              attention_kwargs=attention_kwargs)
                for rows in alike
            ]  # fmt: skip
            sample = torch.cat(parts)[torch.cat(alike).argsort()]
        else:
            sample = self._forward(
                *inputs, attention_kwargs=attention_kwargs, cache=reference_cache
            )
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    @apply_lora_scale("attention_kwargs")  # type: ignore[untyped-decorator]
    def _forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        text: Tensor,
        image: Tensor | None,
        latents: Tensor,
        mask: Tensor,
        attention_kwargs: dict[str, Any] | None = None,
        cache: ReferenceCache | None = None,
    ) -> Tensor:
        references, grid = self._reference_tokens(latents.to(hidden_states.dtype), mask)
        kept = cache is not None and cache.filled  # then the video's tokens are enough
        first = 0 if kept else grid.tokens
        rotary = self.rope(hidden_states, None if kept else grid)
        video = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2)
        frontal = mask[:, :, self.layout.frontal]
        if image is not None:
            image = image.masked_fill(~frontal[..., None, None], 0.0)
        kind = self.config.reference_timestep
        levels = embed(self.condition_embedder, timestep, text, image, kind)
        image = levels.image
        if image is not None and self.config.identity_embedding:
            image = image + self.identity_vectors[: image.shape[1], None].to(image.dtype)
        condition, condition_mask = injection.join(levels.text, image, frontal)
        x = torch.cat([references[:, :first], video], dim=1)
        extra = (
            levels.references if first else None,
            context_parallel.local_part(self, first, x.shape[1]),
            condition_mask,
        )
        for attention, block in zip(self._attention(first, cache), self.blocks, strict=True):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(
                    block, x, condition, levels.video, rotary, *extra, attention
                )
            else:
                x = block(x, condition, levels.video, rotary, *extra, attention)
        return self._project(x, levels.temb, first, hidden_states.shape)

    def _attention(
        self, references: int, cache: ReferenceCache | None
    ) -> list[dict[str, Any] | None]:
        """Return what each block's self-attention is told of the references, if anything."""
        if self.config.reference_attention == "all":
            return [None] * len(self.blocks)
        if cache is None:
            return [{"references": references}] * len(self.blocks)
        if cache.filled:
            return [{"kept": kept} for kept in cache.blocks]
        return [{"references": references, "keep": cache.blocks.append}] * len(self.blocks)

    def _check(self, video: Tensor, latents: Tensor, mask: Tensor, image: Tensor | None) -> None:
        self.layout.check(latents.shape, mask.shape, len(video), video.shape[1])
        if image is None:
            return
        if self.config.vit_dim is None:
            raise ValueError("the model has no MFI (vit_dim is None), but got image features")
        if image.shape[:2] != mask.shape[:2]:
            raise ValueError(
                f"image features must be {[*mask.shape[:2], 'tokens', self.config.vit_dim]}, "
                f"got {list(image.shape)}"
            )

    def _reference_tokens(self, latents: Tensor, mask: Tensor) -> tuple[Tensor, ReferenceGrid]:
        """Embed what stands in the slots: tokens [B, R, D], and where they are."""
        latents = blank_absent(latents, mask)
        if self.config.absent_views == "gray":
            latents = fill_gray(latents, mask, self.config.gray_latent)
        tokens = patchify(latents, self.patch_embedding)
        views = [tokens.shape[2]] * tokens.shape[1]
        if self.config.absent_views == "proxy":
            tokens = fill_proxy(tokens, mask, self.proxy_token)
        elif self.config.absent_views == "sequential":
            views = mask[0].sum(dim=1).tolist()
            # the present views of each sample in order; all have as many
            tokens = tokens[mask].reshape(len(mask), 1, sum(views), *tokens.shape[3:])
        _, p_h, p_w = self.config.patch_size
        grid = ReferenceGrid(
            self.layout.positions(views), latents.shape[-2] // p_h, latents.shape[-1] // p_w
        )
        return tokens.flatten(1, 3), grid

    def _project(self, x: Tensor, temb: Tensor, references: int, shape: torch.Size) -> Tensor:
        """Drop the reference tokens, then norm and project as Wan does: [B, C, F, H, W]."""
        sharded = context_parallel.config_of(self) is not None
        if not sharded:
            x = x[:, references:]
        rows = output_rows(self.scale_shift_table, temb)
        shift, scale = (row.to(x.device) for row in rows)
        x = self.proj_out((self.norm_out(x.float()) * (1 + scale) + shift).type_as(x))
        if sharded:  # the hook of the projection has put the sequence together again
            x = x[:, references:]
        grid = [
            size // patch for size, patch in zip(shape[2:], self.config.patch_size, strict=True)
        ]
        x = x.reshape(len(x), *grid, *self.config.patch_size, -1)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
