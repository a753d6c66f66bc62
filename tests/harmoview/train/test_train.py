"""Training: resumed is uninterrupted, two processes are one, and what is written can be read."""

from __future__ import annotations

import gc
import json
import multiprocessing
import time
import weakref
from collections import Counter
from dataclasses import replace

import pytest
import tiny
import torch
from encoded import TEXT, write_encoded

from datapipe.errors import UserError
from harmoview import HarmoViewTransformer3DModel
from harmoview.checkpoint import load_expert, save_parts
from harmoview.data.encoded import EncodedShards
from harmoview.flow import bin_names
from harmoview.model.injection import FrontalEncoder
from harmoview.model.new_parts import NEW_PARTS
from harmoview.pipeline import HarmoViewPipeline
from harmoview.tiny import VIT_DIM, save_base, tower
from harmoview.train import learner
from harmoview.train import train as module
from harmoview.train.checks import check_and_claim
from harmoview.train.report import describe
from harmoview.train.settings import TrainSettings
from harmoview.train.train import train
from tests.processes import together
from training import learned, parallel
from training.learned import checkpoints

from_wan = HarmoViewTransformer3DModel.from_wan


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Thirteen samples of one and of two people."""
    root = tmp_path_factory.mktemp("encoded")
    write_encoded(root, [7, 6], people=lambda n: 1 + n % 2)
    return str(root)


def settings(base, out, **changes):
    made = TrainSettings(
        base=str(base), out=out, phases="1,3", steps=3, batch=4, micro_batch=2, warmup=1,
        learning_rate=1e-2, ema=0.5, holdout=0.2, validate_every=0, checkpoint_every=2,
        device="cpu", loader_workers=0,
    )  # fmt: skip
    return replace(made, **changes)


def run(how, shards, resume=False, stop=lambda: False, workers=1):
    claim = check_and_claim(how, shards, workers, resume=resume)
    return train(how, shards, claim, stop, lambda *_: None)


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out, name="transformer"):
    model = HarmoViewTransformer3DModel.from_pretrained(out / "model" / name)
    return dict(model.named_parameters())


@pytest.fixture(scope="module")
def whole(base, shards, tmp_path_factory):
    """A run without interruption."""
    out = tmp_path_factory.mktemp("whole")
    assert run(settings(base, out), shards) == 6
    return out


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_is_an_uninterrupted_one(base, shards, tmp_path, whole, after):
    """Stopped within a phase, between two, and in the second: losses and weights bit for bit."""
    asked = iter(range(1, 100))
    how = settings(base, tmp_path)
    assert run(how, shards, stop=lambda: next(asked) == after) == after
    assert max(checkpoints(tmp_path / "checkpoints")) == after
    assert run(how, shards, resume=True) == 6
    assert losses(tmp_path) == losses(whole)
    own, other = weights(tmp_path), weights(whole)
    assert all(torch.equal(own[name], other[name]) for name in other)


def test_the_model_of_a_phase_is_gone_before_the_next_is_loaded(
    base, shards, tmp_path, monkeypatch
):
    """Also where the garbage collector has not run by itself: GPUs have room for one."""
    before = []

    class Watched(learner.ExpertLearner):
        def __init__(self, *what):
            assert not [one for one in before if one() is not None]
            super().__init__(*what)
            before.append(weakref.ref(self.model))

    monkeypatch.setattr(module, "ExpertLearner", Watched)
    gc.disable()
    try:
        run(settings(base, tmp_path, steps=1), shards)
    finally:
        gc.enable()
    assert len(before) == 2


def _worker(rank, how, shards, claim):
    asked = iter(range(1, 100))
    train(how, shards, claim, lambda: next(asked) == 2 and how.phases == "1,3", lambda *_: None)


def test_a_run_that_is_killed_while_it_exports_has_its_model_in_the_end(
    base, shards, tmp_path, whole, monkeypatch
):
    """Resumed it exports again, in place of what is half written."""
    save, how = HarmoViewTransformer3DModel.save_pretrained, settings(base, tmp_path)

    def killed(model, folder):
        save(model, folder)
        if (tmp_path / "model" / "transformer").exists():  # the first phase's
            (folder / "config.json").write_text("{")
            (folder / "more.safetensors").touch()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HarmoViewTransformer3DModel, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            run(how, shards)
    assert run(how, shards, resume=True) == 6
    own, other = weights(tmp_path), weights(whole)
    assert all(torch.equal(own[name], other[name]) for name in other)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["transformer"]
    assert not (tmp_path / "model/transformer/more.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "fp8"])
def test_two_processes_are_one_and_one_may_go_on(base, shards, tmp_path, whole, kind):
    """Losses agree to rounding, on two processes, and after one went on from their checkpoint.

    All weights learn, or a LoRA on layers in fewer bits, which each process has whole.
    """
    how = settings(base, tmp_path)
    if kind != "none":
        how = replace(how, quantize=kind, train_set="new_parts_and_lora", rank=2)
        whole = tmp_path / "alone"
        run(replace(how, out=whole), shards)
    claim = check_and_claim(how, shards, 2, resume=False)
    together(tmp_path / "meet", _worker, how, shards, claim)
    assert max(checkpoints(tmp_path / "checkpoints")) == 2
    assert losses(tmp_path) == pytest.approx(losses(whole)[:2], rel=1e-5)
    assert run(how, shards, resume=True) == 6
    assert losses(tmp_path) == pytest.approx(losses(whole), rel=1e-4)


def _sharing(_rank, how, shards, claim):
    """A worker that shares sequences; diffusers divides by the number of devices."""
    torch.accelerator.device_count = lambda: 1
    train(how, shards, claim, lambda: False, lambda *_: None)


@pytest.mark.parametrize(
    ("workers", "sharers"),
    [
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(4, 2, marks=pytest.mark.proof),
        pytest.param(4, 4, marks=pytest.mark.proof),
    ],
)
def test_workers_that_share_sequences_train_as_one(shards, tmp_path, workers, sharers):
    """Losses, validation and weights agree to rounding, in groups that share and in one process."""
    four_heads = save_base(tmp_path / "wan", num_attention_heads=4)
    outs = [tmp_path / name for name in ("alone", "shared")]
    hows = [
        settings(four_heads, out, context_parallel=count, validate_every=3, learning_rate=1e-3)
        for out, count in zip(outs, (1, sharers), strict=True)
    ]
    run(hows[0], shards)
    claim = check_and_claim(hows[1], shards, workers, resume=False)
    together(tmp_path / "meet", _sharing, hows[1], shards, claim, ranks=workers)
    assert losses(outs[1]) == pytest.approx(losses(outs[0]), rel=1e-4)
    records = [[json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
               for out in outs]  # fmt: skip
    for alone, shared in zip(*records, strict=True):
        assert shared["samples"] == alone["samples"]
        assert shared["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
        assert shared.get("validation", {}) == pytest.approx(alone.get("validation", {}), rel=1e-3)
    own, other = weights(outs[0]), weights(outs[1])
    assert all(torch.allclose(own[name], other[name], atol=1e-4) for name in own)


def recording(out):
    """A learner that writes down which samples it sees, a file a process."""

    class Recording(learner.ExpertLearner):
        def step(self, batches, *more):
            with (out / f"seen-{parallel.rank()}.txt").open("a") as file:
                file.writelines(
                    f"{epoch} {key}\n"
                    for b in batches
                    for epoch, key in zip(b.epochs, b.keys, strict=True)
                )
            return super().step(batches, *more)

    return Recording


def _late(rank, how, shards, claim):
    """A worker; the second one does not see the checkpoint yet."""
    module.ExpertLearner = recording(how.out)
    if rank == 1:
        learned.checkpoints = lambda folder: []
    train(how, shards, claim, lambda: False, lambda *_: None)


@pytest.mark.slow
def test_on_more_workers_it_goes_on_with_the_next_sample(base, shards, tmp_path, monkeypatch):
    """From one to two: of each group as many samples as one process would have seen, none twice.

    Also where a network file system shows the checkpoint to one of the two only.
    """
    how, asked = settings(base, tmp_path, phases="1", steps=7, holdout=0.0), iter(range(1, 100))
    monkeypatch.setattr(module, "ExpertLearner", recording(tmp_path))
    assert run(how, shards, stop=lambda: next(asked) == 2) == 2
    claim = check_and_claim(how, shards, 2, resume=True)
    together(tmp_path / "meet", _late, how, shards, claim)
    lines = [path.read_text().splitlines() for path in sorted(tmp_path.glob("seen-*.txt"))]
    both = sorted(line for seen in lines for line in seen)
    assert len(both) == len(set(both)) == 7 * 4
    times = Counter(line.split()[1] for line in both)
    for people in (0, 1):
        counts = [times[f"sample-{number:04d}"] for number in range(people, 13, 2)]
        assert max(counts) - min(counts) <= 1
    assert min(len(seen) for seen in lines) > 2


@pytest.mark.parametrize("train_set", ["lora", "new_parts", "new_parts_and_lora"])
def test_a_lora_is_exported_as_parts_that_go_on_the_base(base, shards, tmp_path, train_set):
    """The base's weights are not learned, and the export is read back with what was."""
    run(settings(base, tmp_path, phases="1", train_set=train_set, rank=2), shards)
    model = load_expert(tmp_path / "model", str(base), "transformer")
    learned = dict(model.named_parameters())
    first = from_wan(base, subfolder="transformer", vit_dim=VIT_DIM)
    moved = [not torch.equal(learned[name], p) for name, p in first.named_parameters()
             if name in NEW_PARTS]  # fmt: skip
    assert moved == [train_set != "lora"] * len(NEW_PARTS)
    adapter = [p.any() for name, p in learned.items() if ".lora_B." in name]
    assert any(adapter) == (train_set != "new_parts")


