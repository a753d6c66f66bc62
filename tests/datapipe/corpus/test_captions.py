"""Captions are found in text and JSON of any content, are always writable, and never a repr."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus.captions import (
    FIELDS,
    MAX_ALL,
    MAX_CAPTIONS,
    MAX_TEXT,
    Captions,
    best,
    bytes_to_read,
    from_fields,
    from_file,
    spelled_out,
)

words = st.text("abé视\"'\\[](){}:, \n", min_size=1).map(lambda text: f"a {text} z")
"""Texts that are surely captions, with everything that a printed list is made of."""


def in_text(data):
    return from_file("x.txt", data, len(data))


def in_json(value, field=None):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return from_file("x.json", data, len(data), field)


@given(st.sampled_from(["x.txt", "X.JSON"]), st.binary(max_size=200))
def test_any_bytes_give_texts_that_utf8_can_hold_or_a_problem(name, data):
    found = from_file(name, data, len(data))
    for text in (*found.texts, found.problem):
        text.encode()
    assert not (found.texts and found.problem)


@given(st.text(alphabet=st.characters()))
def test_any_caption_in_json_gives_a_text_that_utf8_can_hold(text):
    "".join(in_json({"caption": text}).texts).encode()


@given(words)
def test_a_caption_is_read_in_every_encoding_that_its_mark_names(text):
    wanted = (text.strip(),)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert in_text(text.encode(encoding)).texts == wanted
        assert in_json(json.dumps({"caption": text}).encode(encoding)).texts == wanted
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        assert in_text(mark + text.encode(encoding)).texts == wanted


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("café".encode("latin-1"), r"not UTF-8 \(byte 0xe9 at 3\)"),
        ("a man".encode("utf-16-le"), "zero bytes"),
        ("caf\ufffd".encode(), r"U\+FFFD"),
        (b"\xff\xfea", "not UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_no_caption_and_says_why(data, why):
    found = in_text(data)
    assert found.texts == ()
    assert found.problem.startswith("x.txt ")
    assert re.search(why, found.problem)


def test_a_stray_zero_is_a_control_character_like_any_other():
    assert from_fields({"caption": "a \0man"}).texts == ("a man",)
    assert in_text(b"a man in a red coat\0").texts == ("a man in a red coat",)


def test_white_space_and_control_characters_are_dropped():
    assert in_text(b"\xef\xbb\xbf a\x1b[31m man\x07\r\n\ttoo\n").texts == ("a[31m man\r\n\ttoo",)


@pytest.mark.parametrize(
    "value",
    [
        None, float("nan"), 3, 0.5, True, "", " ", "nan", "NaN", "None", "null", "<NA>", "N/A",
        "17", "-1.5e3", "1,5", [], {}, [None], [float("nan"), 2], {"en": None}, "[]", "{}", "[nan]",
        "['', None]",
    ],
)  # fmt: skip
def test_numbers_and_nothing_are_no_captions_and_no_problem(value):
    assert in_json({"caption": value}) == Captions()
    assert from_fields({"caption": value}) == Captions()


@pytest.mark.parametrize(
    "data", [b"[1, 2]", b'{"caption": 3}', b"{}", b"", b" \n", b"null", b"17", b'{"other": "x"}']
)
def test_json_without_a_caption_gives_none(data):
    assert in_json(data) == Captions()


@pytest.mark.parametrize("data", [b"no json", b'{"caption": "x"', b"[" * 100_000, b"9" * 5000])
def test_broken_json_says_so(data):
    assert in_json(data).problem.startswith("x.json is no JSON")


def test_fields_are_looked_for_in_the_documented_order():
    row = {name: f"of {name}" for name in reversed(FIELDS)}
    for name in FIELDS:
        assert from_fields(row).texts == (f"of {name}",)
        row[name] = float("nan")
    assert from_fields(row) == Captions()


def test_a_named_field_is_the_only_one():
    row = {"caption": "x", "title": "y"}
    assert from_fields(row, "title").texts == ("y",)
    assert in_json(row, "title").texts == ("y",)
    assert from_fields(row, "other") == Captions()


@given(st.lists(words, min_size=1, max_size=5))
def test_all_of_several_captions_are_kept_in_order(several):
    wanted = tuple(text.strip() for text in several)
    as_objects = [{"caption": text, "start": 0.5} for text in several]
    by_language = {f"l{n}": text for n, text in enumerate(several)}
    for value in (several, by_language, as_objects, [several], {"all": several}):
        assert from_fields({"caption": value}).texts == wanted
        assert in_json({"caption": value}).texts == wanted
    assert in_json(several).texts == wanted


@given(st.lists(words, min_size=1, max_size=5))
def test_a_printed_list_is_read_as_the_list(several):
    """By Python, JSON and NumPy, as they end up in the columns of a CSV."""
    wanted = tuple(text.strip() for text in several)
    printed = [str(several), json.dumps(several), json.dumps(several, ensure_ascii=False)]
    printed += [str({f"l{n}": text for n, text in enumerate(several)}), repr(tuple(several))]
    with np.printoptions(threshold=10**6, linewidth=10**6):
        printed += [str(np.array(several, dtype=object)), repr(np.array(several, dtype=object))]
    printed.append(str([np.str_(text) for text in several]))
    for text in printed:
        assert from_fields({"caption": text}).texts == wanted, text
        assert in_text(text.encode()).texts == wanted, text


def test_printed_bytes_are_read_as_their_text():
    assert from_fields({"caption": str("café 视".encode())}).texts == ("café 视",)


@pytest.mark.parametrize(
    "text",
    [
        "[music] a man sings [applause]", "(a man)", "{not json", "['unclosed", "a ['list'] inside",
        "['a'] and more", '"quoted"', "[a, b]", "(masterpiece:1.2), a man", "b'", "[" * 300,
    ],
)  # fmt: skip
def test_text_with_brackets_is_text(text):
    assert spelled_out(text) is None
    assert in_text(text.encode()).texts == (text,)


@given(st.text("[](){}'\",:= \\bnarryu0x1NoeT\n"))
def test_anything_may_look_like_a_printed_list(text):
    spelled_out(text)
    "".join(in_text(text.encode()).texts).encode()


def test_a_text_of_any_length_costs_a_bounded_effort():
    for text in ("['" + "a" * 10**6, "[" + "'a' " * 10**5 + "x", "'" * 10**6, "[" + "\\" * 10**6):
        assert len("".join(in_text(text.encode()).texts)) <= MAX_ALL


def test_a_huge_caption_is_cut_even_within_a_letter():
    assert in_text(b"x" * 10**6).texts == ("x" * MAX_TEXT,)
    assert in_text(("é" * MAX_TEXT).encode()).texts == ("é" * (MAX_TEXT // 2),)
    assert in_text(b"a" + ("é" * MAX_TEXT).encode()).texts[0].endswith("é")
    assert from_fields({"caption": "x" * 10**6}).texts == ("x" * MAX_TEXT,)


def test_no_more_captions_are_kept_than_anyone_needs():
    assert len(from_fields({"caption": ["x y"] * 10**5}).texts) == MAX_CAPTIONS
    assert len("".join(from_fields({"caption": ["x" * 10**6] * 100}).texts)) <= MAX_ALL + MAX_TEXT


def test_a_huge_json_file_is_not_read_and_says_so():
    assert bytes_to_read(".json", 10**12) == 0
    assert bytes_to_read(".json", 10**5) == 10**5
    assert "larger" in from_file("x.json", b"", 10**12).problem
    assert "larger" in in_json(b'{"caption": "' + b"x" * 10**7 + b'"}').problem


def test_the_best_of_several_sources_has_a_text_else_a_problem():
    none, bad, good = Captions(), Captions(problem="p"), Captions(("t",))
    assert best([none, bad, good, Captions(("other",))]) == good
    assert best([none, bad, Captions(problem="q")]) == bad
    assert best([none, none]) == none
    assert best([]) == none
