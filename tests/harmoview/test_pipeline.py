"""The pipeline: Wan's without references, three-way guidance with them, all given or made."""

from __future__ import annotations

import pytest
import tiny
import torch
from diffusers import FirstBlockCacheConfig, WanPipeline, WanTransformer3DModel

from harmoview.guidance import Guidance
from harmoview.model.injection import FrontalEncoder
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.pipeline import HarmoViewPipeline

SIZE = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2}
ANNA = {0: tiny.portrait(1), 30: tiny.portrait(2)}
BERT = {-90: tiny.portrait(3), 0: tiny.portrait(4)}


def build(folder, kind="1.3B", encoder=True, **settings):
    """A pipeline on a tiny base, its transformers made by from_wan."""
    tiny.save_base(folder, kind)
    own = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}
    names = ["transformer", *(["transformer_2"] if kind == "A14B" else [])]
    models = {
        name: HarmoViewTransformer3DModel.from_wan(folder / name, **{**own, **settings})
        for name in names
    }
    pipe = HarmoViewPipeline.from_pretrained(folder, **models)
    pipe.set_progress_bar_config(disable=True)
    if encoder:
        pipe.frontal_encoder = FrontalEncoder(tiny.tower(), layer=0, size=56)
    return pipe


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return build(tmp_path_factory.mktemp("base"))


def run(pipe, seed=0, **changes):
    settings = {"prompt": "a walk", **SIZE, "output_type": "latent"}
    generator = torch.Generator().manual_seed(seed)
    return pipe(**{**settings, **changes}, generator=generator).frames


def test_without_references_it_is_wans_pipeline(pipe, tmp_path):
    """Bit for bit the latents of WanPipeline on the same base."""
    tiny.save_base(tmp_path)
    stock = WanPipeline.from_pretrained(tmp_path)
    stock.set_progress_bar_config(disable=True)
    assert torch.equal(run(pipe), run(stock))


@pytest.mark.parametrize("kind", ["1.3B", "A14B", "5B"])
@pytest.mark.parametrize("identities", [[ANNA], [ANNA, BERT], [{-60: tiny.portrait(5)}]])
def test_every_base_makes_frames_from_any_subset_of_views(tmp_path, kind, identities):
    """One or two identities, with and without a frontal view: frames of the size asked for."""
    size = {**SIZE, "height": 64, "width": 64} if kind == "5B" else SIZE
    pipe = build(tmp_path, kind)
    frames = run(pipe, references=identities, **size, output_type="np")
    assert frames.shape == (1, 5, size["height"], size["width"], 3)
    assert frames.std() > 0


def test_seeds_decide_and_references_matter(pipe):
    """Same seed, same video; another seed, another view or another person changes it."""
    base = run(pipe, references=[ANNA])
    assert torch.equal(run(pipe, references=[ANNA]), base)
    others = [
        run(pipe, seed=1, references=[ANNA]),
        run(pipe, references=[{0: ANNA[0]}]),
        run(pipe, references=[BERT]),
        run(pipe, references=[ANNA, BERT]),
    ]
    assert all(not torch.allclose(other, base) for other in others)


def test_each_of_two_people_matters_and_has_a_place(pipe):
    """One more view of either changes the video, and so do their order and one person twice."""
    more = {60: tiny.portrait(6)}
    casts = [[ANNA, BERT], [BERT, ANNA], [{**ANNA, **more}, BERT], [ANNA, {**BERT, **more}],
             [ANNA, ANNA], [BERT, BERT]]  # fmt: skip
    made = [run(pipe, references=cast) for cast in casts]
    assert not any(torch.allclose(made[a], made[b]) for a in range(len(made)) for b in range(a))


def test_what_is_encoded_before_gives_the_same_video(pipe):
    """Prompt embeddings and references may come from elsewhere."""
    references = pipe.encode_references([ANNA, BERT])
    with torch.no_grad():
        text, null = pipe.encode_prompt("a walk", None, max_sequence_length=512)
    given = run(pipe, prompt=None, prompt_embeds=text, negative_prompt_embeds=null,
                references=references)  # fmt: skip
    assert torch.equal(given, run(pipe, references=[ANNA, BERT]))