@pytest.mark.parametrize("kind", ["fp8", "nf4"])
def test_a_lora_learns_on_a_quantised_base(shards, tmp_path, kind):
    """As it would on the whole one, but for rounding, and stopped in between to the same bits."""
    wide = save_base(tmp_path / "wan", num_attention_heads=4, attention_head_dim=16, ffn_dim=64)
    how = settings(wide, tmp_path / "whole", phases="3", train_set="new_parts_and_lora", rank=2)
    run(how, shards)
    small, asked = replace(how, out=tmp_path / "small", quantize=kind), iter(range(1, 9))
    assert run(small, shards, stop=lambda: next(asked) == 2) == 2
    run(small, shards, resume=True)
    other = replace(small, out=tmp_path / "other")
    run(other, shards)
    assert losses(small.out) == losses(other.out)
    assert losses(small.out) != losses(how.out)
    assert losses(small.out) == pytest.approx(losses(how.out), rel=0.02)
    moved = [torch.cat([p.flatten() for n, p in dict(
        load_expert(one.out / "model", str(wide), "transformer").named_parameters()
    ).items() if ".lora_B." in n]) for one in (how, small)]  # fmt: skip
    assert torch.nn.functional.cosine_similarity(*moved, dim=0) > 0.8
    with pytest.raises(ValueError, match="--quantize"):
        replace(small, train_set="full")


