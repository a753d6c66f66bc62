"""`harmoview pairs`: canonical-yaw frames of head-rotation clips, as training pairs of the LoRA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datapipe.errors import UserError, check_range
from jobs.cli import command
from jobs.options.engine import FaceSettings
from lora_engine.acquire.settings import AcquireSettings

if TYPE_CHECKING:
    from datapipe.record import Sample
    from lora_engine.acquire.clips import Acquire, ClipResult


@dataclass(frozen=True)
class PairsSettings:
    """Pick from each head-rotation clip the sharpest frame at every canonical yaw; or cut out of
    the videos of a run the people who turned there.

    Writes WebDataset shards of subjects, split by identity, for `harmoview train-lora`. Run again
    with the same settings, it looks only at clips that are new or have changed.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """A folder of clips, each of one person turning the head: `subject` in a .json beside a clip
    names the person, whose clips are then all in one split; every clip gives pairs of its own. Or a
    folder of folders of pictures named by yaw (-30.jpg, yaw+60.png), one for each take. Or the
    folders reference, target and caption of an editing data set, whose captions tell the yaw. Or a
    RUN of `harmoview synthesize`, whose people are taken if their video shows them at 4 yaws in one
    shot and one light."""
    out: str
    """The folder for the pairs; local or on an object store."""
    acquire: tyro.conf.OmitArgPrefixes[AcquireSettings] = field(default_factory=AcquireSettings)
    validation: float = 0.1
    """Share of the people who are held out; 0: none."""
    same_person: float = 0.6
    """Cosine of frontal faces from which two people, whatever their names, stay in one split.
    Virtual subjects are not compared: their names are exact."""
    seed: int = 0
    """Seed of the split."""
    faces: tyro.conf.OmitArgPrefixes[FaceSettings] = field(default_factory=FaceSettings)
    pose_model: Path | None = None
    """ONNX export of a 6DRepNet-style head pose network, by which frames are picked; the default is
    the face models' own pose, which also judges views."""
    workers: int | None = None
    """Processes that look at clips; the default is one per CPU."""
    quiet: bool = False
    """Show neither progress nor tables."""

    def __post_init__(self) -> None:
        check_range(self, "validation", least=0, under=1)
        check_range(self, "same_person", above=0, most=1)
        check_range(self, "workers", least=1)


def execute(settings: PairsSettings) -> None:
    """Look at the clips, split the people, write the shards, report. Raises UserError."""
    from datapipe.corpus import corpus
    from datapipe.files import Folder
    from filters.head_pose import PosedFaces, SixDRepNet
    from jobs.console.pairs import report, rows
    from lora_engine.acquire.clips import Acquire
    from lora_engine.acquire.from_run import AcquireFromRun, is_run, turned_people
    from lora_engine.acquire.people import people_of, splits, write
    from lora_engine.acquire.pictures import picture_takes

    source, kept = Folder(settings.corpus), f"{settings.out}/clips"
    faces = settings.faces.load()
    if settings.pose_model is not None:
        faces = PosedFaces(faces, SixDRepNet(settings.pose_model))
    faces.provenance()  # a model that is missing is named before any clip is read
    if is_run(source):
        samples = turned_people(source)
        if not samples:
            raise UserError(
                f"{source.url}: nobody's video shows them at 4 yaws in one shot; `harmoview stats` "
                "has how many it shows at each"
            )
        stage: Acquire = AcquireFromRun(settings.acquire, faces, kept)
    else:
        samples = picture_takes(settings.corpus) or list(corpus(settings.corpus))
        stage = Acquire(settings.acquire, faces, kept)
    clips = _look(settings, stage, samples)
    people = people_of(clips)
    if not people:
        report(clips, {}, {}, settings.acquire.yaws)
        raise UserError(f"{settings.corpus}: no clip gave a subject, for the reasons above")
    where = splits(people, settings.validation, settings.same_person, settings.seed)
    folder = Folder(settings.out)
    folder.put("clips.jsonl", rows(clips))
    choice = {name: getattr(settings, name) for name in ("validation", "same_person", "seed")}
    made_by = asdict(settings.acquire) | choice | {"faces": settings.faces.faces}
    made_by["pose"] = "own" if settings.pose_model is None else SixDRepNet.name
    write(folder, people, where, stage.pictures, made_by, settings.acquire.yaws)
    if not settings.quiet:
        report(clips, people, where, settings.acquire.yaws)
        if settings.validation and "validation" not in where.values():
            print("nobody is held out: one person, or all look like one (--same-person)")
        takes = sum(map(len, people.values()))
        print(f"{takes} subjects, {len(people)} people, of {len(clips)} clips: {settings.out}")


def _look(settings: PairsSettings, stage: Acquire, samples: Sequence[Sample]) -> list[ClipResult]:
    """Look at every clip; what became of each, in the order of the corpus."""
    from datapipe.concurrent import cores
    from jobs.console.output import progress
    from lora_engine.acquire.clips import acquire

    done, counts = {}, Counter[str]()
    workers = settings.workers or cores()
    with progress("clips", quiet=settings.quiet) as show:
        for sample in acquire(stage, samples, workers):
            done[sample.key] = sample
            counts[sample.outcome] += 1
            show(counts, len(samples))
    return [stage.result(done[sample.key]) for sample in samples]


main = command(__name__, PairsSettings, execute, first=("validation", "yaws", "workers", "faces"))
