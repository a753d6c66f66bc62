"""The line of a run: which stages with which models, from the settings of a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from datapipe.line.cluster import gpus_held
from datapipe.line.line import Line, LocalLine, RayLine
from datapipe.line.stages import PrepareUnlessStored, RealViews, Synthesize
from datapipe.line.worker import SampleBounds
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import YAWS
from datapipe.run.info import FILE, RunInfo, Scoring, library_versions
from datapipe.run.store import CandidateStore
from datapipe.stage import Resources, Stage
from filters.aesthetic import AestheticScorer, check_aesthetic, load_aesthetic
from filters.head_pose import SixDRepNet
from filters.rules_file import load_rules
from filters.score import RulesJudge, Score
from jobs.options.engine import EngineOptions, FaceSettings

Device = Literal["cpu", "cuda"]
FLAT = tyro.conf.arg(name="")
"""Leaves the name of a part out of its options' names."""
CPU = Resources(num_cpus=1.0)
GPU = Resources(num_gpus=1.0, threads=3)
"""What a FLUX worker holds. While one sample is on the GPU, another's views are encoded and stored,
and a third's reference is ready."""
GPU_SHARE = Resources(num_gpus=0.25)
"""What a Score worker holds: face models and pyiqa fill a small part of a GPU. After FLUX they
share its worker, and measure one sample while the next is on the GPU."""


@dataclass(frozen=True)
class ScorerSettings:
    """What measures the views, besides the face models."""

    aesthetic: Annotated[str, tyro.conf.arg(metavar="auto|nima|brisque|pyiqa:NAME")] = "auto"
    """nima and any other metric of pyiqa's that needs no reference picture (pyiqa:topiq_iaa, say);
    brisque, a score of distortion; auto: nima where it is on this machine, else brisque."""
    aesthetic_weights: Path | None = None
    """The checkpoint of pyiqa's metric; the default is pyiqa's cache, then its hub."""
    pose_model: Path | None = None
    """ONNX export of a 6DRepNet-style head pose network; the default is the face models' own."""
    device: Device = "cpu"
    """Where buffalo_l, pyiqa and the pose model measure views; prepare always works on the CPU."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_aesthetic(self.aesthetic)
        if self.aesthetic == "brisque" and self.aesthetic_weights is not None:
            raise ValueError("--aesthetic-weights belongs to a metric of pyiqa, not to brisque")


@dataclass(frozen=True)
class WantedViews:
    """Which views are made."""

    yaws: tuple[int, ...] = YAWS
    """Degrees of the views; positive when the nose points to image right."""
    seed: int = 0
    """Every view's own seed is a hash of it, the key or picture, the identity and the yaw."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if not self.yaws or len(set(self.yaws)) != len(self.yaws):
            raise ValueError(f"--yaws needs different yaws, not {self.yaws}")
        if any(abs(yaw) > 90 for yaw in self.yaws):
            raise ValueError(f"--yaws must lie between -90 and 90, not {self.yaws}")


@dataclass(frozen=True)
class LineSettings:
    """Everything that shapes candidates and their scores."""

    engine: Annotated[EngineOptions, FLAT] = field(default_factory=EngineOptions)
    views: Annotated[WantedViews, FLAT] = field(default_factory=WantedViews)
    faces: Annotated[FaceSettings, FLAT] = field(default_factory=FaceSettings)
    score: Annotated[ScorerSettings, FLAT] = field(default_factory=ScorerSettings)
    prepare: PrepareSettings = field(default_factory=PrepareSettings)
    frontal: Literal["synthesised", "reference"] = "synthesised"
    """The view at 0: made by the engine, which shows early where it fails a person, or the
    reference itself, a seventh of the work less."""
    real_views: RealViews = "keep"
    """Frames of the video that show a person at one of the yaws: kept and measured beside the
    synthesised views (keep), taken in place of those that would be made where the rules pass them
    (instead), or not looked for (off)."""
    attempts: int = 1
    """How often a view is made that the rules reject, each time with another seed."""
    max_minutes: float | None = None
    """Longer videos are rejected as too large; the default is --prepare.limits.seconds."""
    caption_field: str | None = None
    """Where captions stand in JSON files and in the columns of tables; the default is the first
    that holds any of caption, text, prompt and description."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "max_minutes", above=0)
        if self.caption_field == "":
            raise ValueError("--caption-field must not be empty")
        check_range(self, "attempts", least=1)
        if self.frontal == "reference" and 0 not in self.views.yaws:
            raise ValueError("--frontal reference needs 0 among the --yaws")
        if self.engine.name == "none" and self.attempts > 1:
            raise ValueError("--engine none makes no views: it takes no --attempts")

    @property
    def real_frontal(self) -> bool:
        """Whether the view at 0 is the reference itself; without an engine there is no other."""
        return self.frontal == "reference" or self.engine.name == "none"


@dataclass(frozen=True)
class ClusterSettings:
    """Where the work runs."""

    local: bool = False
    """Run in this process, without Ray."""
    address: str | None = None
    """Ray cluster; the default is the one this process runs in, else a local one."""
    workers: int | None = None
    """CPU workers of all stages together; the default is one per CPU of the cluster."""
    wait_for_nodes: float = 45.0
    """Seconds that a cluster may lack what a stage needs, a GPU say. Nodes that an autoscaler is
    already starting are waited for in any case."""
    sample_seconds: float = 3600.0
    """Seconds that one sample may take at a worker, a film of two hours say, however it hangs; then
    the worker is ended and the sample tried again, three times in all. Not with --local."""
    worker_gigabytes: float = 8.0
    """Memory that a CPU worker may hold; then it is ended likewise. Not with --local."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "workers", least=1)
        check_range(self, "wait_for_nodes", least=0)
        check_range(self, "sample_seconds", "worker_gigabytes", above=0)
        if self.local and (self.address or self.workers):
            raise ValueError("--local runs in one process: it takes no --address or --workers")


