"""A table named metadata tells of the files in its folder and below, as on the hub."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.corpus import corpus
from datapipe.corpus.names import PassedOver


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "train/b.mp4", "train/deep/c.mp4", "test/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def captions(folder, field=None):
    return {s.key: s.caption for s in corpus(str(folder), field) if s.caption}


ROWS = [
    {"file_name": "a.mp4", "text": "of a"},
    {"file_name": "./train/b.mp4", "text": "of b"},
    {"file_name": "train\\deep\\c.mp4", "text": "of c"},
    {"file_name": "gone.mp4", "text": "of none"},
]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = ["file_name,text", *(f"{row['file_name']},{row['text']}" for row in rows)]
        path.write_bytes("\n".join(lines).encode("utf-16"))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_it_tells_of_files_in_its_folder_and_below(folder, suffix):
    write(folder / f"metadata.{suffix}", ROWS)
    assert captions(folder) == {"a": "of a", "train__b": "of b", "train__deep__c": "of c"}
    found = PassedOver()
    list(corpus(str(folder)).samples(passed_over=found))
    assert not found


def test_the_nearest_one_that_knows_a_file_tells_of_it(folder):
    write(folder / "metadata.jsonl", ROWS)
    write(folder / "train/metadata.jsonl", [{"file_name": "b.mp4", "text": "nearer"}])
    write(folder / "test/metadata.jsonl", [{"file_name": "b.mp4", "text": "of the test"}])
    assert captions(folder) == {
        "a": "of a", "train__b": "nearer", "train__deep__c": "of c", "test__b": "of the test",
    }  # fmt: skip


def test_a_caption_file_comes_before_it_and_an_empty_one_does_not(folder):
    write(folder / "metadata.jsonl", ROWS)
    (folder / "a.txt").write_text("beside")
    (folder / "train/b.txt").touch()
    assert captions(folder) == {"a": "beside", "train__b": "of b", "train__deep__c": "of c"}


def test_a_named_field_comes_before_a_caption_file(folder):
    write(folder / "metadata.jsonl", [{"file_name": "a.mp4", "text": "t", "long": "l"}])
    (folder / "a.txt").write_text("beside")
    assert captions(folder, "long") == {"a": "l"}


def test_several_rows_for_a_file_are_several_captions(folder):
    rows = [{"file_name": "a.mp4", "text": text} for text in ("one", ["two", "three"], None)]
    write(folder / "metadata.jsonl", rows)
    (sample,) = (s for s in corpus(str(folder)) if s.key == "a")
    assert sample.captions == ("one", "two", "three")


def test_names_are_matched_in_any_letter_case_and_normal_form_but_exactly_first(tmp_path):
    for name in ("Cafe\u0301.MP4", "x.mp4", "X.mp4"):
        (tmp_path / name).touch()
    texts = {"café.mp4": "folded", "x.mp4": "small", "X.mp4": "large"}
    rows = [{"file_name": name, "text": text} for name, text in texts.items()]
    write(tmp_path / "metadata.jsonl", rows)
    assert sorted(captions(tmp_path).values()) == ["folded", "large", "small"]
    assert captions(tmp_path)["x"] == "small"


def test_damage_is_told_at_the_files_it_may_have_hidden(folder):
    (folder / "metadata.csv").write_text("file_name,text\na.mp4,x\nb.mp4,one, two\n")
    (folder / "train/metadata.csv").write_text(
        "file_name,text\nx.mp4,y\n" + 'b.mp4,"open\n' + "x\n" * 100
    )
    samples = {s.key: s for s in corpus(str(folder))}
    assert (samples["a"].caption, samples["a"].caption_problem) == ("x", "")
    assert "line 3 has 3 fields" in samples["test__b"].caption_problem
    assert "train/metadata.csv: line" in samples["train__b"].caption_problem


def test_what_is_no_text_is_told(folder):
    (folder / "metadata.csv").write_bytes(b"file_name,text\na.mp4,caf\xe9\n")
    (sample,) = (s for s in corpus(str(folder)) if s.key == "a")
    assert "metadata.csv: line 2: text is not UTF-8" in sample.caption_problem


def test_a_table_of_another_meaning_changes_nothing(folder):
    before = list(corpus(str(folder)))
    (folder / "metadata.csv").write_text("id,label\n1,2\n")
    (folder / "train/metadata.parquet").write_bytes(b"no parquet")
    assert list(corpus(str(folder))) == before
