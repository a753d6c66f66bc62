import gc
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxKontextPipeline, FluxTransformer2DModel
from diffusers.models import attention_dispatch
from safetensors.torch import load_file
from transformers import CLIPTextModel, T5EncoderModel

from datapipe.errors import UserError
from datapipe.record import YAWS
from lora_engine.flux import learner
from lora_engine.flux.adapter import adapter_file, load_adapter, read_header
from lora_engine.flux.settings import FluxSettings, TrainLoraSettings
from lora_engine.flux.synthesizer import FluxSynthesizer
from lora_engine.flux.train import check_and_claim, train
from lora_engine.views import MeasuredView
from tests.processes import forked, together
from tests.training.checkpoints import tensors
from training.learned import checkpoints


def state(folder, step):
    return tensors(folder / "checkpoints", step)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.slow
def test_resumed_equals_uninterrupted_bit_for_bit(run):
    """Weights, optimiser, averages and adapter are those of a run that never stopped, though each
    step draws its resolution. It was stopped while it warmed up, and before its last step."""
    how = {"groups": 2, "resolution": (32, 48)}
    whole = run("whole", steps=5, **how)
    for steps in (1, 4, 5):
        parts = run("parts", steps=steps, resume=steps > 1, **how)
    assert equal(state(whole, 5), state(parts, 5))
    one, other = (adapter_file(str(folder)).read_bytes() for folder in (whole, parts))
    assert one == other


@pytest.mark.slow
def test_training_moves_every_lora_and_lowers_the_loss(run):
    """All 13 targets learn, and thirty steps fit three people better than none."""
    folder = run(steps=40, groups=3, yaws_per_group=7, flip=False, ema=0.0, checkpoint_every=100)
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    weights = load_file(folder / "pytorch_lora_weights.safetensors")
    assert all(w.abs().max() > 0 for name, w in weights.items() if "lora_B" in name)


@pytest.mark.parametrize("two_pass", [False, True])
def test_trained_adapter_works_in_synthesis(run, tiny_base, portrait, two_pass):
    """What training wrote, synthesis loads: header, prompts, reference mode, no text encoder; its
    views have the first of its resolutions, or another that it was trained at."""
    folder = run(reference_kv=two_pass, resolution=(32, 48))
    header = read_header(adapter_file(str(folder)))
    assert header.reference_mode == ("two-pass" if two_pass else "concatenated")
    assert (header.rank, header.yaws, header.steps) == (2, YAWS, 3)
    for resolution, side in ((None, 32), (48, 48)):
        settings = FluxSettings(str(tiny_base), str(folder), denoising_steps=1)
        synthesizer = FluxSynthesizer(settings, resolution=resolution)
        synthesizer.setup()
        views = synthesizer(portrait, YAWS, range(7))
        assert [view.shape for view in views] == [(side, side, 3)] * 7
    with pytest.raises(UserError, match=r"--resolution 64: --lora .* was trained at 32 and 48"):
        FluxSynthesizer(settings, resolution=64).inputs()


def test_stock_pipeline_loads_the_output(run, tiny_base):
    """load_lora_weights on the output folder gives the weights that we load."""
    folder = run()
    pipe = FluxKontextPipeline.from_pretrained(tiny_base)
    pipe.load_lora_weights(folder)
    own = FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")
    load_adapter(own, adapter_file(str(folder)))
    theirs = pipe.transformer.state_dict()
    assert any("lora_B" in name for name in theirs)
    ours = {n.replace(".default.", ".default_0."): w for n, w in own.state_dict().items()}
    assert equal(ours, theirs)


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_weight(run):
    """It trades time for memory and nothing else, in two passes too."""
    for two_pass in (False, True):
        on = run(f"on{two_pass}", reference_kv=two_pass)
        off = run(f"off{two_pass}", reference_kv=two_pass, gradient_checkpointing=False)
        assert equal(state(on, 3), state(off, 3))


