"""Rows are read whatever program wrote the table, and what is damaged in it is told."""

import contextlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.corpus import corpus
from datapipe.errors import UserError
from tests.datapipe.corpus.tables import (
    write_parquet,
)


def test_broken_lines_are_rejected_rows_that_name_the_line(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = [b'{"path": "a.mp4"}', b"{broken", b"", b"[1]", b'{"path": "\xff.mp4"}', b'{"pa']
    path.write_bytes(b"\n".join(lines))
    samples = list(corpus(str(path)))
    details = [s.stopped.detail if s.stopped else s.source.path for s in samples]
    assert [d.removeprefix(f"{tmp_path}/") for d in details] == [
        "a.mp4",
        "m.jsonl: line 2 is no JSON object",
        "m.jsonl: line 4 is no JSON object",
        "\ufffd.mp4",
        "m.jsonl: line 6 is no JSON object",
    ]
    assert len({s.key for s in samples}) == 5


def test_an_endless_line_is_one_rejected_row(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"path": "a.mp4"}\n' + b"x" * 10**7 + b'\n{"path": "b.mp4"}\n')
    assert [s.outcome for s in corpus(str(path))] == ["candidate", "rejected", "candidate"]


def test_a_csv_row_of_another_length_is_a_rejected_row(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"path,caption\r\na.mp4,one, two\r\n\r\nb.mp4,caf\xe9\r\n")
    bad, good = corpus(str(path))
    assert "line 2 has 3 fields, the header 2" in bad.stopped.detail
    assert good.caption == ""
    assert "line 4: caption is not UTF-8 (byte 0xe9)" in good.caption_problem


def test_an_open_quote_in_a_csv_is_the_users_mistake(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text('path,caption\na.mp4,"open\n' + "b.mp4,x\n" * 20_000)
    with pytest.raises(UserError, match="quote that is not closed"):
        list(corpus(str(path)))


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbfpath\na.mp4\n")
    assert [s.key for s in corpus(str(path))] == ["a"]


def test_a_damaged_parquet_file_is_the_users_mistake(tmp_path):
    path = tmp_path / "m.parquet"
    write_parquet(path, [{"path": f"{n}.mp4"} for n in range(1000)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        corpus(str(path))


def test_text_in_parquet_that_is_no_utf8_is_no_caption(tmp_path):
    """Arrow and others write any bytes into a column of strings."""
    bad = pa.array([b"caf\xe9", b"a man"], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 2, bad.buffers())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), strings)
    for column in (strings, lists):
        pq.write_table(
            pa.table({"path": ["a.mp4", "b.mp4"], "text": column}), tmp_path / "m.parquet"
        )
        a, b = corpus(str(tmp_path / "m.parquet"))
        assert (a.caption, b.caption) == ("", "a man")
        assert "row 1: text is not UTF-8 (byte 0xe9 at 3)" in a.caption_problem


def test_every_type_that_parquet_has_is_a_caption_or_none(tmp_path):
    columns = {
        "float": pa.array([float("nan"), None], pa.float64()),
        "int": pa.array([1, 2], pa.int32()),
        "null": pa.array([None, None], pa.null()),
        "bytes": pa.array([b"a man", b"caf\xe9"], pa.binary()),
        "words": pa.array(["a man", None]).dictionary_encode(),
        "large": pa.array(["a man", "x"], pa.large_string()),
        "map": pa.array([[("en", "a man"), ("zh", "y")], None], pa.map_(pa.string(), pa.string())),
        "lists": pa.array([["a man"], []], pa.list_(pa.string())),
    }
    found = {}
    for name, column in columns.items():
        pq.write_table(pa.table({"path": ["a.mp4", "b.mp4"], name: column}), tmp_path / "m.parquet")
        found[name] = [s.caption for s in corpus(str(tmp_path / "m.parquet"), name)]
    nothing = ["", ""]
    assert {name for name, captions in found.items() if captions == nothing} == {
        "float", "int", "null",
    }  # fmt: skip
    assert {captions[0] for captions in found.values()} == {"", "a man"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["path{}caption", " Path {} Caption ", '"path"{}"caption"'])
def test_a_csv_is_read_whatever_program_wrote_it(tmp_path, encoding, separator, header):
    other = {",": ";", ";": ",", "\t": ","}[separator]
    lines = [
        header.format(separator),
        f'a.mp4{separator}"é{separator}\n""x"""',
        f"b.mp4{separator}y{other} z",
    ]
    (tmp_path / "m.csv").write_bytes("\r\n".join(lines).encode(encoding))
    found = [(s.key, s.caption) for s in corpus(str(tmp_path / "m.csv"))]
    assert found == [("a", f'é{separator}\n"x"'), ("b", f"y{other} z")]


def test_a_csv_in_an_unmarked_encoding_is_the_users_mistake(tmp_path):
    (tmp_path / "m.csv").write_bytes("path,caption\na.mp4,x\n".encode("utf-16-le"))
    with pytest.raises(UserError, match="UTF-16 without a byte order mark"):
        corpus(str(tmp_path / "m.csv"))


def test_excels_line_about_the_separator_is_no_header(tmp_path):
    (tmp_path / "m.csv").write_bytes("sep=;\r\npath;caption\r\na.mp4;x\r\nb\r\n".encode("utf-16"))
    good, bad = corpus(str(tmp_path / "m.csv"))
    assert good.caption == "x"
    assert "line 4 has 1 fields" in bad.stopped.detail


def test_spaces_after_commas_are_no_part_of_a_field(tmp_path):
    (tmp_path / "m.csv").write_text('path, caption\na.mp4, "one, two"\n')
    assert [s.caption for s in corpus(str(tmp_path / "m.csv"))] == ["one, two"]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_is_as_good_as_lines(tmp_path, indent):
    rows = [{"path": f"{n}.mp4", "caption": "]}, " + "x" * (n % 7) * 1000} for n in range(1000)]
    (tmp_path / "m.jsonl").write_text(json.dumps(rows, indent=indent))
    found = [(s.key, s.caption) for s in corpus(str(tmp_path / "m.jsonl"))]
    assert found == [(row["path"][:-4], row["caption"].strip()) for row in rows]


@pytest.mark.parametrize("end", ['{"path": "c.mp', "]extra", "broken]", "", ', 17, {"path": ""}]'])
def test_an_array_that_breaks_off_says_so_after_what_is_whole(tmp_path, end):
    (tmp_path / "m.jsonl").write_text('[{"path": "a.mp4"},\n{"path": "b.mp4"}' + end)
    a, b, *bad = corpus(str(tmp_path / "m.jsonl"))
    assert (a.key, b.key) == ("a", "b")
    assert all(s.outcome == "rejected" for s in bad)
    assert len(bad) == {"]extra": 0, ', 17, {"path": ""}]': 2}.get(end, 1)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_damage_in_a_parquet_file_is_the_users_mistake_or_is_harmless(tmp_path_factory, at, patch):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    write_parquet(path, [{"path": f"{n}.mp4", "caption": f"caption {n}"} for n in range(50)])
    data = bytearray(path.read_bytes())
    data[at % len(data) : at % len(data) + len(patch)] = patch
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        for sample in corpus(str(path)):
            f"{sample.source}{sample.caption}{sample.caption_problem}".encode()
