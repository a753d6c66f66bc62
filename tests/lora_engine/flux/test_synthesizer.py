import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from datapipe.errors import BadSample, UserError
from datapipe.record import YAWS
from lora_engine.flux import vae
from lora_engine.flux.adapter import chosen
from lora_engine.flux.denoise import Denoiser, compile_blocks
from lora_engine.flux.prompts import prompt
from lora_engine.flux.settings import SPEEDS, FluxSettings
from lora_engine.flux.synthesizer import FluxSynthesizer

SEEDS = [2**40 + i for i in range(7)]


def ready(settings, resolution=None):
    synthesizer = FluxSynthesizer(settings, resolution=resolution)
    synthesizer.setup()
    return synthesizer


def views_of(portrait, yaws=YAWS, seeds=SEEDS, resolution=None, **settings):
    synthesizer = ready(FluxSettings(denoising_steps=2, **settings), resolution)
    return np.stack(synthesizer(portrait, yaws, seeds)).astype(int)


def stock_views(base, portrait, lora=None, size=64, dtype=torch.float32):
    """Seven calls of the stock pipeline, text encoders and all."""
    pipe = FluxKontextPipeline.from_pretrained(base, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        pipe.load_lora_weights(lora)
    reference = Image.fromarray(portrait).resize((size, size), Image.Resampling.LANCZOS)
    views = [
        pipe(
            image=reference, prompt=prompt(yaw), height=size, width=size, max_area=size * size,
            _auto_resize=False, num_inference_steps=2, guidance_scale=2.5,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        for yaw, seed in zip(YAWS, SEEDS, strict=True)
    ]  # fmt: skip
    return np.stack([np.asarray(view) for view in views]).astype(int)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_exact_views_equal_seven_stock_calls_bit_for_bit(
    tiny_base, portrait, make_adapter, precision
):
    """`exact` is the stock pipeline's function down to the last bit, with an adapter too."""
    dtype = getattr(torch, precision)
    lora = make_adapter(dtype=dtype)
    ours = views_of(portrait, base=str(tiny_base), lora=lora, speed="exact", precision=precision)
    assert np.array_equal(ours, stock_views(tiny_base, portrait, lora, dtype=dtype))


def test_fast_views_equal_stock_but_for_rounding(tiny_base, portrait, make_adapter):
    """Batching and fusing change a grey value by one at most, and the adapter matters."""
    lora = make_adapter()
    fast = views_of(portrait, base=str(tiny_base), lora=lora)
    assert np.abs(fast - stock_views(tiny_base, portrait, lora)).max() <= 1
    assert np.abs(fast - views_of(portrait, base=str(tiny_base), resolution=64)).max() > 1


def test_base_alone_works_and_stores_its_embeddings(tiny_base, portrait, tmp_path):
    """Without an adapter the embeddings are computed once; a second worker needs no encoder."""
    first = views_of(portrait, base=str(tiny_base), resolution=64, speed="exact")
    stored = list((tmp_path / "home/prompts").rglob("*.safetensors"))
    assert len(stored) == 1
    changed = stored[0].stat().st_mtime_ns
    again = views_of(portrait, base=str(tiny_base), resolution=64, speed="exact")
    assert np.array_equal(first, again)
    assert stored[0].stat().st_mtime_ns == changed
    assert np.array_equal(first, stock_views(tiny_base, portrait))


def test_text_encoders_are_not_needed_with_a_trained_adapter(
    tiny, tmp_path, portrait, make_adapter
):
    """A worker runs from transformer, VAE and scheduler, and gives the same views."""
    import shutil

    whole = tiny["save_base"](tmp_path / "whole")
    lora = make_adapter()
    expected = views_of(portrait, base=str(whole), lora=lora, speed="exact")
    for part in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.rmtree(whole / part)
    assert np.array_equal(views_of(portrait, base=str(whole), lora=lora, speed="exact"), expected)


def test_a_view_depends_on_its_own_seed_and_yaw_only(tiny_base, portrait):
    """Which views are asked for together, in which order, does not change one of them."""
    settings = {"base": str(tiny_base), "resolution": 64, "speed": "exact"}
    every = views_of(portrait, **settings)
    some = views_of(portrait, yaws=(60, -90), seeds=(SEEDS[5], SEEDS[0]), **settings)
    assert np.array_equal(some, every[[5, 0]])
    other = views_of(portrait, yaws=(60,), seeds=(1,), **settings)
    assert not np.array_equal(other[0], every[5])


@pytest.mark.parametrize("size", [1, 3, 7])
def test_micro_batches_change_rounding_only(tiny_base, portrait, size):
    """Any micro-batch gives the same views to one grey value."""
    settings = {"base": str(tiny_base), "resolution": 64}
    whole = views_of(portrait, **settings)
    assert np.abs(views_of(portrait, micro_batch=size, **settings) - whole).max() <= 1


def test_out_of_memory_means_fewer_views_at_once(tiny_base, portrait, monkeypatch):
    """The views stay the same; what the failed batch held is given back before the next try."""
    settings = {"base": str(tiny_base), "resolution": 64}
    whole = views_of(portrait, **settings)
    held, alive, sizes = [], [], []
    denoise = Denoiser._denoise

    def with_room_for_three(self, reference, yaws, seeds):
        sizes.append(len(yaws))
        if len(yaws) > 3:
            batch = torch.zeros(9)
            held.append(weakref.ref(batch))
            raise torch.OutOfMemoryError
        return denoise(self, reference, yaws, seeds)

    monkeypatch.setattr(Denoiser, "_denoise", with_room_for_three)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))
    assert np.abs(views_of(portrait, **settings) - whole).max() <= 1
    assert (sizes, alive) == ([7, 3, 3, 1], [False])


