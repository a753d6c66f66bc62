"""Optional dependencies, named before they are missed."""

from __future__ import annotations

import importlib.util

from datapipe.errors import UserError, install


def need_train(what: str) -> None:
    """Raises UserError when the packages of the extra `train` are not installed."""
    packages = ("torch", "diffusers", "transformers", "peft", "safetensors")
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"{what} needs {', '.join(missing)}: {install('train')}")
