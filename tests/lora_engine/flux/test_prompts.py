import pytest
import torch

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from lora_engine.flux import prompts
from lora_engine.flux.base import find_base


@pytest.fixture
def stored(tiny_base, tmp_path):
    """(embeddings, the file they are in)."""
    made = prompts.encode_prompts(find_base(str(tiny_base)), (-30, 0, 30), 64, "cpu", torch.float32)
    prompts.save_prompts(Folder(tmp_path), made)
    return made, tmp_path / prompts.FILE


def test_every_yaw_has_its_own_prompt():
    """Seven yaws, seven texts; positive yaw is image right."""
    assert len({prompts.prompt(yaw) for yaw in YAWS}) == 7
    assert all("right" in prompts.prompt(yaw) for yaw in (30, 60, 90))
    assert all("left" in prompts.prompt(yaw) for yaw in (-30, -60, -90))


def test_mirrored_yaw_is_the_mirrored_prompt():
    """Left and right change places and nothing else does: a flipped pair stays true."""
    for yaw in YAWS:
        swapped = prompts.prompt(yaw).replace("right", "?").replace("left", "right")
        if yaw != 0:
            assert swapped.replace("?", "left") == prompts.prompt(-yaw)


def test_stored_embeddings_come_back_by_yaw(stored):
    """Asked for in any order, each yaw gets its own."""
    made, file = stored
    found = prompts.load_prompts(file, (30, -30), 64)
    tokens, pooled = found.batch((30, -30))
    assert torch.equal(tokens, torch.stack([made.tokens[30], made.tokens[-30]]))
    assert torch.equal(pooled, torch.stack([made.pooled[30], made.pooled[-30]]))
    assert not torch.equal(made.tokens[30], made.tokens[-30])


def test_other_yaws_lengths_or_prompts_are_refused(stored, monkeypatch):
    """Embeddings are never used for something they were not made of."""
    _, file = stored
    with pytest.raises(UserError, match=r"\[60\]"):
        prompts.load_prompts(file, (0, 60), 64)
    with pytest.raises(UserError, match="64 tokens"):
        prompts.load_prompts(file, (0,), 512)
    monkeypatch.setattr(prompts, "prompt", lambda yaw: "something else")
    with pytest.raises(UserError, match="other prompts"):
        prompts.load_prompts(file, (0,), 64)
