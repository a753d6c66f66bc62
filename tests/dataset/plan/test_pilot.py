"""Laws of pilots: drawn uniformly, the same each time, kept with the run."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.line import LocalLine
from datapipe.record import Sample, Source
from dataset.plan.pilot import (
    NAME,
    PilotRemaining,
    TimedStage,
    draw,
    load_pilot,
    save_pilot,
    untimed,
)
from tests.datapipe.fast_line import stages, work


def listing(count):
    return [Sample(f"k{n:04d}", Source(f"/videos/{n}.mp4", ".mp4", size=n)) for n in range(count)]


def drawn(samples, size, seed=0):
    return draw(samples, size, seed, lambda _: None)


@given(st.integers(1, 60), st.integers(1, 70), st.randoms())
def test_a_draw_depends_on_the_keys_alone(count, size, shuffler):
    """Not on the order of the listing; it counts the whole of it."""
    samples = listing(count)
    found = drawn(samples, size)
    shuffled = list(samples)
    shuffler.shuffle(shuffled)
    assert drawn(shuffled, size) == found
    assert found.videos == count
    assert len(set(found.keys)) == len(found.samples) == min(size, count)


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_larger_pilot_begins_with_the_smaller(small, large):
    """So raising --samples wastes nothing."""
    small, large = sorted((small, large))
    samples = listing(50)
    assert drawn(samples, large).first(small) == drawn(samples, small)


def test_every_video_is_drawn_equally_often():
    """Over seeds, each of 20 videos is among 5 in a quarter of the draws: chi-squared, 19 free."""
    samples = listing(20)
    counts = Counter(key for seed in range(2000) for key in drawn(samples, 5, seed).keys)
    # a draw without replacement varies less than a multinomial: by 15/19
    chi = sum((counts[sample.key] - 500) ** 2 / 500 for sample in samples) * 19 / 15
    assert chi < 43.8  # 0.1 %


def test_a_saved_pilot_is_the_one_drawn(tmp_path):
    """With captions and what the listing already stopped; a smaller one is part of it."""
    samples = listing(9)
    told = {"caption": "a smile ☺", "captions": ("a smile ☺", "b"), "caption_problem": "x"}
    samples.append(Sample("odd", Source("s3://b/x", ".mp4"), **told))
    samples.append(Sample("bad", Source("t.tar", ".mp4", "m", 5, 7)).stop("rejected", "x", "why"))
    random.Random(0).shuffle(samples)
    run, pilot = Folder(tmp_path), drawn(samples, 11, 3)
    assert load_pilot(run, 11, 3) is None
    save_pilot(run, pilot)
    assert load_pilot(run, 11, 3) == load_pilot(run, 500, 3) == pilot
    assert load_pilot(run, 4, 3) == pilot.first(4)
    assert load_pilot(run, 4, 4) is None
    save_pilot(run, pilot.first(5))
    assert load_pilot(run, 6, 3) is None


def test_a_damaged_pilot_is_named(tmp_path):
    """Not drawn again in silence."""
    run = Folder(tmp_path)
    run.put(NAME, b'{"format": 1, "seed": 0}')
    with pytest.raises(UserError, match=r"pilot\.json is damaged.*delete it"):
        load_pilot(run, 4, 0)


def test_only_what_the_ledger_lacks_is_left_of_a_pilot(tmp_path):
    """And nothing beside the pilot."""
    work(tmp_path / "run", 3, tmp_path / "calls", ray=False)
    chosen = tuple(listing(8)[1:6])
    todo = PilotRemaining("nowhere", str(tmp_path / "run"), segments=9, chosen=chosen)
    assert [s.key for s in todo()] == [s.key for s in todo.missing()] == ["k0003", "k0004", "k0005"]


def test_first_and_stored_samples_are_not_timed(tmp_path):
    """The first of a worker, and those whose candidate outlived a killed driver."""
    run = Folder(tmp_path / "run")
    samples = listing(6)

    def line():
        return LocalLine([TimedStage(s, run) for s in stages(run.url, tmp_path / "calls")])

    list(line().run(lambda: samples[:3]))
    for stage in ("prepare", "synthesize", "score"):
        assert untimed(run, stage) == {"k0000"}
    list(line().run(lambda: samples[5:] + samples[:2] + samples[4:5]))
    assert untimed(run, "prepare") == untimed(run, "synthesize") == {"k0000", "k0001", "k0005"}
    assert untimed(run, "score") == {"k0000", "k0005"}
