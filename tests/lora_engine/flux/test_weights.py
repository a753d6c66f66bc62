"""What is wrong with a base or an adapter is named from the headers, before a weight is read."""

import shutil

import pytest
from diffusers import FluxTransformer2DModel

from datapipe.errors import UserError
from lora_engine.flux.base import WEIGHTS, base_shapes, check_targets, find_base
from lora_engine.flux.settings import TARGETS, FluxSettings
from lora_engine.flux.synthesizer import FluxSynthesizer


@pytest.fixture
def copy(tiny_base, tmp_path):
    """A base of this test's own."""
    return shutil.copytree(tiny_base, tmp_path / "copy")


@pytest.mark.parametrize("component", WEIGHTS)
def test_a_file_cut_short_is_damaged(copy, component):
    """As a broken download leaves it."""
    file = next((copy / component).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{file.name} is damaged"):
        base_shapes(find_base(str(copy)), ("transformer", component))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_layers", 3), ("num_single_layers", 1), ("num_attention_heads", 4)],
)
def test_weights_of_another_config_are_refused(copy, name, value):
    """Width and numbers of blocks are compared."""
    config = copy / "transformer/config.json"
    config.write_text(config.read_text().replace(f'"{name}": 2', f'"{name}": {value}'))
    with pytest.raises(UserError, match=r"config\.json says \[.*\]"):
        base_shapes(find_base(str(copy)))


def test_every_default_target_is_a_layer_and_others_are_named(tiny_base):
    """peft alone would pass over one name among several that fit nothing."""
    weights = base_shapes(find_base(str(tiny_base)))
    check_targets(TARGETS, weights)
    with pytest.raises(UserError, match="--targets to_z q: no layer"):
        check_targets(["to_q", "to_z", "q"], weights)


def test_an_adapter_of_another_base_is_refused(copy, tiny, make_adapter):
    """By the shapes of its layers, since folders have any name."""
    wide = FluxTransformer2DModel(**{**tiny["TRANSFORMER"], "num_attention_heads": 4})
    shutil.rmtree(copy / "transformer")
    wide.save_pretrained(copy / "transformer")
    with pytest.raises(UserError, match="made for another base than copy"):
        FluxSynthesizer(FluxSettings(str(copy), make_adapter())).inputs()
