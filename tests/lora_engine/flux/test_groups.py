import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datapipe.files import Folder
from datapipe.record import YAWS
from lora_engine.flux.base import find_base
from lora_engine.flux.groups import (
    GroupSettings,
    draw,
    draw_resolution,
    load_group,
    shift_of,
    shifted_sigmas,
)
from lora_engine.flux.latents import LatentCache
from lora_engine.flux.prompts import tag

COVERAGE = {f"p{i}": YAWS if i % 3 else (-30, 0, 60) for i in range(11)}
SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15,
}  # fmt: skip


@given(st.integers(0, 200), st.integers(0, 3), st.integers(0, 5), st.booleans())
def test_prompt_reference_and_targets_of_a_group_agree(step, slot, seed, flip):
    """Whatever is drawn, after any shuffle: one person, one mirror, and the yaw that is shown."""
    drawn = draw(GroupSettings(4, 3, flip, seed, 3), COVERAGE, step, slot)
    ends = "/mirrored" if drawn.mirrored else ""
    of = f"{drawn.subject}/{drawn.variant}"
    assert drawn.reference == f"{of}/reference{ends}"
    assert drawn.variant in range(3)
    for asked, target in zip(drawn.yaws, drawn.targets, strict=True):
        on_disk = -asked if drawn.mirrored else asked
        assert target == f"{of}/{tag(on_disk)}{ends}"
        assert on_disk in COVERAGE[drawn.subject]
    assert len(set(drawn.frames)) == len(drawn.frames) == 3
    assert flip or not drawn.mirrored


def test_every_epoch_sees_every_person_once():
    """Eleven slots, eleven people, in another order each time."""
    settings = GroupSettings(1, 2, True, 7)
    epochs = [
        [draw(settings, COVERAGE, epoch * 11 + i, 0).subject for i in range(11)]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == sorted(COVERAGE) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_draw_is_a_function_of_its_position():
    """Nothing that was drawn before matters, so a resumed run or another process agrees."""
    settings = GroupSettings(3, 2, True, 1)
    forth = [draw(settings, COVERAGE, step, slot) for step in range(9) for slot in range(3)]
    back = [draw(settings, COVERAGE, step, slot) for step in range(8, -1, -1) for slot in (2, 1, 0)]
    assert forth == back[::-1]
    one = GroupSettings(1, 2, True, 1)
    assert [draw(one, COVERAGE, i, 0) for i in range(27)] == forth


def test_of_several_resolutions_each_step_has_one():
    """Each about equally often, whatever the step before had; a single one always."""
    drawn = [draw_resolution((512, 768, 1024), 3, step) for step in range(900)]
    assert all(240 <= drawn.count(side) <= 360 for side in (512, 768, 1024))
    assert drawn[17] == draw_resolution((512, 768, 1024), 3, 17)
    assert {draw_resolution((512,), 3, step) for step in range(9)} == {512}


def test_flip_is_even_and_yaws_are_covered():
    """Half of the groups are mirrored; every yaw and every variant comes about equally often."""
    settings = GroupSettings(1, 4, True, 0, 4)
    drawn = [draw(settings, {f"p{i}": YAWS for i in range(10)}, i, 0) for i in range(2000)]
    assert 900 < sum(one.mirrored for one in drawn) < 1100
    counts = [sum(yaw in one.yaws for one in drawn) for yaw in YAWS]
    assert min(counts) > 0.9 * max(counts)
    variants = [sum(one.variant == number for one in drawn) for number in range(4)]
    assert min(variants) > 0.8 * max(variants)


@pytest.fixture
def cache(tiny_base, people, tmp_path):
    from diffusers import AutoencoderKL

    base = find_base(str(tiny_base))
    cache = LatentCache(Folder(tmp_path / "latents"), base, "data", 64, True)
    autoencoder = AutoencoderKL.from_pretrained(tiny_base / "vae")
    cache.fill(autoencoder, [people["subject"](k, c) for k, c in (("p1", 60), ("p2", 190))])
    return cache


def test_a_mirrored_frame_is_the_picture_of_the_opposite_yaw(cache, people):
    """The synthetic person is symmetric: mirrored at +30 it is the frame at -30."""
    coverage = {"p1": YAWS, "p2": YAWS}
    settings = GroupSettings(1, 7, True, 0)
    groups = [load_group(cache, draw(settings, coverage, i, 0), 0.5) for i in range(20)]
    shown = {}
    for group in groups:
        for yaw, latents in zip(group.draw.yaws, group.targets, strict=True):
            shown.setdefault((group.draw.subject, yaw), {})[group.draw.mirrored] = latents
    for (subject, yaw), seen in shown.items():
        mirrored = seen[True]
        far = {y: (shown[subject, y][False] - mirrored).square().mean() for y in YAWS}
        assert min(far, key=far.get) == yaw


def test_a_group_is_loaded_the_same_every_time(cache):
    """Latents, noise and noise levels belong to the draw."""
    drawn = draw(GroupSettings(1, 3, True, 5), {"p1": YAWS}, 4, 0)
    one, other = (load_group(cache, drawn, 0.5) for _ in range(2))
    assert torch.equal(one.noise, other.noise)
    assert torch.equal(one.sigmas, other.sigmas)
    assert torch.equal(one.targets, other.targets)
    assert one.reference.shape == (1, 16, 16)


def test_noise_levels_follow_the_shifted_logit_normal():
    """A share of 0.5 lies under sigmoid(mu), and the shift is the sampler's for the resolution."""
    mu = shift_of(4096, SCHEDULER)
    assert mu == pytest.approx(1.15)
    assert shift_of(1024, SCHEDULER) == pytest.approx(0.63)
    sigmas = shifted_sigmas(20000, mu, torch.Generator().manual_seed(0)).numpy()
    assert np.median(sigmas) == pytest.approx(1 / (1 + np.exp(-mu)), abs=0.01)
    u = torch.sigmoid(torch.randn(20000, generator=torch.Generator().manual_seed(0))).numpy()
    assert np.allclose(sigmas, np.exp(mu) * u / (1 + (np.exp(mu) - 1) * u), atol=1e-6)


@pytest.mark.parametrize("empty", ["groups", "yaws", "variants"])
def test_empty_steps_are_refused(empty):
    """A step has groups, and a group has targets."""
    with pytest.raises(ValueError, match=empty):
        GroupSettings(**{"groups": 1, "yaws": 1, empty: 0}, flip=True, seed=0)
