"""A training run's claim on its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from datapipe.claim import Claim
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import library_versions

RUN = "run.json"
_LIBRARIES = ("diffusers", "peft", "torch", "transformers")


def claim_run(
    out: str | Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    may_change: Collection[str],
    *,
    resume: bool,
) -> Claim:
    """The checked claim of a run, for `train` to record with its first step.

    Raises UserError when `out` holds a run and `resume` is not asked for, or another run.
    """
    versions = library_versions(_LIBRARIES)
    claim = Claim(Folder(out), RUN, settings, may_change, inputs, versions)
    if claim.check() and not resume:
        raise UserError(
            f"--out {out}: holds a training run; pass --resume to continue it, or name another "
            "folder"
        )
    return claim