def with_step_cache(monkeypatch, threshold):
    """Let --speed fast leave out steps by this threshold."""
    fast = replace(SPEEDS["fast"], step_cache=threshold)
    monkeypatch.setattr("lora_engine.flux.denoise.SPEEDS", {**SPEEDS, "fast": fast})


@pytest.mark.parametrize("mode", ["concatenated", "two-pass"])
def test_fast_leaves_steps_out_and_starts_afresh_with_each_reference(
    tiny_base, portrait, make_adapter, monkeypatch, mode
):
    """By a threshold of nothing fast is safe; by a large one it computes the blocks once a view,
    and views do not depend on what was made before."""
    lora = make_adapter(mode, name=mode)
    safe = views_of(portrait, base=str(tiny_base), lora=lora)
    with_step_cache(monkeypatch, 0.0)
    assert np.array_equal(views_of(portrait, base=str(tiny_base), lora=lora, speed="fast"), safe)
    with_step_cache(monkeypatch, 1e9)
    synthesizer = ready(FluxSettings(str(tiny_base), lora, denoising_steps=6, speed="fast"))
    calls = []
    block = synthesizer._denoiser._pipe.transformer.transformer_blocks[1]
    block.attn.register_forward_hook(lambda *_: calls.append(1))
    first = np.stack(synthesizer(portrait, YAWS, SEEDS))
    assert len(calls) == 1 + (mode == "two-pass")
    synthesizer(np.ascontiguousarray(portrait[::-1]), YAWS, SEEDS)
    assert np.array_equal(np.stack(synthesizer(portrait, YAWS, SEEDS)), first)


def test_a_turbo_lora_is_added_to_the_adapter(tiny_base, portrait, make_adapter):
    """Both are in the weights, the views and the provenance, by its strength; its file is checked
    like another."""
    lora, turbo = make_adapter(), make_adapter(alpha=3.0, name="turbo")
    options = {"base": str(tiny_base), "lora": lora, "speed": "fast"}
    alone, both = views_of(portrait, **options), views_of(portrait, **options, turbo=turbo)
    assert np.abs(both - alone).max() > 1
    twice = make_adapter(alpha=6.0, name="twice")
    half = views_of(portrait, **options, turbo=twice, turbo_strength=0.5)
    np.testing.assert_allclose(half, both, atol=1)
    made = FluxSynthesizer(FluxSettings(str(tiny_base), lora, speed="fast", turbo=turbo))
    assert len(made.provenance()["turbo"]) == 64
    with pytest.raises(UserError, match="--turbo nowhere: no adapter there"):
        FluxSynthesizer(FluxSettings(str(tiny_base), speed="fast", turbo="nowhere")).inputs()


