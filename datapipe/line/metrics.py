"""The line's figures for Prometheus, through Ray's own metrics.

They are the driver's, of what came out. `docs/observe.md` and `deploy/grafana/harmoview.json` show
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from datapipe.record import Sample, View

SAMPLES = "harmoview_samples"
SECONDS = "harmoview_stage_seconds"
VIEWS = "harmoview_views"
DETECTED = "harmoview_views_detected"
IN_LINE = "harmoview_samples_in_line"
SPENT = "harmoview_worker_seconds"
GPU_BUSY = "harmoview_gpu_busy_seconds"
GPU_HELD = "harmoview_gpu_held_seconds"

COUNTERS = {
    SAMPLES: (("outcome", "reason"), "Samples that came out, by outcome and reason."),
    SPENT: (("stage",), "Seconds that samples took in a stage; exact, unlike the histogram's sum."),
    VIEWS: (("yaw",), "Views that the engine made, by yaw."),
    DETECTED: (("yaw",), "Of them, those in which a face was found."),
    GPU_BUSY: (("worker",), "Seconds in which a worker had its GPU at work."),
    GPU_HELD: (("worker",), "Seconds since a GPU worker was ready."),
}
"""The labels of each besides the run, and what it counts; Prometheus adds `_total` to the name."""
BOUNDARIES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
"""Boundaries of the histogram of seconds. Ray hands on how many fell between two of them; its sum
is that of their middles."""


class LineMetrics:
    """Counts for as long as the driver lives; needs a connection to Ray."""

    def __init__(self, run: str) -> None:
        from ray.util import metrics

        tags = {"run": run}
        self._counters: dict[str, Any] = {
            name: metrics.Counter(name, text, ("run", *labels)).set_default_tags(tags)
            for name, (labels, text) in COUNTERS.items()
        }
        self._seconds: Any = metrics.Histogram(
            SECONDS, "Seconds of a sample in a stage.", BOUNDARIES, ("run", "stage")
        ).set_default_tags(tags)
        self._in_line: Any = metrics.Gauge(
            IN_LINE, "Samples listed whose outcome is not known yet.", ("run",)
        ).set_default_tags(tags)
        self._waiting: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(float)
        self._gpus: dict[str, tuple[float, float]] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Count samples that came out; Ray hears of them with the next `flush`, of their seconds at
        once.
        """
        for sample in samples:
            reason = sample.stopped.reason if sample.stopped else ""
            self._waiting[SAMPLES, (sample.outcome, reason)] += 1
            for stage, seconds in sample.seconds.items():
                self._seconds.observe(seconds, {"stage": stage})
                self._waiting[SPENT, (stage,)] += seconds
            for view in _made(sample):
                yaw = (f"{view.yaw:+d}",)
                self._waiting[VIEWS, yaw] += 1
                if view.scores is not None and view.scores.detected:
                    self._waiting[DETECTED, yaw] += 1

    def gpu(self, worker: str, busy: float, held: float) -> None:
        """Count what a GPU worker tells of itself: seconds at work, seconds since it was ready."""
        known_busy, known_held = self._gpus.get(worker, (0.0, 0.0))
        if held > known_held:  # of two blocks that overtook each other the later one counts
            self._gpus[worker] = busy, held
            for name, seconds in ((GPU_BUSY, busy - known_busy), (GPU_HELD, held - known_held)):
                if seconds > 0:
                    self._counters[name].inc(seconds, {"worker": worker})

    def gpu_share(self) -> float | None:
        """Of the time in which workers held a GPU, how much it was at work; None without one."""
        held = sum(held for _, held in self._gpus.values())
        return sum(busy for busy, _ in self._gpus.values()) / held if held else None

    def in_line(self, samples: int) -> None:
        """Set how many samples are listed and have no outcome yet."""
        self._in_line.set(samples)

    def flush(self) -> None:
        """Tell Ray, which tells whoever scrapes its node within some seconds."""
        for (name, values), amount in self._waiting.items():
            self._counters[name].inc(amount, dict(zip(COUNTERS[name][0], values, strict=True)))
        self._waiting.clear()


def _made(sample: Sample) -> Iterator[View]:
    """The views that an engine made."""
    for identity in sample.identities:
        yield from (view for view in identity.views if view.source == "synthesised")
