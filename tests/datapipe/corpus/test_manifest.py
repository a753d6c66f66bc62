"""Manifests give a sample for every row, in order, whatever the rows hold."""

import csv
import json
import re

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus import corpus, local_copy
from datapipe.corpus.keys import file_key
from datapipe.errors import UserError


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


WRITERS = {".parquet": write_parquet, ".jsonl": write_jsonl, ".csv": write_csv}
every_form = pytest.mark.parametrize("suffix", WRITERS)


@pytest.fixture
def listed(tmp_path):
    """Lists rows written as a manifest of some form."""

    def list_them(rows, suffix=".jsonl"):
        path = tmp_path / f"videos{suffix}"
        WRITERS[suffix](path, rows)
        return list(corpus(str(path)))

    return list_them


@every_form
def test_path_key_and_caption_are_read(listed, tmp_path, suffix):
    rows = [
        {"path": "a/b.mp4", "key": "first", "caption": "one, two\nthree é", "extra": 1},
        {"path": "/elsewhere/C.MOV", "key": "dQw4w9WgXcQ", "caption": "", "extra": 2},
        {"path": "s3://bucket/d.webm", "key": "third", "caption": "x" * 10**5, "extra": 3},
    ]
    samples = listed(rows, suffix)
    assert [s.key for s in samples] == ["first", "dQw4w9WgXcQ", "third"]
    assert [s.source.path for s in samples] == [
        str(tmp_path / "a/b.mp4"), "/elsewhere/C.MOV", "s3://bucket/d.webm",
    ]  # fmt: skip
    assert [s.source.suffix for s in samples] == [".mp4", ".mov", ".webm"]
    assert [len(s.caption) for s in samples] == [len("one, two\nthree é"), 0, 64 * 1024]


@every_form
def test_without_a_key_it_follows_from_the_path(listed, suffix):
    samples = listed([{"path": "a/b.mp4"}, {"path": "a/B.mov"}], suffix)
    assert [s.key for s in samples] == [file_key("a/b.mp4"), file_key("a/B.mov")] == [
        "a__b", samples[1].key,
    ]  # fmt: skip


def test_an_empty_key_is_no_key(listed):
    rows = [{"path": "a.mp4", "key": ""}, {"path": "b.mp4", "key": None}, {"path": "c.mp4"}]
    assert [s.key for s in listed(rows)] == ["a", "b", "c"]


def test_keys_that_are_numbers_are_kept(listed):
    assert [s.key for s in listed([{"path": "a.mp4", "key": 17}])] == ["17"]
    assert [s.key for s in listed([{"path": "a.mp4", "key": 17}], ".parquet")] == ["17"]


@every_form
def test_a_path_listed_twice_is_two_samples(listed, suffix):
    samples = listed([{"path": "a.mp4"}, {"path": "b.mp4"}, {"path": "a.mp4"}], suffix)
    assert len({s.key for s in samples}) == 3
    assert samples[0].source == samples[2].source
    assert samples[1].key == "b"


def test_keys_given_twice_or_unsafe_become_a_slug_and_a_hash(listed):
    keys = ["same", "same", "Same", "a/b", "a.b", "con", "é", "-x", "fine"]
    samples = listed([{"path": f"{n}.mp4", "key": key} for n, key in enumerate(keys)])
    assert samples[-1].key == "fine"
    assert len({s.key.lower() for s in samples}) == len(keys)
    for sample in samples[:-1]:
        assert re.fullmatch(r"\w+-[a-z2-7]{16}", sample.key)


def test_a_given_key_cannot_take_the_key_of_a_path(listed):
    samples = listed([{"path": "a/b.mp4"}, {"path": "x.mp4", "key": "a__b"}])
    assert len({s.key for s in samples}) == 2


texts = st.text(alphabet="aA_-./1é", max_size=4)


@given(st.lists(st.tuples(st.one_of(st.none(), texts), texts.map(lambda t: t + ".mp4"))))
def test_keys_are_unique_whatever_is_given(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "unique.jsonl"
    write_jsonl(path, [{"path": path, "key": key} for key, path in rows] or [{"path": "a.mp4"}])
    samples = list(corpus(str(path)))
    assert len({s.key.lower() for s in samples}) == len(samples) == max(len(rows), 1)


@every_form
def test_a_manifest_without_a_path_column_is_the_users_mistake(listed, suffix):
    with pytest.raises(UserError, match="needs a column 'path'; its columns are: file, caption"):
        listed([{"file": "a.mp4", "caption": "x"}], suffix)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_manifest_is_the_users_mistake(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=str(path)):
        list(corpus(str(path)))


def test_a_manifest_without_rows_is_the_users_mistake(tmp_path):
    (tmp_path / "m.csv").write_text("path,caption\n")
    with pytest.raises(UserError, match="no rows"):
        list(corpus(str(tmp_path / "m.csv")))


@pytest.mark.parametrize("path", ["", None, "clip.mpg", "noextension", "notes.txt"])
def test_a_row_that_names_no_video_is_a_rejected_row(listed, path):
    bad, good = listed([{"path": path}, {"path": "b.mp4"}])
    assert (bad.outcome, bad.stopped.reason) == ("rejected", "unreadable")
    assert (good.key, good.outcome) == ("b", "candidate")


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
    assert good.caption == "caf\ufffd"


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


def test_paths_are_seen_from_the_manifests_folder(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"video")
    write_jsonl(tmp_path / "lists/m.jsonl", [{"path": "../clips/a.mp4"}])
    (sample,) = corpus(str(tmp_path / "lists/m.jsonl"))
    with local_copy(sample.source, 100) as copy:
        assert copy.read_bytes() == b"video"


@every_form
def test_a_manifest_in_a_bucket_reads_like_a_local_one(s3_bucket, tmp_path, listed, suffix):
    rows = [{"path": "clips/a.mp4", "caption": "x"}, {"path": "../b.mov", "caption": "y"}]
    local = listed(rows, suffix)
    fs = fsspec.filesystem("s3")
    url = f"{s3_bucket}/lists/videos{suffix}"
    fs.put_file(str(tmp_path / f"videos{suffix}"), url)
    remote = list(corpus(url))
    assert [(s.key, s.caption) for s in remote] == [(s.key, s.caption) for s in local]
    assert [s.source.path for s in remote] == [
        f"{s3_bucket}/lists/clips/a.mp4", f"{s3_bucket}/b.mov",
    ]  # fmt: skip