def test_both_experts_learn_in_their_own_noise_range(shards, tmp_path, monkeypatch):
    """First the high-noise one, then the other; both are exported and make sample videos.

    Captions are as long there as in training, with and without text.
    """
    lengths, denoise = set(), HarmoViewPipeline._denoise

    def seen(pipeline, latents, conditions, *more):
        lengths.update(words.shape[1] for words, _ in conditions.values())
        return denoise(pipeline, latents, conditions, *more)

    monkeypatch.setattr(HarmoViewPipeline, "_denoise", seen)
    base = save_base(tmp_path / "wan", "A14B")
    out = tmp_path / "out"
    how = settings(base, out, phases="1", steps=1, ema=0.0, samples_every=1, sample_steps=3)
    assert run(how, shards) == 2
    high, low = weights(out), weights(out, "transformer_2")
    assert not torch.equal(high["proj_out.weight"], low["proj_out.weight"])
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["expert"] for record in records] == ["high", "low"]
    assert lengths == {TEXT}
    assert [path.name for path in sorted((out / "samples").iterdir())] == [
        "00000001.mp4", "00000002.mp4"
    ]  # fmt: skip


def test_validation_tells_views_noise_levels_and_references_apart(base, shards, tmp_path):
    """At the end of the phase, in metrics.jsonl."""
    run(settings(base, tmp_path, phases="1", steps=1, validate_every=100), shards)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    kinds = {name.partition("/")[0] for name in record["validation"]}
    assert kinds == {"views", "noise", "references"}
    assert {f"noise/{name}" for name in bin_names()} <= record["validation"].keys()
    assert {"references/own", "references/other", "references/none"} <= record["validation"].keys()
    assert {"step", "phase", "expert", "loss", "lr", "grad_norm", "samples", "seconds"} <= set(
        record
    )


