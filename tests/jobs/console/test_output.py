"""Nothing from a corpus steers the terminal it is shown on."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.console.output import plain


@given(st.text(st.characters(exclude_categories=())), st.booleans())
def test_no_control_character_is_left(text, lines):
    """Of any text, what is shown holds no control, bidi, surrogate or line separator character."""
    allowed = {"\u200c", "\u200d"} | ({"\n"} if lines else set())
    left = [
        letter
        for letter in plain(text, lines=lines)
        if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]
    assert set(left) <= allowed
    plain(text, lines=lines).encode()


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs", "Co"))))
def test_text_that_only_shows_is_unchanged(text):
    """Letters, marks, numbers, signs and spaces of any script stay as they are."""
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("gone\rhere\x07", "gone\\rhere\\x07"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_what_is_hidden_is_written_out(text, shown):
    """A reader sees which character it was."""
    assert plain(text) == shown


def test_line_ends_are_kept_on_request():
    """A traceback keeps its lines; a key stays on one."""
    assert plain("a\nb", lines=True) == "a\nb"
    assert plain("a\nb") == "a\\nb"