def test_a_speed_decides_what_no_option_does(tiny_base):
    """A base alone has stock's text length only where views are to be stock's; fp8 is for cards
    that multiply it."""
    bases = {speed: FluxSettings(str(tiny_base), speed=speed) for speed in SPEEDS}
    lengths = {k: FluxSynthesizer(s, resolution=64).inputs().text_length for k, s in bases.items()}
    assert lengths == {"exact": 512, "safe": 64, "fast": 64}
    cpu = torch.device("cpu")
    assert {chosen(s, cpu, torch.bfloat16) for s in bases.values()} == {"none"}
    assert chosen(FluxSettings("base", quantize="nf4"), cpu, torch.bfloat16) == "nf4"


@pytest.mark.proof
def test_compiled_blocks_give_the_same_views(tiny_base, portrait, make_adapter):
    """No graph breaks (but one where steps are left out) and no limit hit, in both reference modes,
    whatever batches memory allows, in the threads that call."""
    for mode, speed in (("concatenated", "safe"), ("two-pass", "safe"), ("concatenated", "fast")):
        lora = make_adapter(mode, name=mode)
        plain = views_of(portrait, base=str(tiny_base), lora=lora, speed=speed)
        synthesizer = ready(FluxSettings(str(tiny_base), lora, denoising_steps=2, speed=speed))
        # Without a code generator: what can break is the tracing.
        compile_blocks(synthesizer._denoiser._pipe.transformer, backend="eager")
        synthesizer._denoiser._micro_batch = 3  # batches of 3, 3 and 1
        with ThreadPoolExecutor(1) as thread:
            views = thread.submit(synthesizer, portrait, YAWS, SEEDS).result()
        compiled = np.stack(views).astype(int)
        assert np.abs(compiled - plain).max() <= 1


def test_provenance_is_known_before_setup_and_names_every_file_by_hash(
    tiny_base, make_adapter, tmp_path
):
    """Same files, same provenance, wherever they lie; another adapter, another provenance."""
    lora = make_adapter()
    first = FluxSynthesizer(FluxSettings(str(tiny_base), lora)).provenance()
    assert str(tmp_path) not in repr(first)
    assert str(tiny_base.parent) not in repr(first)
    assert "transformer/diffusion_pytorch_model.safetensors" in first["base_files"]
    other = make_adapter(alpha=2.0, name="other")
    second = FluxSynthesizer(FluxSettings(str(tiny_base), other)).provenance()
    assert {k for k in first if first[k] != second[k]} == {"adapter"}


def test_adapter_for_other_yaws_is_refused_before_loading(tiny_base, make_adapter):
    """Yaws that the adapter was not made for are named by inputs()."""
    lora = make_adapter(yaws=(-30, 0, 30))
    with pytest.raises(UserError, match=r"not for \[-90, -60, 60, 90\]"):
        FluxSynthesizer(FluxSettings(str(tiny_base), lora)).inputs()


@pytest.mark.parametrize(("mode", "asked"), [("concatenated", True), ("two-pass", False)])
def test_reference_mode_of_the_adapter_is_not_overridden(tiny_base, make_adapter, mode, asked):
    """An adapter works only the way it was trained."""
    settings = FluxSettings(str(tiny_base), make_adapter(mode), reference_kv=asked)
    with pytest.raises(UserError, match="another function"):
        FluxSynthesizer(settings).inputs()


def test_another_resolution_than_the_adapters_is_refused(tiny_base, make_adapter):
    """Noise levels were shifted for one resolution; the adapter's own may be given."""
    settings = FluxSettings(str(tiny_base), make_adapter())
    assert FluxSynthesizer(settings, resolution=64).inputs().resolution == 64
    with pytest.raises(UserError, match=r"--resolution 32: --lora .* was trained at 64"):
        FluxSynthesizer(settings, resolution=32).inputs()