def test_metrics_tell_the_noise_of_a_step_and_its_losses_apart(whole):
    """The ranges together are the step: as many samples, and their mean loss is its loss."""
    for record in map(json.loads, (whole / "metrics.jsonl").read_text().splitlines()):
        ranges = record["noise"].values()
        assert sum(one["samples"] for one in ranges) == record["samples"]
        mean = sum(one["samples"] * one["loss"] for one in ranges) / record["samples"]
        assert mean == pytest.approx(record["loss"])


def test_a_run_is_described_before_it_begins(base, shards, tmp_path):
    """Samples by size and people, and for every expert how much noise of each range it sees."""
    lines = describe(settings(base, tmp_path), EncodedShards(shards))
    assert lines[0].startswith("13 samples: 9 with views")
    assert "  9 frames of 32x32, 1 person: 7 samples" in lines
    assert "  9 frames of 32x32, 2 people: 6 samples" in lines
    (noise,) = [line for line in lines if "shift 2:" in line]
    assert all(name in noise for name in bin_names())


@pytest.mark.slow
def test_looking_at_the_model_does_not_change_what_it_learns(base, shards, tmp_path, whole):
    """Validation and sample videos in between: losses and weights bit for bit as without."""
    often = {"validate_every": 4, "samples_every": 2, "sample_steps": 1}
    assert run(settings(base, tmp_path, **often), shards) == 6
    assert losses(tmp_path) == losses(whole)
    own, other = weights(tmp_path), weights(whole)
    assert all(torch.equal(own[name], other[name]) for name in other)


def test_what_cannot_go_on_is_refused(base, shards, tmp_path):
    """A folder in use without --resume, other settings with it, too many workers."""
    check_and_claim(settings(base, tmp_path), shards, 1, resume=False).record()
    with pytest.raises(UserError, match="--resume"):
        check_and_claim(settings(base, tmp_path), shards, 1, resume=False)
    with pytest.raises(UserError, match=r"phase 1\.learning_rate"):
        check_and_claim(settings(base, tmp_path, learning_rate=1.0), shards, 1, resume=True)
    with pytest.raises(UserError, match="--validation-samples"):  # the others train
        check_and_claim(settings(base, tmp_path, validation_samples=1), shards, 1, resume=True)
    with pytest.raises(UserError, match="does not divide among 3"):
        check_and_claim(settings(base, tmp_path / "other"), shards, 3, resume=False)
    for workers, wrong, said in (
        (1, {"context_parallel": 2}, "does not divide 1 workers"),
        (3, {"context_parallel": 3}, "does not divide the 2 heads"),
        (2, {"context_parallel": 2, "absent_views": "sequential"}, "a length of its own"),
    ):
        with pytest.raises(UserError, match=said):
            check_and_claim(settings(base, tmp_path / "other", **wrong), shards, workers,
                            resume=False)  # fmt: skip


