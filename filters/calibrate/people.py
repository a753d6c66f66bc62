"""The people that a calibration compares: drawn from a run or from pairs, their views embedded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datapipe.concurrent import in_processes
from datapipe.errors import UserError
from datapipe.faces.base import FaceAnalyzer, Floats
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import ViewSource
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate
from datapipe.run.tables import one_scoring, tables
from filters.calibrate.comparisons import Embedded, Ints
from filters.score import subject

PicturesByYaw = Mapping[int, bytes]
"""JPEG bytes of one person by yaw."""
Vectors = Mapping[int, Floats]
"""Embeddings of one person by yaw, without the pictures in which no face was found."""
Told = Callable[[Counter[str], int | None], None]
"""Told how many people have been embedded, of how many."""
COLUMNS = ("measured_yaw", "sharpness", "sharpness_ratio", "aesthetic")

_TURNED = """
(key, identity) IN (SELECT (key, identity) FROM views WHERE source = 'real' AND yaw <> 0)
"""
_DRAWN = """
SELECT key, identity, embedding FROM refs SEMI JOIN (
    SELECT key FROM ledger WHERE outcome = 'candidate'
) USING (key)
WHERE len(embedding) > 0 AND {wanted}
ORDER BY md5(concat(key, ' ', identity)), key, identity LIMIT ?
"""


@dataclass(frozen=True, eq=False)
class StoredScores:
    """What a run has measured of the views of the people that were drawn."""

    yaw: Ints
    """The yaw asked for [V]."""
    columns: Mapping[str, NDArray[np.float64]]
    """`COLUMNS` of these views [V], NaN where a score could not be measured."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn, and what was measured of it."""

    embedded: Embedded
    lost: int
    """Identities that could not be compared: no candidate, or no face in the reference."""
    rendered: bool
    """Whether all are virtual, so that their names say who they are."""
    scores: StoredScores | None = None
    """The scores that are stored of their views; None where none are."""


def from_run(
    run: Folder,
    faces: FaceAnalyzer,
    count: int,
    workers: int,
    told: Told,
    source: ViewSource = "synthesised",
) -> Drawn:
    """Draw identities of a run: the same each time, whose key and number have the smallest hashes.

    References are compared as the run's tables have them; views of the source are embedded from the
    candidates. Real views say what the recogniser makes of people, and nothing of the other scores:
    they were chosen by pose and sharpness. Raises UserError where there are none.
    """
    real = source == "real"
    info = load_info(run)
    with tables(run, info) as connection:
        one_scoring(connection)
        drawn = _DRAWN.format(wanted=_TURNED if real else "true")
        rows = connection.sql(drawn, params=[count]).to_arrow_table()
        connection.register("drawn", rows.select(["key", "identity"]))
        wanted = ", ".join(["yaw", *COLUMNS])
        query = (
            f"SELECT {wanted} FROM views SEMI JOIN drawn USING (key, identity) "
            "WHERE detected AND source = 'synthesised'"
        )
        views = connection.sql(query).to_arrow_table()
    people = list(zip(rows["key"].to_pylist(), rows["identity"].to_pylist(), strict=True))
    references = np.array(rows["embedding"].to_pylist(), np.float32)
    store = CandidateStore(run, info.settings_hash)

    def pictures() -> Iterator[PicturesByYaw]:
        for key, identity in people:
            try:
                pictures = store.read(store.name(key)).pictures[identity]
                yield pictures.real if real else pictures.views
            except (FileNotFoundError, DamagedCandidate):
                yield {}

    found = _embedded(pictures(), len(people), faces, workers, told)
    # with --frontal reference the view at 0 is the reference itself
    trivial = 0 if info.settings.get("frontal") == "reference" else None
    kept = [row for row, vectors in enumerate(found) if any(yaw != trivial for yaw in vectors)]
    if not kept:
        what = "real views of anyone" if real else "candidates with faces"
        raise UserError(f"{run.url} holds no {what} to compare")
    lost, units = len(people) - len(kept), _units(references[kept])
    if real:  # in front the reference is the person's real view, which is nobody else's either
        vectors: list[Vectors] = [
            {0: one, **found[row]} for one, row in zip(units, kept, strict=True)
        ]
        return Drawn(_together(units, vectors, 0), lost, False)
    embedded = _together(units, [found[row] for row in kept], trivial)
    columns = {name: _floats(views[name]) for name in COLUMNS}
    scores = StoredScores(views["yaw"].to_numpy().astype(np.intp), columns)
    return Drawn(embedded, lost, False, scores)


def from_pictures(
    people: Iterable[PicturesByYaw], count: int, faces: FaceAnalyzer, workers: int, told: Told
) -> Drawn | None:
    """Take `count` people whose picture at yaw 0 is the reference; None where no one has one.

    Whether they are virtual is for the caller to say. Raises UserError, which concerns all of them.
    """
    found = _embedded(people, count, faces, workers, told)
    kept = [vectors for vectors in found if 0 in vectors]
    if not kept:
        return None
    references = _units(np.stack([vectors[0] for vectors in kept]))
    return Drawn(_together(references, kept, 0), len(found) - len(kept), rendered=False)


def _together(references: Floats, found: list[Vectors], reference_yaw: int | None) -> Embedded:
    views = [
        (owner, yaw, vector)
        for owner, vectors in enumerate(found)
        for yaw, vector in sorted(vectors.items())
    ]
    owner, yaw, vectors = zip(*views, strict=True)
    return Embedded(
        references, np.array(owner), np.array(yaw), _units(np.stack(vectors)), reference_yaw
    )


def _embedded(
    people: Iterable[PicturesByYaw], count: int, faces: FaceAnalyzer, workers: int, told: Told
) -> list[Vectors]:
    """The embeddings of everyone, in order. Raises UserError, which concerns all of them."""
    out: list[Vectors] = []
    for vectors in in_processes(partial(_started, faces), people, min(workers, count)):
        out.append(vectors)
        told(Counter(embedded=len(out)), count)
    return out


def _started(faces: FaceAnalyzer) -> Callable[[PicturesByYaw], Vectors]:
    faces.setup()
    return partial(embed, faces)


def embed(faces: FaceAnalyzer, pictures: PicturesByYaw) -> Vectors:
    """The embedding at each yaw of the face that the line would score; `faces` has been set up."""
    images = {yaw: decode_jpeg(data) for yaw, data in pictures.items()}
    found = faces.find(list(images.values()))
    out = {}
    for (yaw, image), some in zip(images.items(), found, strict=True):
        face = subject(image, some)
        if face is not None:
            out[yaw] = faces.embed(image, [face])[0]
    return out


def _units(vectors: Floats) -> Floats:
    units: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    floats: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(float)
    return floats
