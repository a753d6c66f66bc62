"""A benchmark run: the videos of some methods for one suite, and everything measured on them.

RUN/bench.json                        which suite, by path and hash
RUN/methods.toml                      labels and groups for tables; written by hand, if at all
RUN/videos/METHOD/CASE.sSEED.mp4      with CASE.sSEED.json beside it
RUN/scores/METHOD.CASE.sSEED.SCORER.parquet
RUN/frames/METHOD.CASE.sSEED.parquet  every face of every sampled frame
RUN/references/FACES.parquet          embeddings of the suite's pictures
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datapipe.errors import UserError, meant
from datapipe.files import Folder
from harmoview.bench.suite import Suite, load_suite
from harmoview.orders import read_about

FORMAT = 1
METHOD = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_VIDEO = re.compile(r"(?P<case>[a-z0-9-]+)\.s(?P<seed>\d+)\.mp4")


@dataclass(frozen=True, slots=True, order=True)
class VideoKey:
    """One video of a run."""

    method: str
    case: str
    seed: int

    @property
    def stem(self) -> str:
        """`METHOD.CASE.sSEED`, as score files begin."""
        return f"{self.method}.{self.case}.s{self.seed}"

    @property
    def path(self) -> str:
        """The video's name below the run."""
        return f"videos/{self.method}/{self.case}.s{self.seed}.mp4"

    @property
    def about(self) -> str:
        """The JSON's name below the run."""
        return f"videos/{self.method}/{self.case}.s{self.seed}.json"


@dataclass(frozen=True)
class BenchRun:
    """An opened run."""

    folder: Folder
    suite: Suite

    def videos(self) -> list[VideoKey]:
        """Every video of a case of the suite, sorted."""
        found = (_key(name) for name in self.folder.names("videos/*/*.mp4"))
        return sorted(key for key in found if key is not None and key.case in self.suite.case)

    def strangers(self) -> list[str]:
        """Files among the videos that no case of the suite can be told from."""
        names = self.folder.names("videos/*/*")
        known = {key.path for key in self.videos()}
        known |= {f"{path.removesuffix('.mp4')}.jpg" for path in known}  # of the views shown
        return [name for name in names if name not in known and not name.endswith(".json")]

    def missing(self) -> dict[str, list[str]]:
        """By method, the cases without any video."""
        there: dict[str, set[str]] = {}
        for key in self.videos():
            there.setdefault(key.method, set()).add(key.case)
        return {
            method: [case.id for case in self.suite.cases if case.id not in cases]
            for method, cases in there.items()
        }

    def about(self, key: VideoKey) -> dict[str, Any]:
        """The JSON beside a video; empty where there is none."""
        return read_about(self.folder, key.about)

    @contextmanager
    def local(self, key: VideoKey) -> Iterator[Path]:
        """The video as a file on this machine."""
        here = self.folder.local
        if here is not None:
            yield here / key.path
            return
        with tempfile.TemporaryDirectory(prefix="harmoview-") as scratch:
            path = Path(scratch) / "video.mp4"
            self.folder.fetch(key.path, path)
            yield path

    def methods(self) -> Mapping[str, Method]:
        """Labels and groups by method, from methods.toml.

        Raises UserError where it is wrong, or names a method of which the run has nothing.
        """
        found = read_methods(self.folder)
        if not found:
            return found
        known = {name.split("/")[1] for name in self.folder.names("videos/*/*.mp4")}
        known |= {name[len("scores/") :].split(".")[0] for name in self.folder.names("scores/*")}
        if unknown := [name for name in found if name not in known]:
            raise UserError(
                f"{self.folder.url}/methods.toml: the run has neither videos nor scores of "
                f"[{unknown[0]}]; {meant(unknown[0], known)}"
            )
        return found


@dataclass(frozen=True, slots=True)
class Method:
    """How a table names a method."""

    label: str
    group: str = ""
    """Heading over the methods of a kind: `Open-source academic models`."""
    ablation: str = ""
    """Label in the ablation layout: `(a)`, `(b.1)`."""


def open_bench(url: str, suite: str | None = None) -> BenchRun:
    """A run, begun if need be; `suite` is needed then, and says where the suite is if it moved.

    Raises UserError where the run is of another suite.
    """
    folder = Folder(url)
    if not folder.exists("bench.json"):
        if suite is None:
            raise UserError(f"{url} is not a benchmark run yet: name its suite with --suite SUITE")
        loaded = load_suite(suite)
        head = {"format": FORMAT, "suite": loaded.folder.url, "suite_sha256": loaded.sha256}
        folder.put("bench.json", (json.dumps(head, indent=1) + "\n").encode())
        return BenchRun(folder, loaded)
    try:
        head = json.loads(folder.read("bench.json"))
        found, wanted, known = head["format"], head["suite_sha256"], head["suite"]
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(f"{url}/bench.json is damaged: {wrong}") from wrong
    if found != FORMAT:
        raise UserError(f"{url} is a benchmark run of format {found}; this reads {FORMAT}")
    if suite is None and not Folder(known).exists("suite.json"):
        raise UserError(f"the suite of {url} is no longer at {known}: name it with --suite SUITE")
    loaded = load_suite(suite or known)
    if loaded.sha256 != wanted:
        raise UserError(
            f"{url} holds results of the suite {wanted[:12]}, and {loaded.folder.url} is "
            f"{loaded.sha256[:12]}: results of different suites do not share a run"
        )
    return BenchRun(folder, loaded)


def check_method(name: str) -> None:
    """Raises UserError for a name that cannot be part of a file's name."""
    if not METHOD.fullmatch(name):
        raise UserError(
            f"--method {name}: small letters, digits, - and _ only; a label for tables goes into "
            "methods.toml"
        )


def read_methods(folder: Folder) -> dict[str, Method]:
    """methods.toml, if there is one. Raises UserError where it is wrong."""
    import tomllib

    try:
        data = tomllib.loads(folder.read_text("methods.toml"))
    except FileNotFoundError:
        return {}
    except ValueError as wrong:
        raise UserError(f"{folder.url}/methods.toml: {wrong}") from wrong
    found = {}
    for name, entry in data.items():
        if not isinstance(entry, dict) or not all(map(_line, entry.values())):
            raise UserError(f'{folder.url}/methods.toml: [{name}] holds label = "…", group = "…"')
        known = {one.name for one in fields(Method)}
        if unknown := sorted(set(entry) - known):
            raise UserError(
                f"{folder.url}/methods.toml: [{name}] has no {unknown[0]}; "
                f"{meant(unknown[0], known)}"
            )
        found[name] = Method(**{"label": name, **entry})
    return found


def _line(value: object) -> bool:
    return isinstance(value, str) and "\n" not in value


def _key(name: str) -> VideoKey | None:
    _, method, file = name.split("/")
    match = _VIDEO.fullmatch(file)
    if match is None or not METHOD.fullmatch(method):
        return None
    return VideoKey(method, match["case"], int(match["seed"]))
