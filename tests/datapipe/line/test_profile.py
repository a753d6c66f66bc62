"""The profile names what bounds a line, whatever it measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import BadSample, UserError
from datapipe.line.profile import Profile, StageTime, bottlenecks, sentence
from datapipe.record import Sample, Source
from datapipe.stage import Resources

CPU, GPU = Resources(num_cpus=1), Resources(num_gpus=1, threads=3)
SECONDS = st.floats(0.01, 100.0)


class Named:
    """A stage that says its name, or refuses."""

    def __init__(self, name, resources=CPU, refuses=()):
        self.name, self.resources, self.refuses = name, resources, refuses

    def setup(self):
        pass

    def __call__(self, sample):
        if sample.key in self.refuses:
            raise BadSample("no_face", "nobody")
        return replace(sample, caption=f"{sample.caption}{self.name} ")


def line(resources=CPU):
    return [Named("prepare"), Named("synthesize", resources), Named("score")]


def recorded(prepare, synthesize, score, gpu=0.0):
    """Ten samples that took so much each."""
    taken = {
        "prepare": StageTime(10, 10 * prepare, 10 * prepare),
        "synthesize": StageTime(10, 10 * synthesize, 0.0, 10 * gpu),
        "score": StageTime(10, 10 * score, 10 * score),
    }
    return Profile(10, taken)


@given(st.tuples(SECONDS, SECONDS, SECONDS), st.integers(1, 64))
def test_on_cpus_alone_the_slowest_stage_bounds(seconds, cpus):
    """It is named, and the rate is what all workers do together."""
    stages = line()
    (side,) = bottlenecks(recorded(*seconds), stages, cpus, 0)
    slowest = stages[seconds.index(max(seconds))].name
    assert side.stage == slowest
    assert sentence([side]).startswith(f"{slowest} bounds the line: {side.count} CPU workers")
    assert side.rate == pytest.approx(side.count / sum(seconds))


@given(st.tuples(SECONDS, SECONDS, SECONDS), st.integers(2, 256), st.integers(1, 64))
def test_the_side_that_gives_less_bounds(seconds, cpus, gpus):
    """GPUs or CPUs, whichever the recorded seconds and their numbers leave behind."""
    prepare, synthesize, score = seconds
    found = bottlenecks(recorded(*seconds, gpu=synthesize), line(GPU), cpus, gpus)
    bound, other = found
    assert bound.rate <= other.rate
    by_gpu = next(side for side in found if side.on_gpu)
    by_cpu = next(side for side in found if not side.on_gpu)
    assert by_gpu.rate == pytest.approx(gpus / synthesize)
    assert by_cpu.rate == pytest.approx(by_cpu.count / (prepare + score))
    kind = "GPU" if bound.on_gpu else "CPU"
    assert f"Add {kind}s" in sentence(found)


def test_a_stage_made_slow_is_the_bound():
    """The same line twice; only the recorded seconds differ."""
    slow_views = bottlenecks(recorded(1, 20, 1, gpu=18), line(GPU), cpus=16, gpus=2)
    slow_videos = bottlenecks(recorded(30, 20, 1, gpu=18), line(GPU), cpus=2, gpus=8)
    assert sentence(slow_views) == (
        "synthesize bounds the line: 2 GPU workers at 18.00 s a sample give 6.7 samples a minute "
        "at most, and 100% of their time is synthesize's. The CPU workers are at work 1% of the "
        "time. Add GPUs: with 144 of them both are full."
    )
    assert sentence(slow_videos).startswith("prepare bounds the line: 2 CPU workers at 31.00 s")
    assert "Add CPUs: with 14 of them both are full." in sentence(slow_videos)


def test_samples_that_stop_early_cost_the_later_stages_nothing():
    """A stage's seconds are of every video of the corpus, not only of those that reach it."""
    stages = [Named("prepare", refuses={"k1", "k2", "k3"}), Named("synthesize"), Named("score")]
    profile = Profile()
    for number in range(4):
        profile.add(stages, Sample(f"k{number}", Source("x.mp4", ".mp4")))
    assert profile.outcomes == {"candidate": 1, "rejected": 3}
    assert [taken.samples for taken in profile.taken.values()] == [4, 1, 1]
    profile.taken["score"].wall = 8.0
    (side,) = bottlenecks(profile, stages, 1, 0)
    assert side.seconds["score"] == 2.0
    assert side.stage == "score"


def test_videos_that_the_listing_stopped_bound_nothing():
    """There is no time to share out: the message says how many there were."""
    profile = Profile()
    for number in range(3):
        lost = Sample(f"k{number}", Source("x.mp4", ".mp4")).stop("error", "lost", "not there")
        profile.add(line(), lost)
    with pytest.raises(UserError, match="none of the 3 videos reached a stage"):
        bottlenecks(profile, line(), 4, 0)


def test_a_cluster_without_gpus_cannot_run_a_line_that_needs_one():
    """The message is sizing's own."""
    with pytest.raises(UserError, match="the line needs 1 GPUs"):
        bottlenecks(recorded(1, 1, 1), line(GPU), 4, 0)