@pytest.mark.parametrize("two_pass", [False, True])
def test_training_attends_by_the_kernel_that_suits_the_device(run, monkeypatch, two_pass):
    """In every block of every pass, with another kernel's weights but for rounding."""
    plain = run("plain", reference_kv=two_pass, gradient_checkpointing=False)
    called = []
    math = attention_dispatch.AttentionBackendName._NATIVE_MATH
    registry = attention_dispatch._AttentionBackendRegistry
    kernel = registry._backends[math]

    def counted(*arguments, **options):
        called.append(math)
        return kernel(*arguments, **options)

    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # put back later
    monkeypatch.setitem(registry._backends, math, counted)
    monkeypatch.setattr(learner, "best_attention", lambda *_, learns: math.value)
    other = run("other", reference_kv=two_pass, gradient_checkpointing=False)
    assert len(called) == 3 * (2 + 2) * (2 if two_pass else 1)  # steps, blocks, passes
    one, two = state(plain, 3), state(other, 3)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_encoders_are_out_of_memory_while_training(run):
    """Neither text encoder nor VAE is alive when a step is done."""
    kinds = (AutoencoderKL, CLIPTextModel, T5EncoderModel)
    alive = []

    def count():
        return sum(issubclass(type(one), kinds) for one in gc.get_objects())

    before = count()
    run(progress=lambda done, loss: alive.append(count()))
    assert alive == [before] * 3


def measure(reference, views):
    """Redness by halves stands in for a pose: what matters here is that it is called and kept."""
    found = []
    for view in views:
        left, right = np.hsplit(view[..., 0].astype(float), 2)
        found.append(MeasuredView(float(right.mean() - left.mean()), 0.5))
    return found


def test_validation_reports_adapter_off_and_on(run):
    """At intervals and at the end; the figures without adapter do not move, the others do."""
    folder = run(measure=measure, validate_every=2, validation_people=1)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert ["validation" in record for record in records] == [False, True, True]
    second, third = (record["validation"] for record in records[1:])
    assert second["off"] == third["off"]
    assert second["on"] != third["on"]
    assert set(second["on"]["per_yaw"]) == {f"{yaw:+03d}" for yaw in YAWS}
    pictures = sorted(path.name for path in (folder / "validation").glob("*.jpg"))
    assert pictures == ["000002.jpg", "000003.jpg", "base.jpg"]


def test_validation_leaves_training_alone(run):
    """A run that validates ends with the weights of one that does not."""
    plain = run("plain", reference_kv=True)
    watched = run("watched", reference_kv=True, measure=measure, validate_every=1)
    assert equal(state(plain, 3), state(watched, 3))


def test_metrics_have_one_object_a_step_after_a_resume(run):
    """Steps done again after the last checkpoint are not counted twice, half lines are dropped."""
    folder = run(steps=3, checkpoint_every=2)
    shutil.rmtree(folder / "checkpoints/00000003")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run(steps=5, resume=True, checkpoint_every=2)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()]
    assert steps == [1, 2, 3, 4, 5]


def test_a_folder_in_use_needs_resume_and_the_same_settings(run):
    """A run is not overwritten by accident, nor continued as another one."""
    run(steps=1)
    with pytest.raises(UserError, match="--resume"):
        run(steps=1)
    with pytest.raises(UserError, match=r"--learning-rate: .*\n *--rank: made with 2, asked for 4"):
        run(steps=2, resume=True, rank=4, learning_rate=0.5)


