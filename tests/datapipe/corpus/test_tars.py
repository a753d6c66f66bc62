"""Tars give their videos by position, whatever their headers claim; nothing is extracted."""

import tarfile

import fsspec
import pytest
import webdataset as wds

from datapipe.corpus import corpus
from datapipe.corpus.names import PassedOver, member_key
from datapipe.errors import UserError
from tests.datapipe.corpus.tar_files import read, tar_bytes


def test_what_webdataset_writes_is_listed_as_webdataset_reads_it(tmp_path):
    url = str(tmp_path / "000000.tar")
    rows = [{"__key__": f"clip{n}", "mp4": b"v%d" % n, "txt": f"caption {n}"} for n in range(20)]
    with wds.TarWriter(url) as writer:
        for row in rows:
            writer.write(row)
    theirs = [(r["__key__"], r["txt"], r["mp4"]) for r in wds.WebDataset(url, shardshuffle=False)]
    ours = [(s.source.member[:-4], s.caption.encode(), read(s)) for s in corpus(url)]
    assert ours == theirs
    assert [s.key for s in corpus(url)] == [f"000000--clip{n}" for n in range(20)]


def test_a_folder_a_pattern_and_the_tars_themselves_give_the_same_samples(tmp_path):
    for n in range(12):
        (tmp_path / f"{n:06}.tar").write_bytes(tar_bytes(("a.mp4", b"1"), ("b.mp4", b"22")))
    folder = list(corpus(str(tmp_path)))
    assert len(folder) == 24
    assert list(corpus(f"{tmp_path}/{{000000..000011}}.tar")) == folder
    assert [s for n in range(12) for s in corpus(f"{tmp_path}/{n:06}.tar")] == folder