def run_folder(out: str, corpus: str) -> tuple[Folder, str]:
    """The run folder, and the corpus as run.json names it. Raises UserError."""
    run, url = Folder(out), Folder(corpus).url
    if f"{run.url}/".startswith(f"{url}/"):
        raise UserError(
            f"--out {out} lies in the corpus, which would take the run's own shards for videos; "
            "choose a folder outside"
        )
    if "://" not in corpus and Folder(url).exists(FILE) and Folder(url).exists("candidates"):
        raise UserError(
            f"{corpus} is a run folder, not a corpus: give the videos it was made of, or continue "
            f"it by --out {corpus}"
        )
    return run, url


def start(settings: ClusterSettings, stages: Sequence[Stage], run: str = "") -> Line:
    """The line, on a cluster or in this process; in the metrics the run is named `run`.

    Raises UserError where the cluster lacks what a stage needs.
    """
    if settings.local:
        return LocalLine(stages)
    return RayLine(
        stages,
        settings.address,
        settings.workers,
        settings.wait_for_nodes,
        SampleBounds(settings.sample_seconds, settings.worker_gigabytes),
        name=run,
    )


def build(
    settings: LineSettings, corpus: str, run: Folder, rules: str | None = None
) -> tuple[list[Stage], RunInfo]:
    """The three stages, not yet set up, and what run.json says of them.

    `rules` is the file by which --attempts and --real-views instead judge. Raises UserError.
    """
    yaws, seed = settings.views.yaws, settings.views.seed
    faces, without = settings.faces.load("cpu"), settings.engine.name == "none"
    engine = None if without else settings.engine.load(yaws)
    judge, judged_by = _judge(settings, run, rules)
    prepared = settings.prepare
    if settings.max_minutes is not None:
        limits = replace(prepared.limits, seconds=60 * settings.max_minutes)
        prepared = replace(prepared, limits=limits)
    info = RunInfo(
        corpus=corpus,
        seed=seed,
        settings={
            "engine": {"engine": "none"} if engine is None else engine.provenance(),
            "yaws": list(yaws),
            "faces": faces.provenance(),
            "prepare": _shaping(prepared),
            **({"caption_field": settings.caption_field} if settings.caption_field else {}),
            **({"frontal": "reference"} if settings.real_frontal else {}),
            **({"judged": judged_by} if judge else {}),
            "real_views": settings.real_views,
        },
        scoring=Scoring(),
        versions=library_versions(),
    )
    store = CandidateStore(run, info.settings_hash)
    score = build_score(settings.faces, settings.score, store)
    sought = () if settings.real_views == "off" else yaws
    prepare = Prepare(prepared, faces, resources=CPU, real_yaws=sought)
    synthesize = Synthesize(
        engine,
        store,
        yaws=yaws,
        run_seed=seed,
        provenance=info.settings,
        resources=GPU if settings.engine.name == "flux" else CPU,
        real_frontal=settings.real_frontal,
        judge=judge,
        attempts=settings.attempts,
        instead=settings.real_views == "instead",
    )
    stages: list[Stage] = [PrepareUnlessStored(prepare, store), synthesize, score]
    return stages, replace(info, scoring=scoring_of(score), gpus=gpus_held(stages))


def _judge(
    settings: LineSettings, run: Folder, path: str | None
) -> tuple[RulesJudge | None, dict[str, Any]]:
    """What judges views before Score does, and what run.json says of it; None where nothing hangs
    on it: with one attempt, and real views not in place of the engine's."""
    spared = settings.real_views == "instead" and settings.engine.name != "none"
    if settings.attempts == 1 and not spared:
        return None, {}
    score = build_score(settings.faces, settings.score, CandidateStore(run, ""))
    labels = score.labels()
    rules = load_rules(
        path,
        yaws=settings.views.yaws,
        recogniser=labels["recogniser"],
        aesthetic_scorer=labels["aesthetic_scorer"],
    )
    judge = RulesJudge(rules, score.faces, score.aesthetic, score.pose)
    about = {"attempts": settings.attempts, "rules": rules.as_dict(), "scorers": score.provenance()}
    return judge, about


def _shaping(settings: PrepareSettings) -> dict[str, Any]:
    """Prepare's settings without the time limit, which a run that is continued may change."""
    return {name: value for name, value in asdict(settings).items() if name != "request_seconds"}


def aesthetic(settings: ScorerSettings) -> tuple[AestheticScorer, str]:
    """The scorer, and the sentence that says which it is and why."""
    return load_aesthetic(
        settings.aesthetic, weights=settings.aesthetic_weights, device=settings.device
    )


def build_score(faces: FaceSettings, settings: ScorerSettings, store: CandidateStore) -> Score:
    """The Score stage, not yet set up. Raises UserError."""
    return Score(
        store,
        faces.load(settings.device),
        aesthetic(settings)[0],
        resources=CPU if settings.device == "cpu" else GPU_SHARE,
        pose=SixDRepNet(settings.pose_model, settings.device) if settings.pose_model else None,
    )


def scoring_of(score: Score) -> Scoring:
    """What run.json says of a Score stage."""
    return Scoring(scorers=score.provenance(), labels=score.labels())
