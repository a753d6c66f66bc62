"""References that do not see the video: what is kept of them equals what would be made again."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview.model.reference_kv import ReferenceCache

APART = {"reference_attention": "references", "reference_timestep": "zero"}


def steps(model, cache, count=3):
    """Predictions of a few steps of one video, with other noise at other times."""
    given = tiny.inputs(batch=2)
    given["reference_mask"][1, 0] = False  # one sample lacks an identity, so that there is a mask
    draw = torch.Generator().manual_seed(1)
    found = []
    for step in range(count):
        given["hidden_states"] = torch.randn(given["hidden_states"].shape, generator=draw)
        given["timestep"] = torch.tensor([900.0 - 200 * step] * 2)
        with torch.no_grad():
            found.append(model(**given, reference_cache=cache).sample)
    return found


@pytest.mark.parametrize("more", [{}, {"absent_views": "gray", "gray_latent": [0.1] * 16}])
def test_kept_references_give_the_predictions_of_whole_passes(more):
    """At every step, though from the second one on the video's tokens alone are computed."""
    model = tiny.harmoview(**APART, **more)
    whole, kept = steps(model, None), steps(model, ReferenceCache())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, kept, strict=True))
    lengths = []
    model.blocks[0].register_forward_hook(lambda _, args, out: lengths.append(out.shape[1]))
    steps(model, ReferenceCache(), 2)
    assert lengths == [2 * 7 * 4 + 3 * 4 * 3, 3 * 4 * 3]


def test_nothing_of_the_video_reaches_a_reference():
    """In a model that was made for it: their tokens are the same whatever is noise and time."""
    for settings, same in ((APART, True), ({"reference_timestep": "zero"}, False)):
        model, seen = tiny.harmoview(**settings), []
        model.blocks[-1].register_forward_hook(lambda _, args, out, seen=seen: seen.append(out))
        steps(model, None, 2)
        first, second = (out[:, : 2 * 7 * 4] for out in seen)
        assert torch.equal(first, second) is same


def test_references_matter_and_learn_still():
    """Another picture changes the video, and the proxy and the attention have gradients."""
    model = tiny.harmoview(**APART)
    given = tiny.inputs(batch=1)
    given["reference_mask"][:, :, 3] = False
    model(**given).sample.square().mean().backward()
    for part in (model.proxy_token, model.blocks[0].attn1.to_k.weight):
        assert part.grad.abs().sum() > 0
    with torch.no_grad():
        before = model(**given).sample
        given["reference_latents"][:, 0, 0] += 1
        assert not torch.allclose(model(**given).sample, before)


def test_a_model_that_was_not_made_for_it_refuses():
    """And so does one whose references would be told the video's time."""
    with pytest.raises(ValueError, match="needs a model with reference_attention"):
        steps(tiny.harmoview(), ReferenceCache())
    with pytest.raises(ValueError, match="needs reference_timestep zero"):
        tiny.harmoview(reference_attention="references")