def test_later_phases_may_have_other_lengths_and_rates_when_a_run_goes_on(base, shards, tmp_path):
    """The one that has begun may not, nor may a later one show other views; each is named."""
    asked = iter(range(1, 100))
    how = settings(base, tmp_path, phase=tables(3, 3), phases=None, steps=None)
    assert run(how, shards, stop=lambda: next(asked) == 2) == 2
    for wrong, said in (
        (tables(4, 3), r"phase 1\.steps"),
        (tables(3, 3, views={"7": 1}), r"phase 2\.views"),
        (tables(3), None), (tables(3, 3, 2), None), (tables(3, 1, learning_rate=1e-3), None),
    ):  # fmt: skip
        again = replace(how, phase=wrong)
        if said is None:
            check_and_claim(again, shards, 1, resume=True)
            continue
        with pytest.raises(UserError, match=said):
            check_and_claim(again, shards, 1, resume=True)
    assert run(replace(how, phase=tables(3, 1)), shards, resume=True) == 4
    with pytest.raises(UserError, match=r"phase 2\.steps"):
        check_and_claim(how, shards, 1, resume=True)


def tables(*steps, **last):
    """Phases of these lengths in JSON; `last` changes the last of them."""
    made = [{"data": "multi_view", "steps": count, "views": {"1": 1}} for count in steps]
    made[-1] |= last
    return tuple(map(json.dumps, made))


def test_phases_have_folders_of_their_own(base, shards, tmp_path):
    """A large one of single views first; the other phase learns from the command's SHARDS."""
    single, out = tmp_path / "single", tmp_path / "out"
    write_encoded(single, [8], views=[3])
    wrong = settings(base, tmp_path / "a", phase=tables(1, shards=str(single)), phases=None)
    with pytest.raises(UserError, match="single: no sample there has more than one view"):
        run(wrong, shards)
    first = {"data": "single_view", "steps": 2, "views": {"1": 1}, "shards": [
        {"path": str(single), "weight": 0.5}]}  # fmt: skip
    how = settings(base, out, phase=(json.dumps(first), *tables(1)), phases=None, steps=None)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExpertLearner", recording(tmp_path))
        run(how, shards)
    seen = [int(line[-4:]) for line in (tmp_path / "seen-0.txt").read_text().splitlines()]
    assert len(seen) == 12
    assert max(seen[:8]) < 8
    assert all(number % 4 for number in seen[8:])  # multi-view samples of the other folder
    with pytest.raises(UserError, match=r"phase 1\.shards"):
        check_and_claim(replace(how, phase=(*tables(2), *tables(1))), shards, 1, resume=True)


@pytest.mark.parametrize("train_set", ["full", "new_parts_and_lora"])
def test_a_run_does_not_depend_on_the_size_of_its_micro_batches(base, shards, tmp_path, train_set):
    """One pass of four, or four of one, whose gradients add up: the same losses to rounding."""
    found = []
    for size in (1, 4):
        out = tmp_path / str(size)
        how = settings(base, out, phases="3", micro_batch=size, train_set=train_set, rank=2)
        run(how, shards)
        found.append(losses(out))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][2] != pytest.approx(found[0][0], rel=1e-2)


