"""MFI: patch features of a frozen tower, joined with the text, absent ones leaving no trace."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview.media import square
from harmoview.model.injection import FrontalEncoder, join


def test_features_are_those_of_the_block_asked_for():
    """The tower cut after block k gives the whole tower's hidden state after block k."""
    pictures = [tiny.portrait(1), tiny.portrait(2)]
    for layer in (0, 1):
        tower, encoder = tiny.tower(), FrontalEncoder(tiny.tower(), layer, 56)
        squares = [square(picture, 56) for picture in pictures]
        inputs = encoder._processor()(squares, return_tensors="pt")
        with torch.no_grad():
            states = tower(
                inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], output_hidden_states=True
            ).hidden_states
        after = states[layer + 1].reshape(2, 4, 4, 32)
        expected = after / after.square().mean(-1, keepdim=True).sqrt()
        assert torch.allclose(encoder(pictures), expected.reshape(2, 4, 128), atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch_and_size_is_fixed():
    """Alone or with others the same features; 56 pixels are 4 x 4 patches, 4 tokens."""
    encoder = FrontalEncoder(tiny.tower(), 1, 56)
    one, two = tiny.portrait(1), tiny.portrait(2, size=96)
    both = encoder([one, two])
    assert both.shape == (2, 4, encoder.dim)
    assert torch.allclose(encoder([one])[0], both[0], atol=1e-5)
    assert torch.allclose(encoder([two])[0], both[1], atol=1e-5)


def test_a_tower_is_known_by_its_weights_in_any_precision():
    """As far as they are used: other ones in the first or the last layer make another tower."""
    first, same = (FrontalEncoder(tiny.tower(), 0, 56) for _ in range(2))
    rounded = FrontalEncoder(tiny.tower().to(torch.bfloat16), 0, 56)
    assert first.fingerprint == same.fingerprint == rounded.fingerprint
    for changed in ("patch_embed.proj.weight", "blocks.0.mlp.down_proj.bias"):
        tower = tiny.tower()
        with torch.no_grad():
            tower.get_parameter(changed).add_(0.1)
        assert FrontalEncoder(tower, 0, 56).fingerprint != first.fingerprint


def test_the_tower_is_frozen():
    """No parameter of it ever trains."""
    encoder = FrontalEncoder(tiny.tower(), 0, 56)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder([tiny.portrait(1)]).requires_grad


def test_present_tokens_come_before_the_text_and_absent_ones_do_not_come():
    """A batch that agrees is cut without a mask; one that differs is masked."""
    text, image = torch.randn(2, 5, 8), torch.randn(2, 2, 3, 8)
    everyone = torch.ones(2, 2, dtype=torch.bool)
    condition, mask = join(text, image, everyone)
    assert mask is None
    assert torch.equal(condition, torch.cat([image.flatten(1, 2), text], dim=1))
    condition, mask = join(text, image, torch.tensor([[False, True]] * 2))
    assert mask is None
    assert torch.equal(condition, torch.cat([image[:, 1], text], dim=1))
    condition, mask = join(text, image, ~everyone)
    assert mask is None
    assert torch.equal(condition, text)
    condition, mask = join(text, image, torch.tensor([[True, True], [False, True]]))
    assert condition.shape[1] == 11
    assert mask[:, 0, 0].sum(dim=1).tolist() == [11, 8]
    assert not mask[1, 0, 0, :3].any()


def test_features_say_whose_they_are_once_the_embedding_has_learned():
    """Without it, and as long as it is zero, two people's features may change places unnoticed."""
    values = tiny.inputs()
    swapped = {**values, "encoder_hidden_states_image":
               values["encoder_hidden_states_image"].flip(1)}  # fmt: skip
    for learned in (False, True):
        model = tiny.harmoview()
        assert not model.identity_vectors.any()
        plain = tiny.harmoview(identity_embedding=False)
        plain.load_state_dict(model.state_dict(), strict=False)
        if learned:
            torch.nn.init.normal_(model.identity_vectors)
        with torch.no_grad():
            one, other = model(**values).sample, model(**swapped).sample
            assert torch.equal(one, plain(**values).sample) != learned
        assert torch.allclose(one, other, atol=1e-5) != learned


@pytest.mark.parametrize(("layer", "size", "says"), [(2, 56, "layer"), (-1, 56, "layer"),
                                                   (0, 50, "vit_size")])  # fmt: skip
def test_settings_outside_the_tower_are_refused(layer, size, says):
    """A block that is not there, a size that is not whole patches."""
    with pytest.raises(ValueError, match=says):
        FrontalEncoder(tiny.tower(), layer, size)