def test_resolution_that_does_not_pack_is_refused(tiny_base):
    """Sides are multiples of twice the VAE's factor."""
    with pytest.raises(UserError, match="multiple of 16"):
        FluxSynthesizer(FluxSettings(str(tiny_base)), resolution=72).inputs()


def test_attention_that_nobody_knows_is_refused_before_loading(tiny_base):
    """inputs() names the option and what there is to choose from."""
    with pytest.raises(UserError, match=r"--attention flsh: .*\bflash, .*\bnative\b"):
        FluxSynthesizer(FluxSettings(str(tiny_base), attention="flsh")).inputs()


def test_unusable_reference_is_a_bad_sample(tiny_base, portrait):
    """A picture that is not square is refused for this sample alone."""
    synthesizer = ready(FluxSettings(str(tiny_base), denoising_steps=1), 64)
    with pytest.raises(BadSample, match="not square"):
        synthesizer(portrait[:50], (0,), (1,))


def test_non_finite_latents_are_a_bad_sample(tiny_base, portrait):
    """A model that gives NaN never becomes a black picture."""
    synthesizer = ready(FluxSettings(str(tiny_base), denoising_steps=1), 64)
    torch.nn.init.constant_(synthesizer._denoiser._pipe.transformer.proj_out.weight, float("nan"))
    with pytest.raises(BadSample, match="no finite picture"):
        synthesizer(portrait, (0,), (1,))


def test_synthesizer_is_pickled_as_its_settings(tiny_base, portrait):
    """What travels to a worker is small, even after setup."""
    synthesizer = ready(FluxSettings(str(tiny_base), denoising_steps=1), 64)
    data = pickle.dumps(synthesizer)
    assert len(data) < 1000
    assert pickle.loads(data).settings == synthesizer.settings


def test_threads_share_a_synthesizer(tiny_base, portrait):
    """Two threads at once get what each would get alone, in two-pass mode's shared state too."""
    synthesizer = ready(FluxSettings(str(tiny_base), denoising_steps=2), 64)
    pictures = [portrait, portrait[::-1].copy()]
    alone = [synthesizer(picture, YAWS, SEEDS) for picture in pictures]
    found = [None, None]

    def work(i):
        found[i] = synthesizer(pictures[i], YAWS, SEEDS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(np.stack(a), np.stack(b)) for a, b in zip(alone, found, strict=True))


def test_one_thread_has_the_device_while_others_prepare_and_take_away(
    tiny_base, portrait, monkeypatch
):
    """Threads meet before and after the models, never in them."""
    synthesizer = ready(FluxSettings(str(tiny_base), denoising_steps=2), 64)
    inside, most = set(), []

    def enter(*_):
        inside.add(threading.get_ident())
        most.append(len(inside))

    pipe = synthesizer._denoiser._pipe
    for module in (pipe.transformer, pipe.vae.encoder, pipe.vae.decoder):
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(lambda *_: inside.discard(threading.get_ident()))

    def met(call):
        meeting = threading.Barrier(2, timeout=60)  # broken, and an error, if one is kept out

        def after(*arguments):
            meeting.wait()
            return call(*arguments)

        return after

    monkeypatch.setattr(vae, "pixels", met(vae.pixels))
    monkeypatch.setattr(vae, "picture", met(vae.picture))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda seed: synthesizer(portrait, (30,), (seed,)), (1, 2)))
    assert max(most) == 1
    assert len(most) == 2 * (1 + 2 + 1)
    assert not np.array_equal(*done)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"denoising_steps": 0}, "--denoising-steps"),
        ({"guidance": 0.0}, "guidance"),
        ({"micro_batch": 0}, "--micro-batch"),
        ({"speed": "exact", "compile": True}, "exact"),
        ({"speed": "exact", "quantize": "fp8"}, "exact"),
        ({"speed": "exact", "micro_batch": 7}, "exact"),
        ({"turbo": "steps.safetensors"}, "--speed fast"),
        ({"turbo_strength": 0.0}, "--turbo-strength"),
        ({"reference_kv": True}, "--lora"),
    ],
)
def test_bad_settings_name_the_value(wrong, message):
    """Settings that cannot work are refused when they are made."""
    with pytest.raises(ValueError, match=message):
        FluxSettings("base", **wrong)