def test_each_kind_of_weight_learns_at_its_own_rate(base, shards, tmp_path):
    """At a rate of nearly nothing Wan's weights stay while the new parts move, and the reverse."""
    still = {"phases": None, "steps": None, "learning_rate": None, "weight_decay": 0.0, "ema": 0.0}
    first = dict(from_wan(base, subfolder="transformer", vit_dim=VIT_DIM).named_parameters())
    for kind, moves in (("learning_rate", False), ("new_parts_learning_rate", True)):
        rates = {"learning_rate": 1e-2, "new_parts_learning_rate": 1e-2, kind: 1e-30}
        out = tmp_path / kind
        run(settings(base, out, phase=tables(1, **rates), warmup=0, **still), shards)
        learned = weights(out)
        assert torch.equal(learned["proxy_token"], first["proxy_token"]) == moves
        assert torch.equal(learned["proj_out.weight"], first["proj_out.weight"]) != moves


def test_shards_of_another_base_are_refused(shards, tmp_path):
    """Before a model is loaded: 16 channels are not for TI2V-5B."""
    five = save_base(tmp_path / "wan", "5B")
    with pytest.raises(UserError, match="16 channels, not 48; encode again with --base"):
        check_and_claim(settings(five, tmp_path / "out"), shards, 1, resume=False)


def test_the_tower_is_the_one_that_encoded_whatever_its_folders_name(base, tmp_path):
    """Another one is refused, although it is as wide; the model notes which one it needs."""
    own, other = tower(), tower()
    with torch.no_grad():
        other.patch_embed.proj.weight.mul_(2)
    for name, one in (("moved", own), ("other", other)):
        one.save_pretrained(tmp_path / name)
    noted = FrontalEncoder(own, 0, 56).fingerprint
    write_encoded(tmp_path / "encoded", [4], tower=noted)
    how = settings(base, tmp_path / "out", phases="1", steps=1, vit=str(tmp_path / "other"))
    with pytest.raises(UserError, match="another vision tower"):
        check_and_claim(how, str(tmp_path / "encoded"), 1, resume=False)
    run(replace(how, vit=str(tmp_path / "moved")), str(tmp_path / "encoded"))
    config = json.loads((how.out / "model/transformer/config.json").read_text())
    assert config["vit_tower"] == noted


def test_samples_are_made_with_an_expert_that_knows_the_features(tmp_path):
    """Not with one of another run that was trained on another tower's."""
    base = save_base(tmp_path / "wan", "A14B")
    save_parts(from_wan(base, subfolder="transformer", vit_tower="1"), tmp_path / "m/transformer")
    write_encoded(tmp_path / "encoded", [4], tower="2")
    how = settings(base, tmp_path / "out", sample_with=tmp_path / "m")
    with pytest.raises(UserError, match=r"--sample-with .* another vision tower"):
        check_and_claim(how, str(tmp_path / "encoded"), 1, resume=False)


@pytest.mark.parametrize("kind", [RuntimeError, UserError])
def test_the_death_of_a_reader_is_told_wherever_torch_tells_it(base, shards, tmp_path, kind):
    """From a signal's handler, be it amid a checkpoint, whose failure has it as its reason."""

    def told():
        raise kind("no checkpoint (DataLoader worker (pid 7) is killed by signal: Killed. ); go on")

    with pytest.raises(UserError, match="--loader-workers"):
        run(settings(base, tmp_path, phases="1"), shards, stop=told)


@pytest.mark.slow
def test_a_reader_that_is_killed_is_a_sentence(base, shards, tmp_path):
    """Not a traceback from wherever the trainer was; the run then goes on."""
    how = settings(base, tmp_path, phases="1", steps=9, loader_workers=1, checkpoint_every=1)
    before = set(multiprocessing.active_children())

    def killed():
        if checkpoints(tmp_path / "checkpoints"):  # from the second step on
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
                time.sleep(60)  # in which torch tells
        return False

    with pytest.raises(UserError, match="--loader-workers"):
        run(how, shards, stop=killed)
    assert run(replace(how, loader_workers=0), shards, resume=True) == 9


