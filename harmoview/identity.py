"""Reading the pictures of an identity from a folder, from one picture, or out of a shard."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg, parse_name
from datapipe.record import Image
from datapipe.tar import TarReader

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_YAW = re.compile(r"(?:^|[._-])yaw([+-]?\d{1,2})$")
_FRONTAL = re.compile(r"(?:^|[._-])(?:reference|frontal)$")
_MEMBER = re.compile(r"(?P<key>[^.]+)(?:\.id(?P<identity>\d))?")
NAMES = "reference.jpg (or frontal.jpg) and yaw-90.jpg … yaw+90.jpg"


def read_identity(source: str | Path) -> dict[int, bytes]:
    """Read the picture files of one identity by yaw; a real reference takes the place of yaw 0.

    `source` is a folder with reference.jpg, yaw+30.jpg and the like, a frontal photo, or
    SHARDS::KEY or SHARDS::KEY.id1, where SHARDS is a tar or a folder of tars, local or on an object
    store. The photo is cut as references are, and so is what is not square in a folder; square
    pictures there count as cut. Raises UserError where it is none of these, or has no picture,
    or a photo does not show one person.
    """
    if "::" in str(source):
        return _from_shards(str(source))
    path = Path(source)
    if path.is_file():
        return {0: _cut(path, 0, squares=False)}
    if not path.is_dir():
        raise UserError(
            f"--identity {source}: no such folder or picture, and not SHARDS::KEY either"
        )
    return _from_folder(path)


def decode(pictures: Mapping[int, bytes], source: str | Path) -> dict[int, Image]:
    """Decode RGB pictures by yaw. Raises UserError, naming the one that is not a picture."""
    views = {}
    for yaw, data in pictures.items():
        try:
            views[yaw] = decode_jpeg(data)
        except ValueError as wrong:
            raise UserError(f"--identity {source}: the picture of yaw {yaw} is damaged") from wrong
    return views


def _from_folder(folder: Path) -> dict[int, bytes]:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURES)
    frontal = [f for f in files if _FRONTAL.search(f.stem)]
    by_yaw: dict[int, list[Path]] = {0: frontal} if frontal else {}
    for file in files:
        match = _YAW.search(file.stem)
        if match and not (frontal and int(match[1]) == 0):
            by_yaw.setdefault(int(match[1]), []).append(file)
    if not by_yaw:
        hint = f"; to show {files[0].name} from the front, give that file itself" if files else ""
        raise UserError(f"--identity {folder}: found no picture named like {NAMES}{hint}")
    for yaw, found in by_yaw.items():
        if len(found) > 1:
            raise UserError(
                f"--identity {folder}: {found[0].name} and {found[1].name} are both yaw {yaw}; "
                "a folder holds one identity"
            )
    return {yaw: _cut(found[0], yaw) for yaw, found in by_yaw.items()}


def _cut(file: Path, yaw: int, *, squares: bool = True) -> bytes:
    """Read a picture, cut as references are unless `squares` lets a square one pass."""
    from harmoview.photos import is_square, portrait, read_picture  # loads OpenCV

    data = file.read_bytes()
    done = squares and is_square(read_picture(data, file))
    return data if done else portrait(data, file, yaw)


def _from_shards(source: str) -> dict[int, bytes]:
    where, _, member = source.rpartition("::")
    match = _MEMBER.fullmatch(member)
    if match is None or not where:
        raise UserError(f"--identity {source}: after :: comes KEY or KEY.id1")
    key, identity = match["key"], int(match["identity"] or 0)
    pictures: dict[int, bytes] = {}
    reference: bytes | None = None
    for name, data in _sample(where, key).items():
        parsed = parse_name(name)
        if parsed is None or parsed[0] != identity:
            continue
        if parsed[1] is None:
            reference = data
        else:
            pictures[parsed[1]] = data
    if reference is not None:
        pictures[0] = reference
    if not pictures:
        raise UserError(f"--identity {source}: {where} has no identity {identity} under {key!r}")
    return pictures


def _sample(where: str, key: str) -> dict[str, bytes]:
    """Read a sample's pictures, by name without the key, from the first shard that has any."""
    parent, _, last = where.rpartition("/")
    single = where.endswith(".tar")
    folder = Folder(parent or ".") if single else Folder(where)
    shards = [last] if single else folder.names("*.tar")
    if not shards or (single and not folder.exists(last)):
        raise UserError(f"--identity {where}::{key}: there is no shard in {where}")
    for shard in shards:
        try:
            members = _members(folder, shard, key)
        except tarfile.TarError as wrong:
            raise UserError(f"--identity {where}::{key}: {shard} is damaged ({wrong})") from wrong
        if members:
            return members
    return {}


def _members(folder: Folder, shard: str, key: str) -> dict[str, bytes]:
    members = {}
    with folder.open(shard) as file:
        reader = TarReader(file)
        for member in reader:
            owner, _, name = Path(member.name).name.partition(".")
            if owner == key and name.endswith(".jpg"):
                members[name] = reader.read()
    return members
