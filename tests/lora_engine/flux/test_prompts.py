import pytest
import torch

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from lora_engine.flux import prompts
from lora_engine.flux.base import find_base
from lora_engine.flux.settings import FluxSettings
from lora_engine.flux.synthesizer import FluxSynthesizer


@pytest.fixture
def stored(tiny_base, tmp_path):
    """(embeddings, the file they are in)."""
    texts, base = prompts.standard((-30, 0, 30)), find_base(str(tiny_base))
    made = prompts.encode_prompts(base, texts, 64, "cpu", torch.float32)
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
    found = prompts.load_prompts(file, prompts.standard((30, -30)), 64)
    tokens, pooled = found.batch((30, -30))
    assert torch.equal(tokens, torch.stack([made.tokens[30], made.tokens[-30]]))
    assert torch.equal(pooled, torch.stack([made.pooled[30], made.pooled[-30]]))
    assert not torch.equal(made.tokens[30], made.tokens[-30])


def test_other_yaws_lengths_or_prompts_are_refused(stored):
    """Embeddings are never used for something they were not made of."""
    _, file = stored
    with pytest.raises(UserError, match=r"\[60\]"):
        prompts.load_prompts(file, prompts.standard((0, 60)), 64)
    with pytest.raises(UserError, match="64 tokens"):
        prompts.load_prompts(file, prompts.standard((0,)), 512)
    with pytest.raises(UserError, match="other prompts"):
        prompts.load_prompts(file, {0: "something else"}, 64)


def test_a_prompt_that_would_be_cut_is_refused(tiny_base):
    """What is beyond the text length would never be seen."""
    base = find_base(str(tiny_base))
    with pytest.raises(UserError, match=r"\+30° has \d+ T5 tokens, only 8"):
        prompts.encode_prompts(base, prompts.standard((30,)), 8, "cpu", torch.float32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"0" = "front"', r"no text for the yaws \[30\]"),
        ('"0" = "front"\n"+30" = 3', r"no text for the yaws \[30\]"),
        ('"0" = "front"\n"+30" = "front"', "the same text"),
        ('front = "0"', "not a TOML table"),
        ("=", "not a TOML table"),
    ],
)
def test_own_prompts_must_tell_every_yaw(tmp_path, text, message):
    """By yaw, one for each, no two alike."""
    (tmp_path / "prompts.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        prompts.read_prompts(tmp_path / "prompts.toml", (0, 30))


def test_own_prompts_go_with_the_adapter(run, tiny_base, portrait, tmp_path):
    """Trained with, stored, and used in synthesis, where nobody has to name them again."""
    own = {yaw: f"The same person, {yaw} degrees" for yaw in YAWS}
    lines = [f'"{yaw:+d}" = "{text}"' for yaw, text in own.items()]
    (tmp_path / "prompts.toml").write_text("\n".join(lines))
    folder = run(prompts=str(tmp_path / "prompts.toml"), steps=1)
    synthesizer = FluxSynthesizer(FluxSettings(str(tiny_base), str(folder), denoising_steps=1))
    assert synthesizer.inputs().prompts == own
    synthesizer.setup()
    assert synthesizer(portrait, (30,), (0,))[0].shape == (32, 32, 3)
    (tmp_path / "prompts.toml").write_text("\n".join(lines).replace("person", "man"))
    with pytest.raises(UserError, match="prompts"):
        run(prompts=str(tmp_path / "prompts.toml"), steps=2, resume=True)