def test_a_damaged_first_sample_is_skipped_as_any_other(base, tmp_path):
    """It is not what tells how the data were encoded."""
    encoded = tmp_path / "encoded"
    write_encoded(encoded, [6])
    with (encoded / "000000.tar").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    how = settings(base, tmp_path / "out", phases="1", holdout=0.0)
    assert run(how, str(encoded)) == 3
    records = [json.loads(line) for line in (how.out / "metrics.jsonl").read_text().splitlines()]
    assert sum(record["damaged"] for record in records) >= 1


def test_a_run_starts_from_an_exported_model(base, shards, tmp_path, whole):
    """With --init and no step that matters, the export is the model that was given, all of it."""
    still = {"phases": "1", "steps": 1, "learning_rate": 1e-30, "ema": 0.0, "weight_decay": 0.0}
    run(settings(base, tmp_path, init=whole / "model", **still), shards)
    own, other = weights(tmp_path), weights(whole)
    assert all(torch.equal(own[name], other[name]) for name in other)


@pytest.mark.parametrize("then", ["new_parts_and_lora", "full"])
def test_a_run_starts_from_exported_parts(base, shards, tmp_path, then):
    """The adapter learns on as one, or is added to the weights: the same model either way."""
    parts = settings(base, tmp_path / "a", phases="1", train_set="new_parts_and_lora", rank=2)
    run(parts, shards)
    still = {"steps": 1, "learning_rate": 1e-30, "ema": 0.0, "weight_decay": 0.0}
    how = replace(parts, out=tmp_path / "b", init=tmp_path / "a/model", train_set=then, **still)
    run(how, shards)
    before, after = (load_expert(tmp_path / one / "model", str(base), "transformer").eval()
                     for one in "ab")  # fmt: skip
    with torch.no_grad():
        expected = before(**tiny.inputs()).sample
        assert torch.allclose(after(**tiny.inputs()).sample, expected, atol=1e-5)
        plain = from_wan(base, subfolder="transformer", vit_dim=VIT_DIM)
        assert not torch.allclose(plain(**tiny.inputs()).sample, expected, atol=1e-3)


def test_a_model_that_does_not_fit_is_not_started_from(base, shards, tmp_path, whole):
    """Of other settings, without any weights, whole under a LoRA, or of another rank."""
    how = settings(base, tmp_path / "out", phases="1", init=whole / "model")
    for wrong, said in (
        ({"no_jump_rope": True}, "jump_rope is True, not False"),
        ({"init": tmp_path}, "holds no trained model"),
        ({"train_set": "lora"}, "--train-set full"),
    ):
        with pytest.raises(UserError, match=said):
            run(replace(how, **wrong), shards)
    run(replace(how, out=tmp_path / "parts", init=None, train_set="lora", rank=2, steps=1), shards)
    with pytest.raises(UserError, match="--rank 2 --alpha 2"):
        run(replace(how, init=tmp_path / "parts/model", train_set="lora", rank=4), shards)


def test_an_exported_model_is_no_base(base, whole, shards, tmp_path):
    """It is named, and --init is what takes it; its trained parts would be drawn anew."""
    with pytest.raises(UserError, match="--init"):
        check_and_claim(settings(whole / "model", tmp_path), shards, 1, resume=False)


def test_features_in_the_shards_mean_mfi_unless_it_is_left_out(base, shards, tmp_path, whole):
    """Without a word of the tower, whose name the model keeps; --no-mfi and --vit none leave it."""
    config = json.loads((whole / "model/transformer/config.json").read_text())
    assert (config["vit_dim"], config["vit_name"]) == (VIT_DIM, "vit")
    for number, way in enumerate(({"no_mfi": True}, {"vit": "none"})):
        how = settings(base, tmp_path / str(number), phases="1", steps=1, **way)
        run(how, shards)
        config = json.loads((how.out / "model/transformer/config.json").read_text())
        assert (config["vit_dim"], config["vit_name"]) == (None, None)
    with pytest.raises(UserError, match="mfi"):
        check_and_claim(replace(how, vit=None), shards, 1, resume=True)