def test_prompts_are_padded_as_in_training(tmp_path):
    """Zeros behind a prompt are attended, so that their number is a setting of the model."""
    short = build(tmp_path / "short", text_length=16)
    default = run(short, references=[ANNA])
    assert torch.equal(default, run(short, references=[ANNA], max_sequence_length=16))
    assert not torch.equal(default, run(short, references=[ANNA], max_sequence_length=512))


def test_guidance_is_the_formula():
    """neg + r (ref - neg) + t (full - ref), and passes without weight are left out."""
    neg, ref, full = torch.randn(3, 10, dtype=torch.float64).unbind()
    for t, r in ((5.0, 2.0), (3.0, 3.0), (4.0, 1.0), (1.0, 1.0), (1.0, 4.0)):
        weights = Guidance(t, r).weights()
        values = {"neg": neg, "ref": ref, "full": full}
        mixed = sum(weights.get(n, 0) * v for n, v in values.items())
        assert torch.allclose(mixed, neg + r * (ref - neg) + t * (full - ref))
    assert set(Guidance(3.0, 3.0).weights()) == {"neg", "full"}
    assert set(Guidance(4.0, 1.0).weights()) == {"ref", "full"}
    assert set(Guidance(1.0, 1.0).weights()) == {"full"}


def test_each_scale_acts(pipe):
    """Text and reference scales each change the video; by default they are equal."""
    base = run(pipe, references=[ANNA], guidance_scale=3.0)
    same = run(pipe, references=[ANNA], guidance_scale=3.0, reference_scale=3.0)
    assert torch.equal(base, same)
    for changes in ({"reference_scale": 1.0}, {"reference_scale": 6.0}, {"guidance_scale": 4.0}):
        other = run(pipe, references=[ANNA], **{"guidance_scale": 3.0, **changes})
        assert not torch.allclose(base, other)


def test_the_null_reference_is_proxies_and_no_image_tokens(pipe):
    """The neg pass sees presence only as absence: another person gives the same prediction."""
    first, second = (pipe.encode_references([one]).absent() for one in (ANNA, BERT))
    values = {k: tiny.inputs(batch=1)[k] for k in ("hidden_states", "timestep",
              "encoder_hidden_states")}  # fmt: skip
    device = torch.device("cpu")
    with torch.no_grad():
        a, b = (
            pipe.transformer(**values, **one.inputs(torch.float32, device)).sample
            for one in (first, second)
        )
    assert torch.equal(a, b)


def test_each_expert_works_on_its_own_side_of_the_boundary(tmp_path):
    """t >= 875 goes to the high-noise expert, the rest to the low-noise one, with its scale."""
    pipe = build(tmp_path, "A14B")
    seen = {"high": [], "low": []}
    for name, model in (("high", pipe.transformer), ("low", pipe.transformer_2)):
        model.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen[name].append(float(kwargs["timestep"][0])),
            with_kwargs=True,
        )
    run(pipe, references=[ANNA], num_inference_steps=6, guidance_scale_2=1.0)
    assert min(seen["high"]) >= 875 > max(seen["low"])
    times = pipe.scheduler.timesteps
    assert len(seen["high"]) == 2 * int((times >= 875).sum())
    assert len(seen["low"]) == int((times < 875).sum())  # scale 1 needs one pass


def test_references_go_through_a_model_that_is_made_for_it_once_a_video(tmp_path):
    """Each expert is sent them once a pass, two people in the same video as at every step; a model
    whose references see the video refuses."""
    apart = {"reference_attention": "references", "reference_timestep": "zero"}
    pipe = build(tmp_path / "apart", "A14B", **apart)
    given = {"references": [ANNA, BERT], "num_inference_steps": 6, "guidance_scale_2": 3.0}
    lengths = []
    for model in (pipe.transformer, pipe.transformer_2):
        model.blocks[0].register_forward_hook(lambda *args: lengths.append(args[2].shape[1]))
    kept = run(pipe, **given)
    assert sum(length == max(lengths) for length in lengths) == 4
    assert torch.allclose(kept, run(pipe, **given, reference_kv=False), atol=1e-4)
    with pytest.raises(ValueError, match="was not trained for reference_kv"):
        run(build(tmp_path / "stock"), references=[ANNA], reference_kv=True)


