"""Manifests give a sample for every row, in order, whatever the rows hold."""

import re

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.corpus import corpus, local_copy
from datapipe.corpus.names import file_key
from datapipe.errors import UserError
from tests.datapipe.corpus.tables import WRITERS, every_form, write_jsonl, write_parquet


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


@pytest.mark.parametrize("path", ["", None, "clip.gif", "noextension", "notes.txt"])
def test_a_row_that_names_no_video_is_a_rejected_row(listed, path):
    bad, good = listed([{"path": path}, {"path": "b.mp4"}])
    assert (bad.outcome, bad.stopped.reason) == ("rejected", "unreadable")
    assert (good.key, good.outcome) == ("b", "candidate")


def test_paths_are_seen_from_the_manifests_folder(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"video")
    write_jsonl(tmp_path / "lists/m.jsonl", [{"path": "../clips/a.mp4"}])
    (sample,) = corpus(str(tmp_path / "lists/m.jsonl"))
    with local_copy(sample.source, 100) as copy:
        assert copy.read_bytes() == b"video"


@pytest.mark.parametrize("scheme", ["file://", "file://localhost", "file:"])
def test_file_urls_are_read_with_and_without_escapes(tmp_path, scheme):
    names = {"My clip é.mp4": "My%20clip%20%C3%A9.mp4", "50%25.mp4": "50%25.mp4", "b.mp4": "b.mp4"}
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    rows = [{"path": f"{scheme}{tmp_path}/{written}"} for written in names.values()]
    write_jsonl(tmp_path / "m.jsonl", rows)
    for sample, name in zip(corpus(str(tmp_path / "m.jsonl")), names, strict=True):
        with local_copy(sample.source, 100) as copy:
            assert copy.read_bytes() == name.encode()


def test_a_corpus_may_be_a_file_url_with_escapes(tmp_path):
    (tmp_path / "my clips").mkdir()
    (tmp_path / "my clips/a.mp4").touch()
    assert [s.key for s in corpus(f"file://{tmp_path}/my%20clips")] == ["a"]


@every_form
def test_captions_are_found_in_the_documented_order(listed, suffix):
    rows = [
        {"path": "a.mp4", "description": "d", "prompt": "p", "text": "t", "caption": "c"},
        {"path": "b.mp4", "description": "d", "prompt": "p", "text": "t", "caption": ""},
        {"path": "c.mp4", "description": "d", "prompt": "", "text": "nan", "caption": "17"},
    ]
    assert [s.caption for s in listed(rows, suffix)] == ["c", "t", "d"]


@every_form
def test_a_named_column_has_the_captions(tmp_path, suffix):
    path = tmp_path / f"videos{suffix}"
    WRITERS[suffix](path, [{"path": "a.mp4", "caption": "short", "Dense Caption": "long"}])
    assert [s.caption for s in corpus(str(path), "Dense Caption")] == ["long"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_a_named_column_that_is_not_there_is_the_users_mistake(tmp_path, suffix):
    path = tmp_path / f"videos{suffix}"
    WRITERS[suffix](path, [{"path": "a.mp4", "caption": "short"}])
    with pytest.raises(UserError, match=r"no column 'long'.*: path, caption"):
        corpus(str(path), "long")


def test_lists_and_objects_in_columns_are_several_captions(listed):
    values = [["one", "two"], {"en": "one", "zh": "two"}, [{"caption": "one"}, {"caption": "two"}]]
    for value in values:
        for suffix in (".jsonl", ".parquet"):
            (sample,) = listed([{"path": "a.mp4", "caption": value}], suffix)
            assert (sample.caption, sample.captions) == ("one", ("one", "two"))
        (sample,) = listed([{"path": "a.mp4", "caption": value}], ".csv")  # as str() prints them
        assert (sample.caption, sample.captions) == ("one", ("one", "two"))


def test_a_field_of_a_megabyte_is_read(listed):
    for suffix in WRITERS:
        rows = [{"path": "a.mp4", "caption": "x" * 2_000_000}, {"path": "b.mp4", "caption": "y"}]
        assert [len(s.caption) for s in listed(rows, suffix)] == [64 * 1024, 1]


def parts(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(folder / name, [{"path": f"{number}.mp4", "caption": f"caption {number}"}])


@pytest.mark.parametrize(
    "names", [["part-0.parquet", "part-1.parquet"], ["day=1/a.parquet", "day=2/a.parquet"]]
)
def test_a_folder_of_parquet_files_is_one_table(tmp_path, names):
    parts(tmp_path / "table", names)
    (tmp_path / "table/_SUCCESS").touch()
    pq.write_table(pa.table({}), tmp_path / "table/part-9.parquet")  # an empty part
    samples = list(corpus(str(tmp_path / "table")))
    assert [(s.key, s.caption) for s in samples] == [("0", "caption 0"), ("1", "caption 1")]
    assert samples[0].source.path == str(tmp_path / "table/0.mp4")


def test_a_folder_named_like_a_parquet_file_stands_for_one(tmp_path):
    parts(tmp_path / "list.parquet", ["part-0.parquet"])
    (sample,) = corpus(str(tmp_path / "list.parquet"))
    assert sample.source.path == str(tmp_path / "0.mp4")


def test_keys_are_unique_over_all_parts(tmp_path):
    for part in "ab":
        write_parquet(tmp_path / f"{part}.parquet", [{"path": "x.mp4"}, {"path": None}])
    assert len({s.key for s in corpus(str(tmp_path))}) == 4


def test_a_table_beside_videos_is_no_manifest(tmp_path):
    parts(tmp_path, ["list.parquet"])
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    assert [s.key for s in corpus(str(tmp_path))] == ["clips__a"]


def test_a_folder_of_other_tables_names_their_columns(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"video_id": "x"}])
    with pytest.raises(UserError, match=r"a\.parquet: .*columns are: video_id"):
        list(corpus(str(tmp_path)))


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
