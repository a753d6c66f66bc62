"""The weights of the published metrics: a TOML file says where they are, and their hashes.

    [opens2v_aes]
    clip = { path = "clip-vit-large-patch14", sha256 = "…" }
    head = { path = "aesthetic-model.pth", sha256 = "…" }

    [opens2v_natural]
    url = "http://localhost:8000/v1"
    model = "gpt-4o-2024-11-20"
    key_file = "key.txt"

Paths are relative to the file. A folder's hash is that of its sorted `sha256  name` lines.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datapipe.errors import UserError, meant
from datapipe.models import digest
from harmoview.bench.scorers import digest_of

PARTS: Mapping[str, tuple[str, ...]] = {
    "opens2v_aes": ("clip", "head"),
    "opens2v_smooth": ("one_align",),
    "opens2v_gme": ("gme",),
    "opens2v_facesim_cur": ("curricularface", "detector"),
    "opens2v_nexus": ("gme", "boxes"),
}
"""By metric, the parts that its table names."""
ENDPOINT = ("url", "model")
OPTIONAL = ("key_file", "workers")
_EXPLAINED = {
    "clip": "the folder of openai/clip-vit-large-patch14",
    "head": "OpenS2V-Weight's aesthetic-model.pth",
    "one_align": "the folder of q-future/one-align, with its own code",
    "gme": "the folder of Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
    "curricularface": "glint360k_curricular_face_r101_backbone.bin",
    "detector": "det_10g.onnx of buffalo_l",
    "boxes": "a JSON of YOLO-World's boxes, made in its own environment",
}


@dataclass(frozen=True)
class Weights:
    """The parts of one metric, checked."""

    paths: Mapping[str, Path]
    sha256: str
    """Of all of them."""


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's chat protocol."""

    url: str
    model: str
    key: str = ""
    workers: int = 3
    """Requests at a time."""


def lacking(metric: str) -> str:
    """What to say where a metric's table is not there."""
    if metric == "opens2v_natural":
        return "--weights names no [opens2v_natural] with url and model"
    named = "; ".join(f"{part}: {_EXPLAINED[part]}" for part in PARTS[metric])
    return f"--weights names no [{metric}] with {named}"


def read_weights(path: Path | None) -> tuple[dict[str, Weights], Endpoint | None]:
    """The metrics that have weights, every hash checked. Raises UserError naming the wrong one."""
    if path is None:
        return {}, None
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise UserError(f"--weights {path}: {wrong}") from wrong
    found: dict[str, Weights] = {}
    endpoint: Endpoint | None = None
    for metric, table in data.items():
        where = f"--weights {path}, [{metric}]"
        if not isinstance(table, dict):
            raise UserError(f"{where} must be a table")
        if metric == "opens2v_natural":
            endpoint = _endpoint(table, where, path.parent)
        elif metric in PARTS:
            found[metric] = _weights(table, PARTS[metric], where, path.parent)
        else:
            known = [*PARTS, "opens2v_natural"]
            raise UserError(f"{where} is no metric with weights; {meant(metric, known)}")
    return found, endpoint


def _weights(table: Mapping[str, Any], parts: tuple[str, ...], where: str, at: Path) -> Weights:
    if unknown := sorted(set(table) - set(parts)):
        raise UserError(f"{where} has no {unknown[0]}; {meant(unknown[0], parts)}")
    if set(table) != set(parts):
        raise UserError(
            f"{where} must name {', '.join(parts)}, not {', '.join(table) or 'nothing'}"
        )
    paths, hashes = {}, {}
    for name in parts:
        entry = table[name]
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise UserError(f'{where}: {name} = {{ path = "…", sha256 = "…" }}')
        path = at / Path(entry["path"]).expanduser()
        if not path.exists():
            raise UserError(f"{where}: {name}: there is no {path} ({_EXPLAINED[name]})")
        sha256 = digest(path)
        if entry.get("sha256") != sha256:
            raise UserError(
                f"{where}: {name}: {path} has sha256 {sha256}, not {entry.get('sha256')!r}; "
                "if it is the file you mean, write that hash there"
            )
        paths[name], hashes[name] = path, sha256
    return Weights(paths, digest_of(hashes))


def _endpoint(table: Mapping[str, Any], where: str, at: Path) -> Endpoint:
    texts = [name for name in ENDPOINT if not isinstance(table.get(name), str)]
    known = {*ENDPOINT, *OPTIONAL}
    if unknown := sorted(set(table) - known):
        raise UserError(f"{where} has no {unknown[0]}; {meant(unknown[0], known)}")
    if texts:
        raise UserError(f"{where} lacks {texts[0]}; it takes {', '.join(sorted(known))}")
    address = urlsplit(table["url"])
    if address.scheme not in ("http", "https") or not address.netloc:
        raise UserError(f"{where}: url must begin with http:// or https://, not {table['url']!r}")
    key = ""
    if (file := table.get("key_file")) is not None:
        try:
            key = (at / Path(str(file)).expanduser()).read_text().strip()
        except OSError as wrong:
            raise UserError(f"{where}: key_file: {wrong}") from wrong
    workers = table.get("workers", 3)
    if type(workers) is not int or not 1 <= workers <= 64:
        raise UserError(f"{where}: workers must be from 1 to 64")
    return Endpoint(table["url"].rstrip("/"), table["model"], key, workers)
