"""Flow matching: noise levels follow their law inside an expert's range; the target is exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harmoview import flow
from harmoview.flow import NoiseSchedule

KINDS = pytest.mark.parametrize("kind", ["logit_normal", "uniform"])


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@KINDS
@pytest.mark.parametrize("shift", [1.0, 5.0, 12.0])
@pytest.mark.parametrize("expert", ["high", "low", None])
def test_levels_follow_the_shifted_density_cut_to_the_range(kind, shift, expert):
    """Drawing inside the range equals drawing everywhere and rejecting (Kolmogorov-Smirnov)."""
    low, high = flow.expert_range(expert)
    inside = NoiseSchedule(kind, shift, low=low, high=high).sigma(flow.strata(4000, draw()))
    assert inside.min() >= low
    assert inside.max() <= high
    level = torch.rand(200_000, generator=draw(1), dtype=torch.float64)
    if kind == "logit_normal":
        level = torch.sigmoid(torch.randn(200_000, generator=draw(1), dtype=torch.float64))
    everywhere = shift * level / (1 + (shift - 1) * level)
    rejected = everywhere[(everywhere >= low) & (everywhere < high)]
    assert stats.ks_2samp(inside.numpy(), rejected.numpy()).pvalue > 0.01


def test_the_share_above_the_boundary_is_the_references():
    """Uniform levels put 12.5 %, 30 %, 41.7 % and 63.2 % above 0.875 at shifts 1, 3, 5 and 12."""
    for shift, share in ((1, 0.125), (3, 0.3), (5, 0.417), (12, 0.632)):
        sigma = NoiseSchedule("uniform", shift).sigma(flow.strata(20_000, draw()))
        assert float((sigma >= flow.BOUNDARY).float().mean()) == pytest.approx(share, abs=0.001)
        assert NoiseSchedule("uniform", shift).share(flow.BOUNDARY, 1) == pytest.approx(
            share, abs=0.001
        )


@KINDS
@given(st.integers(1, 64), st.floats(0.5, 12), st.integers(0, 99))
def test_the_levels_of_a_step_cover_their_distribution(kind, count, shift, seed):
    """One in each of `count` parts of equal probability, in random order; the seed decides all."""
    schedule = NoiseSchedule(kind, shift)
    sigma = schedule.sigma(flow.strata(count, draw(seed)))
    assert torch.equal(sigma, schedule.sigma(flow.strata(count, draw(seed))))
    ends = schedule.sigma(torch.arange(count + 1).double() / count).tolist()
    for level, low, high in zip(sorted(sigma.tolist()), ends[:-1], ends[1:], strict=True):
        assert low - 1e-6 <= level <= high + 1e-6


def test_the_shift_of_training_is_2_at_480p_and_grows_with_the_picture():
    """3.0 at 720p, 2 below 480p; one that is given stays; the low-noise expert sees low noise."""
    large = 21 * 45 * 80
    assert NoiseSchedule().at(flow.TOKENS_480P).shift == 2
    assert NoiseSchedule().at(100).shift == 2
    assert NoiseSchedule().at(large).shift == pytest.approx(3.04, abs=0.01)
    assert NoiseSchedule(shift=5).at(large).shift == 5
    low, high = flow.expert_range("low")
    ours = NoiseSchedule(low=low, high=high).at(flow.TOKENS_480P)
    before = NoiseSchedule(shift=12, low=low, high=high)
    assert before.share(0, 0.3) < 0.002
    assert ours.share(0, 0.3) > 0.06


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.sampled_from(["high", "low", None]))
def test_shares_of_neighbouring_ranges_add_up(ends, expert):
    """To the whole, whatever their limits, inside and outside the expert's own range."""
    low, high = flow.expert_range(expert)
    schedule = NoiseSchedule(low=low, high=high)
    limits = [0.0, *sorted(ends), 1.0]
    shares = [schedule.share(one, other) for one, other in pairwise(limits)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= -1e-12


def test_every_level_lies_in_the_range_that_bears_its_name():
    """The lower limit belongs to a range, the upper one to the next; 1 to the last."""
    sigma = torch.tensor([0.0, 0.29, 0.3, 0.874, 0.875, 0.95, 1.0])
    names = [flow.bin_names()[k] for k in flow.bin_of(sigma)]
    assert names == [
        "0-0.3", "0-0.3", "0.3-0.5", "0.7-0.875", "0.875-0.95", "0.95-1", "0.95-1"
    ]  # fmt: skip


@given(st.floats(0, 1), st.floats(0.1, 20))
def test_unshifted_undoes_shifted(level, shift):
    """The shift is a bijection of 0..1 that keeps its ends."""
    u = torch.tensor(level, dtype=torch.float64)
    assert torch.allclose(flow.unshifted(flow.shifted(u, shift), shift), u, atol=1e-9)
    assert flow.shifted(torch.tensor(1.0), shift) == pytest.approx(1.0)


def test_the_shift_is_the_schedulers():
    """diffusers' scheduler with shift 5 visits the levels of `shifted`."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    plain = torch.linspace(1.0, 0.001, 1000)
    assert torch.allclose(scheduler.sigmas[:1000], flow.shifted(plain, 5.0), atol=1e-6)


def test_following_the_true_velocity_removes_the_noise():
    """From x_sigma, a step of sigma against the velocity is the clean sample; its loss is 0."""
    clean, noise = torch.randn(2, 3, 4, 5, 6, 7, generator=draw())
    sigma = torch.tensor([0.2, 0.5, 1.0])
    x = flow.noisy(clean, noise, sigma)
    v = flow.velocity(clean, noise)
    assert torch.allclose(x - sigma.view(-1, 1, 1, 1, 1) * v, clean, atol=1e-5)
    assert torch.equal(flow.loss(v, clean, noise), torch.zeros(3))
    assert torch.allclose(flow.loss(v + 2, clean, noise), torch.full((3,), 4.0), atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"distribution": "cosine"}, {"shift": 0.0}, {"std": 0.0}, {"low": 0.9, "high": 0.1}]
)
def test_impossible_schedules_are_refused(wrong):
    """The message names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NoiseSchedule(**wrong)