@pytest.mark.slow
def test_a_run_that_never_came_to_a_step_does_not_bind_the_folder(run, monkeypatch):
    """The corrected command begins there, with prompts of its own length."""

    def fail(*_):
        raise UserError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(learner.LoraLearner, "step", fail)
        with pytest.raises(UserError, match="out of memory"):
            run(text_length=32)
    other = run(text_length=64)
    assert read_header(adapter_file(str(other))).text_length == 64
    assert equal(state(other, 3), state(run("fresh", text_length=64), 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": (32, 40)}, "multiple of 16"),
        ({"base": "/nowhere"}, "no such folder"),
        ({"pairs": "/nowhere"}, "holds no manifest"),
        ({"device": "cuda"}, "no GPU"),
        ({"optimizer": "adamw8bit"}, "adamw8bit: bitsandbytes"),
        ({"shard": True}, "single worker"),
        ({"wandb": True}, "pip install wandb"),
        ({"out": "s3://bucket/run"}, "on a disk"),
    ],
)
def test_mistakes_are_named_before_anything_starts(run, monkeypatch, changes, message):
    """The message says which option; nothing was loaded or written."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("people_kept", "message"),
    [
        ({"yaws": (-30, 0, 30)}, r"no training subject has a frame at the yaws \[-90, -60"),
        ({"yaws": (-90, -60, -30, 30, 60, 90)}, "no frontal frame"),
        ({"validation": 0}, "no validation people"),
        ({"train": 0, "validation": 1}, "no subject in the training split"),
        ({"side": 16}, "16 pixels wide and would be enlarged; make the pairs with --side 32"),
    ],
)
def test_pairs_that_cannot_serve_are_named(run, people, tmp_path, people_kept, message):
    """A missing yaw, frontal or validation person, and pictures that are too small, are found in
    the manifest."""
    lacking = people["save_pairs"](tmp_path / "lacking", **people_kept)
    with pytest.raises(UserError, match=message):
        run(pairs=str(lacking), validate_every=1)


def test_groups_must_share_out_equally(run, tiny_base, pairs, tmp_path):
    """Three groups cannot be learned by two processes."""
    settings = TrainLoraSettings(str(pairs), str(tmp_path / "x"), str(tiny_base), resolution=(32,),
                             groups=3)  # fmt: skip
    with pytest.raises(UserError, match="--groups 3"):
        check_and_claim(settings, 2, resume=False)


def process(rank, settings, claim):
    """One of two processes of a run."""
    train(settings, claim, measure)


@pytest.mark.slow
@pytest.mark.parametrize(("two_pass", "shard"), [(False, False), (True, True)])
def test_two_processes_equal_one(run, tiny_base, pairs, tmp_path, two_pass, shard):
    """The same global batch on two processes gives the same weights, up to summation order,
    whether each has the whole base or half of it."""
    changes = {
        "groups": 4, "reference_kv": two_pass, "validate_every": 3, "validation_people": 1,
    }  # fmt: skip
    alone = run("alone", measure=measure, **changes)
    changes["shard"] = shard
    settings = TrainLoraSettings(
        str(pairs), str(tmp_path / "together"), str(tiny_base), resolution=(32,), rank=2, steps=3,
        yaws_per_group=2, warmup=2,
        text_length=64, variants=1, validation_steps=2, learning_rate=1e-2,
        **changes,
    )  # fmt: skip
    claim = check_and_claim(settings, 2, resume=False)
    together(tmp_path / "meet", process, settings, claim)
    file, both = "pytorch_lora_weights.safetensors", tmp_path / "together"
    for one, two in (
        (state(alone, 3), state(both, 3)),
        (load_file(alone / file), load_file(both / file)),
    ):
        assert one.keys() == two.keys()
        assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    records = [
        [json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (alone, both)
    ]
    losses = [[record["loss"] for record in part] for part in records]
    assert np.allclose(*losses, atol=1e-5)
    assert records[1][-1]["validation"]["on"]["measured"] == 1.0


def endless(settings, claim):
    torch.set_num_threads(1)
    train(settings, claim)


@pytest.mark.slow
def test_killed_at_any_moment_it_continues_from_a_whole_checkpoint(run, tiny_base, pairs, tmp_path):
    """SIGKILL while checkpoints are written leaves a readable latest one; the rest is as if
    nothing had happened."""
    settings = TrainLoraSettings(
        str(pairs), str(tmp_path / "killed"), str(tiny_base), resolution=(32,), rank=2, steps=10**6,
        yaws_per_group=2, warmup=2,
        text_length=64, variants=1, learning_rate=1e-2, validate_every=0,
        checkpoint_every=1,
    )  # fmt: skip
    claim = check_and_claim(settings, 1, resume=False)
    for _ in range(2):
        worker = forked().Process(target=endless, args=(settings, claim))
        worker.start()
        folder = tmp_path / "killed/checkpoints"
        before = set(checkpoints(folder))
        deadline = time.monotonic() + 100
        while not set(checkpoints(folder)) - before and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        for done in checkpoints(folder):
            tensors(folder, done)
    latest = max(checkpoints(folder))
    killed = run("killed", steps=latest + 1, resume=True, checkpoint_every=1)
    whole = run("whole", steps=latest + 1)
    assert equal(state(killed, latest + 1), state(whole, latest + 1))
