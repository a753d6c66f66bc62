"""What is measured, on disk: score files and face files, put whole, with their provenance."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from harmoview.bench.faces import Faces, KnownFaces
from harmoview.bench.run import VideoKey
from harmoview.bench.scores import VideoScore

SCORES = pa.schema(
    [
        ("suite_sha256", pa.string()),
        ("method", pa.string()),
        ("case", pa.string()),
        ("seed", pa.int64()),
        ("identity", pa.string()),
        ("metric", pa.string()),
        ("variant", pa.string()),
        ("value", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n_frames", pa.int32()),
        ("n_used", pa.int32()),
        ("scorer", pa.string()),
        ("version", pa.int32()),
        ("model_sha256", pa.string()),
        ("video_sha256", pa.string()),
        ("versions", pa.string()),
        ("seconds", pa.float64()),
    ]
)
"""One row per case, seed, method, metric, variant and identity."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a score was made from and by; with the video it decides whether it is made again."""

    scorer: str
    version: int
    model_sha256: str
    video_sha256: str

    def made(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether stored rows are of the very same."""
        mine = asdict(self)
        return bool(rows) and all(
            row[name] == value for name, value in mine.items() for row in rows
        )


def scores_name(key: VideoKey, scorer: str) -> str:
    return f"scores/{key.stem}.{scorer}.parquet"


def frames_name(key: VideoKey) -> str:
    return f"frames/{key.stem}.parquet"


def put_scores(
    folder: Folder,
    suite_sha256: str,
    key: VideoKey,
    provenance: Provenance,
    scores: Iterable[VideoScore],
    seconds: float,
    versions: Mapping[str, str],
) -> None:
    """Write what one scorer says of one video."""
    common = {
        "suite_sha256": suite_sha256,
        **asdict(key),
        **asdict(provenance),
        "versions": json.dumps(versions, sort_keys=True),
        "seconds": round(seconds, 3),
    }
    rows = [{**common, **asdict(score)} for score in scores]
    table = pa.Table.from_pylist(rows, schema=SCORES)
    folder.put(scores_name(key, provenance.scorer), _parquet(table))


def read_scores(folder: Folder, pattern: str = "*") -> list[dict[str, Any]]:
    """All stored rows of a run, in the order of their files. Raises UserError for a damaged one."""
    rows: list[dict[str, Any]] = []
    for name in folder.names(f"scores/{pattern}.parquet"):
        rows += read_score_file(folder, name)
    return rows


def read_score_file(folder: Folder, name: str) -> list[dict[str, Any]]:
    """The rows of one file; none where it is not there. Raises UserError for a damaged one."""
    try:
        data = folder.read(name)
    except FileNotFoundError:
        return []
    try:
        return list(pq.read_table(io.BytesIO(data)).cast(SCORES).to_pylist())
    except (pa.ArrowInvalid, OSError, ValueError) as wrong:
        raise UserError(
            f"{folder.url}/{name} is damaged ({wrong}); delete it and score again"
        ) from (wrong)


_FACE_COLUMNS = ("frame", "track", "score", "true_yaw", "sharpness")
_POSE = ("yaw", "pitch", "roll")
_BOX = ("left", "top", "right", "bottom")


def put_faces(folder: Folder, key: VideoKey, provenance: Provenance, faces: Faces) -> None:
    """Write the faces of a video; NaN becomes null."""
    columns: dict[str, Any] = {name: getattr(faces, name) for name in _FACE_COLUMNS}
    columns |= {name: faces.box[:, place] for place, name in enumerate(_BOX)}
    columns |= {name: faces.pose[:, place] for place, name in enumerate(_POSE)}
    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    rows = len(faces.frame)
    flat = faces.cosines.reshape(rows, -1) if rows else np.zeros((0, 1), np.float32)
    width = flat.shape[1]
    arrays["cosines"] = pa.FixedSizeListArray.from_arrays(
        pa.array(flat.reshape(-1), from_pandas=True), width
    )
    about = {**asdict(key), **asdict(provenance), "sampled": faces.sampled, "width": faces.width}
    table = pa.table(arrays).replace_schema_metadata({"harmoview": json.dumps(about)})
    folder.put(frames_name(key), _parquet(table))


def read_faces(
    folder: Folder, key: VideoKey, provenance: Provenance, known: KnownFaces
) -> Faces | None:
    """The stored faces of a video; None where they are not there or of another video or model."""
    found = _face_file(folder, key)
    if found is None or any(found[1].get(n) != value for n, value in asdict(provenance).items()):
        return None
    return _faces(*found, known)


def stored_faces(
    folder: Folder, suite_sha256: str, key: VideoKey
) -> tuple[Faces, KnownFaces] | None:
    """The faces of a video by whichever models, with the references as these see them."""
    found = _face_file(folder, key)
    if found is None:
        return None
    wanted = f"{suite_sha256}/{found[1]['version']}/{found[1]['model_sha256']}"
    for name in folder.names("references/*.parquet"):
        stem = name.removeprefix("references/").removesuffix(".parquet")
        if known := read_references(folder, stem, wanted):
            return _faces(*found, known), known
    return None


def _face_file(folder: Folder, key: VideoKey) -> tuple[pa.Table, dict[str, Any]] | None:
    """The table and what was written about it; None where it is missing or damaged."""
    try:
        table = pq.read_table(io.BytesIO(folder.read(frames_name(key))))
        about: dict[str, Any] = json.loads(table.schema.metadata[b"harmoview"])
    except (FileNotFoundError, pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError):
        return None
    return table, about


def _faces(table: pa.Table, about: Mapping[str, Any], known: KnownFaces) -> Faces:
    def values(name: str) -> npt.NDArray[Any]:
        column = table.column(name).to_numpy(zero_copy_only=False)
        return np.asarray(column, np.int64 if name in ("frame", "track") else np.float32)

    shape = (table.num_rows, len(known.names), len(known.yaws))
    cosines = table.column("cosines").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Faces(
        sampled=about["sampled"],
        width=about["width"],
        **{name: values(name) for name in _FACE_COLUMNS},
        box=np.stack([values(name) for name in _BOX], axis=1),
        pose=np.stack([values(name) for name in _POSE], axis=1),
        cosines=np.asarray(cosines, np.float32).reshape(shape),
    )


def put_references(folder: Folder, name: str, key: str, known: KnownFaces) -> None:
    """Write the embeddings of a suite's references under `key`."""
    flat = known.vectors.reshape(-1, known.vectors.shape[2])
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(flat.reshape(-1), from_pandas=True), flat.shape[1]
    )
    table = pa.table(
        {
            "identity": [name for name in known.names for _ in known.yaws],
            "yaw": [yaw for _ in known.names for yaw in known.yaws],
            "vector": vectors,
        }
    )
    table = table.replace_schema_metadata({"harmoview": json.dumps({"key": key})})
    folder.put(f"references/{name}.parquet", _parquet(table))


def read_references(folder: Folder, name: str, key: str) -> KnownFaces | None:
    """The embeddings stored under `key`, if they are there."""
    try:
        table = pq.read_table(io.BytesIO(folder.read(f"references/{name}.parquet")))
        if json.loads(table.schema.metadata[b"harmoview"])["key"] != key:
            return None
    except (FileNotFoundError, pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError):
        return None
    names = tuple(dict.fromkeys(table.column("identity").to_pylist()))
    yaws = tuple(dict.fromkeys(table.column("yaw").to_pylist()))
    flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = np.asarray(flat, np.float32).reshape(len(names), len(yaws), -1)
    return KnownFaces(names, yaws, vectors)


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
