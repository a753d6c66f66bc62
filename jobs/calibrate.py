"""`harmoview calibrate`: thresholds and their intervals from people whose identity is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import tyro

from datapipe.errors import UserError, check_range, install
from datapipe.faces import FACES
from jobs.cli import command

if TYPE_CHECKING:
    from datapipe.faces.base import FaceAnalyzer
    from datapipe.files import Folder
    from filters.calibrate.people import Drawn, Told
    from filters.calibrate.result import Calibration
    from filters.rules import Rules
    from lora_engine.pairs import PairsFolder

MOST_IDENTITIES = 3000
"""Identities that fit: everyone is compared with everyone, which makes 18 million cosines for both
sides of a yaw."""


@dataclass(frozen=True)
class CalibrateSettings:
    """Find the thresholds that a recogniser needs, per yaw, and write them as a rules file.

    Compares each identity's views with its own reference and with everyone else's. From a run
    (`harmoview synthesize`) come the pose tolerance and the floors of sharpness and aesthetic too.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_PAIRS")]
    """A run folder, or a folder that `harmoview pairs` made."""
    out: Path
    """The rules file to write, for `--rules` of pack, stats and rules diff."""
    from_: Annotated[Literal["synthesised", "real"], tyro.conf.arg(name="from")] = "synthesised"
    """Which views of a run are compared: the engine's, or the frames of each video that show the
    person at a yaw. The latter measure the recogniser on your own people, without the engine."""
    far: float = 0.01
    """Wanted false-accept rate: the share of other people's views that would pass."""
    least_tar: float = 0.5
    """Least true-accept rate: where a smaller share of the right people's views passes, identity is
    not asked."""
    identities: int = 300
    """Identities that are drawn and compared; the same ones each time."""
    same_person: float | None = None
    """Cosine of two references from which they are not taken for two people; 1: never. The default
    is the threshold of the rules at yaw 0, and for pairs of virtual subjects 1."""
    rules: str | None = None
    """Rules file (TOML) with what is not calibrated; the default is the package's."""
    faces: FACES | None = None
    """Which face models compare; the default is those of the run or the pairs."""
    faces_folder: Path | None = None
    """buffalo_l's model pack; the default is ~/.insightface/models/buffalo_l."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where buffalo_l runs."""
    workers: int | None = None
    """Processes that embed; the default is one per CPU, and one on a GPU."""
    plot: Path | None = None
    """Also draw ROC curves and cosines by yaw, as .png or .svg (extra `plots`)."""
    json: bool = False
    """Print JSON instead of tables; docs/calibrate.md describes it."""
    quiet: bool = False
    """Show neither progress nor tables."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        from filters.calibrate.comparisons import people_needed

        check_range(self, "far", above=0, most=0.5)
        check_range(self, "least_tar", least=0, most=1)
        check_range(self, "same_person", above=0, most=1)
        check_range(self, "workers", least=1)
        least = people_needed(self.far)
        if least > MOST_IDENTITIES:
            raise ValueError(f"--far {self.far:g} needs {least:,} people; {MOST_IDENTITIES:,} fit")
        if not least <= self.identities <= MOST_IDENTITIES:
            raise ValueError(
                f"--identities must be from {least} (for --far {self.far:g}) to {MOST_IDENTITIES}, "
                f"not {self.identities}"
            )
        if self.plot is not None and self.plot.suffix not in (".png", ".svg"):
            raise ValueError(f"--plot must end in .png or .svg, not {self.plot}")


def execute(settings: CalibrateSettings) -> None:
    """Draw, compare, report, write. Raises UserError."""
    from filters.calibrate.result import conclude, rules_file
    from filters.rules_file import given
    from jobs.console.output import write

    if settings.plot is not None and find_spec("matplotlib") is None:
        raise UserError(f"--plot needs matplotlib: {install('plots')}")
    base, faces, drawn = _drawn(settings)
    result, found = conclude(
        drawn,
        base,
        faces,
        given=given(settings.rules),
        far=settings.far,
        least_tar=settings.least_tar,
        same_person=settings.same_person,
    )
    _report(settings, result)
    if settings.plot is not None:
        from filters.calibrate.plot import draw

        write(settings.plot, draw(result, found, settings.plot.suffix))
    if result.rules is None:
        why = next((f" ({one.yaw}°: {one.why})" for one in result.identity if one.why), "")
        raise UserError(f"no rules file was written: {result.problem}{why}")
    write(settings.out, rules_file(result).encode())
    if not settings.quiet and not settings.json:
        print(f"rules: {settings.out}")


def _drawn(settings: CalibrateSettings) -> tuple[Rules, FaceAnalyzer, Drawn]:
    """The rules to start from, the recogniser, and the people. Raises UserError."""
    from datapipe.files import Folder
    from jobs.console.output import progress

    source = Folder(settings.source)
    readers = {"run.json": _of_run, "manifest.json": _of_pairs}
    read = next((read for name, read in readers.items() if source.exists(name)), None)
    if read is None:
        raise UserError(
            f"{source.url} is neither a run (run.json) nor pairs (manifest.json); make one with "
            "`harmoview synthesize` or `harmoview pairs`"
        )
    with progress("identities", quiet=settings.quiet) as show:
        return read(settings, source, show)


def _of_run(
    settings: CalibrateSettings, run: Folder, told: Told
) -> tuple[Rules, FaceAnalyzer, Drawn]:
    from datapipe.run.info import load_info
    from dataset.run import run_rules
    from filters.calibrate.people import from_run

    scored_by = load_info(run).scoring.scorers.get("faces") or {}
    faces = _faces(settings, str(scored_by.get("faces", "light")))
    if faces.provenance() != scored_by:
        raise UserError(
            f"{run.url} was scored by other face models than {faces.name} as it is here; "
            f"`harmoview score {run.url} --faces {faces.name}` measures it with these"
        )
    base = run_rules(run, settings.rules)
    count, workers = settings.identities, _workers(settings)
    return base, faces, from_run(run, faces, count, workers, told, settings.from_)


def _of_pairs(
    settings: CalibrateSettings, folder: Folder, told: Told
) -> tuple[Rules, FaceAnalyzer, Drawn]:
    from filters.rules_file import load_rules
    from lora_engine.pairs import PairsFolder

    pairs = PairsFolder(folder)
    faces = _faces(settings, str(pairs.settings.get("faces", "light")))
    base = load_rules(
        settings.rules, yaws=pairs.yaws, recogniser=faces.recogniser, aesthetic_scorer="brisque"
    )
    return base, faces, from_pairs(pairs, faces, settings.identities, _workers(settings), told)


def from_pairs(
    pairs: PairsFolder, faces: FaceAnalyzer, count: int, workers: int, told: Told
) -> Drawn:
    """Draw people of the pairs: the same each time, whose keys have the smallest hashes.

    The frontal frame is the reference. Raises UserError where there are none.
    """
    from filters.calibrate.people import PicturesByYaw, from_pictures
    from lora_engine.pairs import SPLITS

    keys = [key for split in SPLITS for key, yaws in pairs.coverage(split).items() if 0 in yaws]
    takes: dict[str, str] = {}  # one of a person, who would be compared with themselves
    for key in sorted(keys, key=lambda key: md5(key.encode()).digest()):
        takes.setdefault(pairs.people[key], key)
    chosen = set(list(takes.values())[:count])
    rendered = True

    def pictures() -> Iterator[PicturesByYaw]:
        nonlocal rendered
        for split in SPLITS:
            for one in pairs.subjects(split):
                if one.key in chosen:
                    rendered &= all(frame.true_yaw is not None for frame in one.frames)
                    yield {frame.yaw: frame.picture for frame in one.frames}

    drawn = from_pictures(pictures(), len(chosen), faces, workers, told)
    if drawn is None:
        raise UserError(f"{pairs.folder.url} holds no subjects with a face at yaw 0")
    return replace(drawn, rendered=rendered)


def _faces(settings: CalibrateSettings, default: str) -> FaceAnalyzer:
    """The face models that compare, not yet set up. Raises UserError."""
    from datapipe.faces import face_analyzer

    name = settings.faces or default
    if name not in get_args(FACES):
        raise UserError(f"{settings.source} was made with the faces {name!r}; give --faces")
    chosen = cast("FACES", name)
    return face_analyzer(chosen, device=settings.device, folder=settings.faces_folder)


def _workers(settings: CalibrateSettings) -> int:
    """In how many processes faces are embedded."""
    from datapipe.concurrent import cores

    return settings.workers or (cores() if settings.device == "cpu" else 1)


def _report(settings: CalibrateSettings, result: Calibration) -> None:
    if settings.json:
        import json

        print(json.dumps(result.as_dict(), indent=1))
    elif not settings.quiet:
        from jobs.console.calibrate import print_calibration

        print_calibration(result)


main = command(__name__, CalibrateSettings, execute, first=("far", "rules", "plot"))
