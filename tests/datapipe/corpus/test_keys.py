"""Keys are unique, safe as file names, and depend on nothing but their own entry."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datapipe.corpus.names import MAX_LENGTH, file_key, member_key, row_key, shared_row_key

# Few letters, so that near misses are frequent; and anything at all, lone surrogates included.
narrow = st.text(alphabet="aA_-./ 1é", min_size=1, max_size=6)
wide = st.text(alphabet=st.characters(), min_size=1, max_size=300)
paths = st.one_of(narrow.map(lambda stem: stem + ".mp4"), narrow, wide)
entries = st.one_of(
    st.tuples(st.just(file_key), st.tuples(paths)),
    st.tuples(
        st.just(member_key),
        st.tuples(narrow.map(lambda stem: stem + ".tar"), paths, st.integers(0, 2)),
    ),
)
rows = st.tuples(st.one_of(st.none(), narrow, wide), paths)


def assert_safe(key):
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", key)
    assert len(key) <= MAX_LENGTH
    assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", key, re.IGNORECASE)


@given(entries)
def test_a_key_is_a_safe_file_name_on_every_system(entry):
    make, arguments = entry
    assert_safe(make(*arguments))


@given(entries, entries)
@example((file_key, ("a/b.mp4",)), (file_key, ("a__b.mp4",)))
@example((file_key, ("a_/b.mp4",)), (file_key, ("a/_b.mp4",)))
@example((file_key, ("clip.mp4",)), (file_key, ("Clip.mp4",)))
@example((file_key, ("a/b.mp4",)), (member_key, ("a.tar", "b.mp4", 0)))
@example((file_key, ("a--b.mp4",)), (member_key, ("a.tar", "b.mp4", 0)))
@example((member_key, ("a/b.tar", "c.mp4", 0)), (member_key, ("a.tar", "b/c.mp4", 0)))
@example((file_key, ("é.mp4",)), (file_key, ("e\u0301.mp4",)))
@example((file_key, ("a.mp4",)), (file_key, ("a.mp4/",)))
def test_different_entries_have_different_keys_even_where_case_is_ignored(one, other):
    if one != other:
        assert one[0](*one[1]).lower() != other[0](*other[1]).lower()


@given(entries)
def test_no_clean_name_can_imitate_the_key_of_another_entry(entry):
    make, arguments = entry
    key = make(*arguments)
    imitation = f"{key}.mp4"
    if (make, arguments) != (file_key, (imitation,)):
        assert file_key(imitation).lower() != key.lower()


@given(rows, rows, st.integers(0, 2), st.integers(0, 2))
def test_rows_that_share_a_key_get_different_ones(one, other, first, second):
    keys = {shared_row_key(*one, first).lower(), shared_row_key(*other, second).lower()}
    assert len(keys) == 1 if (one, first) == (other, second) else len(keys) == 2
    assert not keys & {row_key(*one).lower(), row_key(*other).lower()}
    for key in keys:
        assert_safe(key)


@given(rows)
def test_the_key_of_a_row_is_safe(row):
    assert_safe(row_key(*row))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("clip.mp4", "clip"),
        ("a/b.mp4", "a__b"),
        ("part-00/clip_000001.mp4", "part-00__clip_000001"),
    ],
)
def test_a_clean_path_reads_as_itself(path, key):
    assert file_key(path) == key


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("clip.mov", "clip"),
        ("Clip.mp4", "Clip"),
        ("two words.mp4", "two_words"),
        ("a.b.c.mp4", "a_b_c"),
        ("../../etc/passwd.mp4", "etc_passwd"),
        ("/abs/x.mp4", "abs_x"),
        ("Ünïcödé.mp4", "Unicode"),
        ("视频.mp4", "video"),
        ("con.mp4", "con"),
        ("a__b.mp4", "a_b"),
        ("clip-abcdefghijklmnop.mp4", "clip_abcdefghijklmnop"),
        ("line\nbreak.mp4", "line_break"),
    ],
)
def test_any_other_path_reads_as_a_slug_and_a_hash(path, slug):
    assert re.fullmatch(re.escape(slug) + "-[a-z2-7]{16}", file_key(path))


def test_the_end_of_a_long_path_stays_readable():
    key = file_key("folder/" * 2000 + "the_clip.mp4")
    assert len(key) == MAX_LENGTH
    assert re.search("_the_clip-[a-z2-7]{16}$", key)


def test_a_member_reads_as_its_tar_and_itself():
    assert member_key("shards/000000.tar", "sub/clip.mp4") == "shards__000000--sub__clip"


def test_keys_never_change_between_versions():
    """A run is resumed by its keys: these are promised."""
    assert file_key("Clip 1.mov") == "Clip_1-jfdf6sma4ody7ion"
    assert member_key("a.tar", "../b.mp4", 1) == "b-qiwgnyvvfyv5nw3k"
    assert row_key("a/b", "x.mp4") == "a_b-f7lkz4dhnuq7yqes"


@given(st.text(alphabet=string.ascii_letters + string.digits + "_", min_size=1, max_size=40))
@example("dQw4w9WgXcQ")
def test_a_given_key_of_plain_letters_is_kept(given_key):
    kept = row_key(given_key, "x.mp4") == given_key
    assert kept == (re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", given_key, re.I) is None)