def test_the_root_of_a_pattern_is_the_folder_before_its_first_brace(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.tar").write_bytes(tar_bytes(("a.mp4", b"1")))
    keys = [s.key for s in corpus(f"{tmp_path}/{{train,test,train}}/0.tar")]
    assert keys == ["train__0--a", "test__0--a"]


def test_a_pattern_with_missing_tars_names_them(tmp_path):
    (tmp_path / "0.tar").write_bytes(tar_bytes(("a.mp4", b"1")))
    with pytest.raises(UserError, match=r"2 of 3 tars do not exist: .*1\.tar, .*2\.tar"):
        corpus(f"{tmp_path}/{{0..2}}.tar")


def test_captions_stand_anywhere_in_the_tar(listed_tar):
    samples = listed_tar(
        tar_bytes(
            ("a.json", b'{"caption": "json"}'), ("a.mp4", b"1"), ("b.mp4", b"2"),
            ("d/a.mp4", b"3"), ("b.txt", b"caf\xe9"), ("c.x.mp4", b"4"), ("c.txt", b"group"),
            ("e.mp4", b"5"), ("e.mp4.json", b'"whole name"'),
        )
    )  # fmt: skip
    captions = {s.source.member: s.caption for s in samples}
    assert captions == {
        "a.mp4": "json", "b.mp4": "", "d/a.mp4": "", "c.x.mp4": "group", "e.mp4": "whole name",
    }  # fmt: skip
    assert "not UTF-8" in samples[1].caption_problem


def test_an_empty_text_leaves_the_word_to_the_json(listed_tar):
    (sample,) = listed_tar(
        tar_bytes(("a.txt", b""), ("a.json", b'{"text": ["x", "y"]}'), ("a.mp4", b"1"))
    )
    assert (sample.caption, sample.captions) == ("x", ("x", "y"))


def test_a_named_field_is_read_in_tars_too(tmp_path):
    data = tar_bytes(("a.txt", b"text"), ("a.json", b'{"long": "field"}'), ("a.mp4", b"1"))
    (tmp_path / "t.tar").write_bytes(data)
    for url in (tmp_path, tmp_path / "t.tar", f"{tmp_path}/{{t,t}}.tar"):
        assert [s.caption for s in corpus(str(url), "long")] == ["field"]


@pytest.mark.parametrize(
    "names",
    ["a.mp4 a.txt a.mp4 a.txt", "a.txt a.mp4 a.txt a.mp4", "a.json a.mp4 a.txt a.json a.mp4 a.txt"],
)
def test_each_video_of_one_name_has_its_own_caption(listed_tar, names):
    members, count = [], {}
    for name in names.split():
        nth = count[name] = count.get(name, 0) + 1
        members.append((name, b"{}" if name.endswith("json") else b"%d" % nth + b"th"))
    samples = listed_tar(tar_bytes(*members))
    assert [s.caption for s in samples] == ["1th", "2th"]


def test_a_video_whose_caption_is_missing_does_not_take_the_next_ones(listed_tar):
    samples = listed_tar(tar_bytes(("a.mp4", b"1"), ("a.mp4", b"2"), ("a.txt", b"of the second")))
    assert [s.caption for s in samples] == ["", "of the second"]


def test_captions_in_any_letter_case_and_normal_form_are_found(listed_tar):
    samples = listed_tar(
        tar_bytes(
            ("Clip.MP4", b"1"), ("clip.txt", b"one"), ("caf\u00e9.mp4", b"2"),
            ("cafe\u0301.TXT", b"two"), ("x.mp4", b"3"), ("X.mp4", b"4"), ("X.txt", b"of X"),
            form=tarfile.PAX_FORMAT,
        )
    )  # fmt: skip
    assert [s.caption for s in samples] == ["one", "two", "", "of X"]


def test_tars_one_after_the_other_in_a_file_are_all_listed(listed_tar):
    one = tar_bytes(("a.mp4", b"1"), ("a.txt", b"one"))
    two = tar_bytes(("a.txt", b"two"), ("a.mp4", b"22"), ("b.mp4", b"333"))
    three = tar_bytes(("c.mp4", b"4"), form=tarfile.PAX_FORMAT)
    samples = listed_tar(one + two + bytes(100 * 512) + three[:2048])
    assert [read(s) for s in samples] == [b"1", b"22", b"333", b"4"]
    assert [s.caption for s in samples] == ["one", "two", "", ""]
    assert [samples[n].key for n in (0, 2, 3)] == ["t--a", "t--b", "t--c"]
    assert len({s.key for s in samples}) == 4


def test_captions_may_be_in_a_tar_of_their_own_in_the_same_file(listed_tar):
    samples = listed_tar(tar_bytes(("a.mp4", b"1"), ("b.mp4", b"2")) + tar_bytes(("b.txt", b"b")))
    assert [s.caption for s in samples] == ["", "b"]


def test_what_follows_a_tar_and_is_none_is_told(listed_tar):
    good, bad = listed_tar(tar_bytes(("a.mp4", b"1")) + b"signature" * 100)
    assert read(good) == b"1"
    assert bad.outcome == "rejected"
    assert "byte 10240" in bad.stopped.detail


def test_members_that_are_passed_over_are_counted(tmp_path):
    members = ["a.mp4", "a.txt", "b.txt", "a.jpg", "b.jpg", ".hidden", "c/d.npy", "c.mp4.json"]
    (tmp_path / "t.tar").write_bytes(tar_bytes(*((name, b"") for name in members)))
    found = PassedOver()
    list(corpus(str(tmp_path)).samples(passed_over=found))
    assert found == {".txt": 1, ".jpg": 2, "hidden": 1, ".npy": 1, ".json": 1}


@pytest.mark.parametrize(
    "name",
    [
        "../../up.mp4", "/etc/abs.mp4", "a/../b.mp4", "two words.mp4", "a.b.c.mp4", "视频.mp4",
        "line\nbreak.mp4", "\x1b[31mred.mp4", "x" * 10_000 + ".mp4", "d/" * 3000 + "x.mp4",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hostile_names_are_only_names(listed_tar, name, form):
    before, sample, after = listed_tar(
        tar_bytes(("a.mp4", b"1"), (name, b"video"), ("z.mp4", b"3"), form=form)
    )
    assert read(sample) == b"video"
    assert sample.source.member == name
    assert sample.key == member_key("t.tar", name)
    assert (before.key, after.key) == ("t--a", "t--z")


def test_a_name_that_is_not_utf8_can_be_written(listed_tar):
    data = tar_bytes(("caf_.mp4", b"video")).replace(b"caf_", b"caf\xe9")
    fixed = bytearray(data)
    fixed[148:156] = b" " * 8
    fixed[148:156] = b"%06o\0 " % sum(fixed[:512])
    (sample,) = listed_tar(bytes(fixed))
    assert sample.source.member == "caf\ufffd.mp4"
    assert read(sample) == b"video"


def test_members_of_one_name_are_all_kept(listed_tar):
    samples = listed_tar(tar_bytes(("a.mp4", b"1"), ("./a.mp4", b"22"), ("a.mp4", b"333")))
    assert [read(s) for s in samples] == [b"1", b"22", b"333"]
    assert samples[0].key == "t--a"
    assert len({s.key for s in samples}) == 3


def test_folders_and_hidden_members_are_skipped(listed_tar):
    folder = tarfile.TarInfo("d.mp4")
    folder.type = tarfile.DIRTYPE
    (sample,) = listed_tar(tar_bytes(folder, ("._a.mp4", b"0"), ("a.mp4", b"1")))
    assert sample.key == "t--a"


def test_a_tar_without_videos_is_the_users_mistake(listed_tar):
    with pytest.raises(UserError, match="no video in it"):
        listed_tar(tar_bytes(("a.jpg", b"1")))


def test_a_compressed_tar_is_the_users_mistake(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match="Decompress it"):
        corpus(str(tmp_path / "a.tar.gz"))


def test_a_tar_in_a_bucket_is_listed_without_reading_its_videos(s3_bucket, monkeypatch):
    fs = fsspec.filesystem("s3")
    members = [(f"{n}.{end}", data) for n in range(4) for end, data in
               (("mp4", bytes([n]) * 3_000_000), ("txt", b"caption %d" % n))]  # fmt: skip
    for n in range(3):
        fs.pipe_file(f"{s3_bucket}/tars/{n}.tar", tar_bytes(*members))
    fetched = []
    original = type(fs)._cat_file

    async def counted(self, *args, **kwargs):
        data = await original(self, *args, **kwargs)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(type(fs), "_cat_file", counted)
    samples = list(corpus(f"{s3_bucket}/tars/{{0..2}}.tar"))
    assert sum(fetched) < 36_000_000 / 10
    assert [s.caption for s in samples[:4]] == [f"caption {n}" for n in range(4)]
    assert samples == list(corpus(f"{s3_bucket}/tars"))
    assert read(samples[5]) == bytes([1]) * 3_000_000
    with pytest.raises(UserError, match=r"1 of 4 tars do not exist: .*/tars/3\.tar"):
        corpus(f"{s3_bucket}/tars/{{0..3}}.tar")
