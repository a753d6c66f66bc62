"""Captions are found in text and JSON files of any content, and are always writable as UTF-8."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus.captions import MAX_BYTES, bytes_to_read, clean, decode


@given(st.sampled_from([".txt", ".json"]), st.binary(max_size=200))
def test_any_bytes_give_a_text_that_utf8_can_hold(suffix, data):
    decode(suffix, data).encode()


@given(st.text(alphabet=st.characters()))
def test_any_caption_in_json_gives_a_text_that_utf8_can_hold(text):
    decode(".json", json.dumps({"caption": text}).encode()).encode()


def test_bytes_that_are_not_utf8_are_marked_and_the_rest_is_kept():
    assert decode(".txt", b"caf\xe9 noir") == "caf\ufffd noir"


def test_white_space_and_byte_order_marks_around_a_caption_are_dropped():
    assert decode(".txt", b"\xef\xbb\xbf a man\n") == "a man"


@pytest.mark.parametrize(
    "data", [b"[1, 2]", b'{"caption": 3}', b"{}", b"no json", b"", b"[" * 100_000, b"null"]
)
def test_json_without_a_caption_gives_none(data):
    assert decode(".json", data) == ""


def test_a_huge_caption_is_cut():
    assert len(clean("x" * 10**6)) == MAX_BYTES
    assert bytes_to_read(".txt", 10**12) == MAX_BYTES
    assert bytes_to_read(".txt", 10) == 10


def test_a_huge_json_file_is_not_read():
    assert bytes_to_read(".json", 10**12) == 0
    assert bytes_to_read(".json", 10**5) == 10**5
