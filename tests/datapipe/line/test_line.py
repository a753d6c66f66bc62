"""The line gives the same samples on Ray as in this process, and loses none it need not lose."""

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import pytest

from datapipe.errors import BadSample, UserError
from datapipe.line.line import LocalLine, RayLine
from datapipe.record import Sample, Source
from datapipe.stage import Resources


def on_ray(test):
    """Marks for a test on the shared cluster."""
    return pytest.mark.ray(pytest.mark.usefixtures("cluster")(test))


@pytest.fixture(params=[LocalLine, pytest.param(RayLine, marks=pytest.mark.ray)])
def line(request):
    """Makes a line of given stages: in this process, or of one worker on the shared cluster."""
    if request.param is LocalLine:
        return LocalLine
    request.getfixturevalue("cluster")
    return partial(RayLine, workers=1)


@dataclass(frozen=True)
class Numbers:
    """A listing of n samples."""

    count: int

    def __call__(self):
        for number in range(self.count):
            yield Sample(f"k{number}", Source(f"{number}.mp4", ".mp4"))


@dataclass(frozen=True)
class Lost:
    """A listing of given samples."""

    samples: list

    def __call__(self):
        return self.samples


class Tag:
    """Appends its name to the caption; stumbles where it is told to."""

    resources = Resources(num_cpus=1)

    def __init__(self, name, *, bad=(), boom=(), full=(), kill=(), log=None, missing=False):
        self.name = name
        self.bad, self.boom, self.full, self.kill = bad, boom, full, kill
        self.log, self.missing = log, missing

    def setup(self):
        if self.missing:
            raise UserError("model file x.onnx is missing; run `harmoview models fetch`")

    def __call__(self, sample):
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{sample.key}\n")
        if sample.key in self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if sample.key in self.bad:
            raise BadSample("no_face", "no face in 32 frames")
        if sample.key in self.boom:
            raise RuntimeError("boom")
        if sample.key in self.full:
            raise UserError("cannot write: no space left on device")
        return replace(sample, caption=f"{sample.caption}{self.name} ")


def plain(samples):
    """Everything but the times and the text of tracebacks."""
    return sorted((s.key, s.caption, s.outcome, s.stopped and s.stopped.reason) for s in samples)


@pytest.mark.slow
@on_ray
def test_ray_equals_local_whatever_happens_to_samples():
    """Rejected and broken samples come out as rows on both, and hurt no other."""
    stages = [Tag("one", bad={"k3"}), Tag("two", boom={"k5"}), Tag("three")]
    local = list(LocalLine(stages).run(Numbers(12)))
    ray = list(RayLine(stages).run(Numbers(12)))
    assert plain(local) == plain(ray)
    outcomes = Counter(s.outcome for s in local)
    assert outcomes == {"candidate": 10, "rejected": 1, "error": 1}
    (broken,) = (s for s in ray if s.outcome == "error")
    assert "RuntimeError: boom" in broken.stopped.detail


def test_a_stopped_sample_passes_the_later_stages_untouched():
    """Its reason stays the first one."""
    stages = [Tag("one", bad={"k0"}), Tag("two", boom={"k0"})]
    (sample,) = LocalLine(stages).run(Numbers(1))
    assert (sample.stopped.reason, sample.caption) == ("no_face", "")


@pytest.mark.parametrize("fault", [{"missing": True}, {"full": {"k1"}}])
def test_what_concerns_the_run_stops_it_with_its_message(line, fault):
    """A missing model or a full disk is not the sample's fault."""
    with pytest.raises(UserError, match=r"missing|no space left"):
        list(line([Tag("one"), Tag("two", **fault)]).run(Numbers(4)))


@dataclass(frozen=True)
class Torn:
    """A listing that ends too early, as when a store stops answering."""

    fault: Exception

    def __call__(self):
        yield from Numbers(3)()
        raise self.fault


@pytest.mark.parametrize("fault", [OSError("store is gone"), UserError("store is gone")])
def test_a_listing_that_breaks_off_stops_the_run(line, fault):
    """What was not listed must not pass for samples that killed their worker."""
    with pytest.raises((OSError, UserError), match="store is gone"):
        list(line([Tag("one")]).run(Torn(fault)))


@on_ray
@pytest.mark.slow
def test_quick_samples_share_blocks_and_a_killer_among_them_takes_no_neighbour_along(tmp_path):
    """Its block is lost, found by its missing keys, and done again a sample at a time."""
    log = tmp_path / "calls"
    line = RayLine([Tag("one", kill={"k1500"}, log=log)])
    done = list(line.run(Numbers(2000)))
    lost = [s for s in Numbers(2000)() if s.key not in {d.key for d in done}]
    assert "k1500" in {s.key for s in lost}
    assert 1 < len(lost) < 200  # the block, and what waited at the worker
    done += line.retry(Lost(lost))
    assert sorted(s.key for s in Numbers(2000)() if s.key != "k1500") == sorted(s.key for s in done)
    assert Counter(log.read_text().split())["k1500"] == 3


class Met:
    """A stage of a GPU: on it, one sample waits until another is being prepared beside it."""

    name = "met"
    resources = Resources(num_gpus=1, threads=3)

    def setup(self):
        self.gpu, self.came, self.seen = threading.Lock(), threading.Condition(), 0

    def __call__(self, sample):
        with self.came:
            self.seen += 1
            mine = self.seen
            self.came.notify_all()
        with self.gpu, self.came:
            met = self.came.wait_for(lambda: self.seen > mine, timeout=60 * (mine < 12))
        time.sleep(0.6)  # so much work is a block of its own: none waits behind it in its thread
        return replace(sample, caption="met" if met else "alone")


class Single:
    """A stage that is not made for threads: says when it is entered twice at once."""

    name = "single"
    resources = Resources(num_gpus=0.25)

    def setup(self):
        self.inside = threading.Lock()

    def __call__(self, sample):
        if not self.inside.acquire(blocking=False):
            raise RuntimeError("entered twice")
        time.sleep(0.05)
        self.inside.release()
        return sample


@on_ray
def test_a_gpu_worker_prepares_the_next_sample_while_one_is_on_the_gpu(cluster):
    """And enters a stage that is not made for threads with one sample at a time."""
    cluster.add_node(num_cpus=0, num_gpus=1)
    done = list(RayLine([Tag("one"), Met(), Single()]).run(Numbers(12)))
    assert Counter(s.outcome for s in done) == {"candidate": 12}
    assert Counter(s.caption for s in done) == {"met": 11, "alone": 1}
