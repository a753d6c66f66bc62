"""A video that several processes make together is the one that a single process makes."""

from __future__ import annotations

import pytest
import tiny
import torch

from datapipe.errors import UserError
from harmoview.guidance import Guidance
from harmoview.model.context_parallel import share_sequences
from harmoview.model.injection import FrontalEncoder
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.pipeline import HarmoViewPipeline
from tests.processes import together

CPU = torch.device("cpu")
APART = {"reference_attention": "references", "reference_timestep": "zero"}
PEOPLE = [{0: tiny.portrait(1), 30: tiny.portrait(2)}, {-90: tiny.portrait(3)}]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A14B with four heads."""
    return tiny.save_base(tmp_path_factory.mktemp("base"), "A14B", num_attention_heads=4)


def load(base, plain=False, **settings):
    """A pipeline with MFI; its low-noise expert may be plain Wan."""
    own = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}
    names = ("transformer",) if plain else ("transformer", "transformer_2")
    models = {
        name: HarmoViewTransformer3DModel.from_wan(base / name, **own, **settings) for name in names
    }
    pipe = HarmoViewPipeline.from_pretrained(base, **models)
    pipe.set_progress_bar_config(disable=True)
    pipe.frontal_encoder = FrontalEncoder(tiny.tower(), layer=0, size=56)
    return pipe


def made(pipe, high, low, references=None):
    """Latents of two people at these scales, and how many tokens the blocks were given for them."""
    tokens = []
    hooks = [
        model.blocks[-1].register_forward_hook(lambda *given: tokens.append(given[2].shape[1]))
        for model in (pipe.transformer, pipe.transformer_2)
    ]
    latents = pipe(
        "a walk", None, 32, 64, 5, 3, high, low, reference_scale=references, references=PEOPLE,
        generator=torch.Generator().manual_seed(0), output_type="latent",
    ).frames  # fmt: skip
    for hook in hooks:
        hook.remove()
    return latents, sum(tokens)


def _shares(rank, base, ranks, cases):
    torch.accelerator.device_count = lambda: 1  # diffusers divides by it, and a CPU has none
    for settings, high, low, references in cases:
        pipe = load(base, **settings)
        alone, work = made(pipe, high, low, references)
        pipe.share_out([Guidance(one, references or one) for one in (high, low)], CPU)
        shared, part = made(pipe, high, low, references)
        assert torch.allclose(alone, shared, atol=1e-4), (settings, (alone - shared).abs().max())
        assert part * ranks == work, settings
    if ranks == 2:
        with pytest.raises(ValueError, match="2 processes cannot share the 9 tokens of the video"):
            pipe.check_size(48, 48, 1)


@pytest.mark.usefixtures("_torch_imported")
@pytest.mark.parametrize(
    ("ranks", "cases"),
    [
        (2, [(APART, 4.0, 1.0, None), ({"plain": True}, 4.0, 3.0, 2.0)]),
        pytest.param(3, [(APART, 4.0, 3.0, 2.0)], marks=pytest.mark.slow),
        pytest.param(
            4, [(APART, 4.0, 1.0, None), ({"plain": True}, 3.0, 3.0, 1.0)], marks=pytest.mark.slow
        ),
    ],
    ids=["two", "three", "four"],
)
def test_processes_make_the_video_of_one_with_an_equal_part_each(tmp_path, base, ranks, cases):
    """Passes of guidance, sequences or both are shared, with MFI, two people, references once a
    video, and an expert that is plain Wan; a size whose parts would differ is refused."""
    together(tmp_path / "meet", _shares, base, ranks, cases, ranks=ranks)


@pytest.mark.parametrize(
    ("settings", "devices", "says"),
    [
        ({"num_attention_heads": 3}, 1, "2 processes .* but do not divide 3 heads"),
        ({"absent_views": "sequential"}, 1, "absent_views sequential"),
        ({}, 0, "need.* GPUs"),
    ],
)
def test_what_cannot_be_shared_evenly_is_refused(monkeypatch, settings, devices, says):
    """By heads, by lengths that vary, and without a GPU."""
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: devices)
    with pytest.raises(UserError, match=says):
        share_sequences(tiny.harmoview(vit_dim=None, **settings), 2, CPU)