def test_a_step_cache_of_diffusers_goes_with_references_once_a_video(tmp_path):
    """One that never skips changes nothing; one that always does leaves two steps of each pass."""
    pipe = build(tmp_path, reference_attention="references", reference_timestep="zero")
    given = {"references": [ANNA], "num_inference_steps": 4}
    whole, last = run(pipe, **given), pipe.transformer.blocks[-1].attn1
    for threshold, calls in ((-1.0, 8), (1e9, 4)):
        seen = []
        hook = last.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        cached = run(pipe, **given)
        assert torch.equal(cached, whole) is (threshold < 0)
        assert torch.equal(run(pipe, **given), cached)  # nothing is left of the video before
        assert len(seen) == 2 * calls
        pipe.transformer.disable_cache()
        hook.remove()


@pytest.mark.parametrize("plain", ["transformer", "transformer_2"])
def test_an_expert_that_is_plain_wan_sees_prompts_only(tmp_path, plain):
    """As in Wan's own pipeline, in two passes; the other one has the references."""
    pipe, seen = build(tmp_path, "A14B"), []
    setattr(pipe, plain, WanTransformer3DModel.from_pretrained(tmp_path / plain))
    getattr(pipe, plain).register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(set(kwargs)), with_kwargs=True
    )
    steps = {"num_inference_steps": 6, "reference_scale": 2.0}
    ours = run(pipe, references=[ANNA], **steps)
    assert not torch.equal(ours, run(pipe, references=[BERT], **steps))
    assert not {name for names in seen for name in names if "reference" in name or "image" in name}
    high = int((pipe.scheduler.timesteps >= 875).sum())
    assert len(seen) == 2 * 2 * (high if plain == "transformer" else 6 - high)


def test_a_lora_of_stock_wan_loads_and_unloads(pipe, tmp_path):
    """Adapters for Wan act on HarmoView, and leave nothing behind."""
    from peft import LoraConfig, get_peft_model_state_dict

    stock = tiny.wan()
    torch.manual_seed(0)
    stock.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q"], init_lora_weights=False))
    WanPipeline.save_lora_weights(tmp_path, get_peft_model_state_dict(stock))
    before = run(pipe, references=[ANNA])
    pipe.load_lora_weights(tmp_path)
    assert not torch.allclose(run(pipe, references=[ANNA]), before)
    pipe.unload_lora_weights()
    assert torch.equal(run(pipe, references=[ANNA]), before)


def test_vae_tiling_still_decodes(pipe):
    """Tiled decoding gives the same number of frames and pixels."""
    pipe.vae.enable_tiling(32, 32, 16, 16)
    frames = run(pipe, references=[ANNA], height=64, width=64, output_type="np")
    pipe.vae.disable_tiling()
    assert frames.shape == (1, 5, 64, 64, 3)


def test_a_batch_of_prompts_shares_the_references(pipe):
    """Two prompts, one set of identities, two videos."""
    references = pipe.encode_references([ANNA])
    both = run(pipe, prompt=["a walk", "a swim"], references=references)
    assert len(both) == 2
    assert not torch.allclose(both[0], both[1])


def test_a_callback_may_change_the_latents(pipe):
    """As in WanPipeline."""
    zeros = lambda _, i, t, values: {"latents": values["latents"] * 0}  # noqa: E731
    assert not run(pipe, references=[ANNA], callback_on_step_end=zeros).any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"references": [{}]}, "no view"),
        ({"references": [{45: tiny.portrait(1)}]}, "yaws"),
        ({"references": [ANNA] * 3}, "identities"),
        ({"references": [ANNA], "num_frames": 6}, "frames"),
        ({"references": [ANNA], "height": 40}, "height"),
        ({"references": [ANNA], "num_videos_per_prompt": 2}, "num_videos_per_prompt"),
    ],
)
def test_what_does_not_fit_is_refused(pipe, changes, says):
    """The message names what is wrong."""
    with pytest.raises(ValueError, match=says):
        run(pipe, **changes)


def test_a_model_with_mfi_asks_for_its_vision_tower(tmp_path):
    """It does not silently go without."""
    with pytest.raises(ValueError, match="frontal_encoder"):
        run(build(tmp_path, encoder=False), references=[ANNA])


def test_saving_and_loading_the_pipeline_keeps_it(pipe, tmp_path):
    """The whole pipeline goes through diffusers' folder layout."""
    pipe.save_pretrained(tmp_path)
    again = HarmoViewPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    again.frontal_encoder = pipe.frontal_encoder
    assert torch.equal(run(again, references=[ANNA]), run(pipe, references=[ANNA]))
