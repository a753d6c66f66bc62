"""A sample's bytes are taken apart where they lie, as the libraries would."""

from __future__ import annotations

import io
import tarfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from harmoview.data.sample_bytes import description_of, tensors_of
from harmoview.encode.shard import FragmentWriter

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.bool])
TENSORS = st.dictionaries(
    st.sampled_from(["video", "references", "present", "features"]),
    st.tuples(DTYPES, st.lists(st.integers(0, 5), max_size=4)),
    min_size=1,
)


def span(key, data):
    buffer = io.BytesIO()
    FragmentWriter(buffer).add(
        {f"{key}.safetensors": data, f"{key}.json": b'{"caption_text": "x"}'}
    )
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


@given(TENSORS, st.sampled_from(["a", "k" * 90, "k" * 250, "ключ-" * 30]))
def test_tensors_are_those_of_tarfile_and_safetensors(shapes, key):
    """Of any kind and shape, also empty, and under keys that need a longer header."""
    tensors = {n: torch.randn(shape).to(kind) for n, (kind, shape) in shapes.items()}
    whole = span(key, save(tensors))
    with tarfile.open(fileobj=io.BytesIO(whole.numpy().tobytes())) as tar:
        expected = load(tar.extractfile(f"{key}.safetensors").read())
    found = tensors_of(whole)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert description_of(whole) == {"caption_text": "x"}


def test_tensors_share_the_memory_that_was_read():
    """No copy is made."""
    whole = span("a", save({"video": torch.ones(4)}))
    tensors_of(whole)["video"].zero_()
    assert not tensors_of(whole)["video"].any()


@given(st.binary(max_size=300), st.integers(0, 1200))
def test_bytes_that_are_no_sample_are_refused(junk, place):
    """A ValueError, whatever stands in the headers, and never memory outside."""
    good = span("a", save({"video": torch.ones(8)}))
    data = bytearray(good.numpy().tobytes())
    data[place : place + len(junk)] = junk[: max(0, len(data) - place)]
    try:
        found = tensors_of(torch.frombuffer(data, dtype=torch.uint8))
    except ValueError:
        return
    assert sum(t.numel() * t.element_size() for t in found.values()) <= len(data)


@pytest.mark.parametrize("end", [0, 100, 512, 700])
def test_a_sample_that_is_cut_off_is_refused(end):
    """Within the header of the tar, or of the tensors, or within the tensors."""
    with pytest.raises(ValueError, match=r"sample|member|cut off|header|Expecting"):
        tensors_of(span("a", save({"video": torch.ones(400)}))[:end].clone())
