"""What commands that run in the tests' own process need not compute again."""

import hashlib

import pytest

from lora_engine.mesh.engine import MeshSynthesizer


@pytest.fixture(scope="module", autouse=True)
def _views_made_once(made_once):
    """The stand-in engine makes the views of a portrait once; that it repeats itself, and that
    other processes make the same, is for its own tests and those on Ray."""
    make = MeshSynthesizer.__call__

    def once(engine, reference, yaws, seeds):
        asked = repr((engine.provenance(), reference.shape, tuple(yaws), tuple(seeds)))
        name = hashlib.sha256(asked.encode() + reference.tobytes()).hexdigest()
        return made_once(f"views-{name}", lambda: make(engine, reference, yaws, seeds))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeshSynthesizer, "__call__", once)
        yield
