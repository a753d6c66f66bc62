"""Tars give their videos by position, whatever their headers claim; nothing is extracted."""

import io
import tarfile

import fsspec
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.corpus import corpus, open_source
from datapipe.corpus.folder import Tar, tar_samples
from datapipe.corpus.names import PassedOver, member_key
from datapipe.errors import UserError
from datapipe.files import place
from datapipe.record import Sample


def tar_bytes(*members, form=tarfile.GNU_FORMAT):
    """A tar of (name, bytes) pairs and ready-made TarInfos."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def header(name, size, kind=tarfile.REGTYPE):
    """One raw header with any size, negative ones included, and a right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.fixture
def listed(tmp_path):
    """Lists a tar given as bytes."""

    def list_it(data, name="t.tar"):
        (tmp_path / name).write_bytes(data)
        return list(corpus(str(tmp_path / name)))

    return list_it


def read(sample):
    with open_source(sample.source) as (file, size):
        data = file.read()
    assert len(data) == size
    return data


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


def test_captions_stand_anywhere_in_the_tar(listed):
    samples = listed(
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


def test_an_empty_text_leaves_the_word_to_the_json(listed):
    (sample,) = listed(
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
def test_each_video_of_one_name_has_its_own_caption(listed, names):
    members, count = [], {}
    for name in names.split():
        nth = count[name] = count.get(name, 0) + 1
        members.append((name, b"{}" if name.endswith("json") else b"%d" % nth + b"th"))
    samples = listed(tar_bytes(*members))
    assert [s.caption for s in samples] == ["1th", "2th"]


def test_a_video_whose_caption_is_missing_does_not_take_the_next_ones(listed):
    samples = listed(tar_bytes(("a.mp4", b"1"), ("a.mp4", b"2"), ("a.txt", b"of the second")))
    assert [s.caption for s in samples] == ["", "of the second"]


def test_captions_in_any_letter_case_and_normal_form_are_found(listed):
    samples = listed(
        tar_bytes(
            ("Clip.MP4", b"1"), ("clip.txt", b"one"), ("caf\u00e9.mp4", b"2"),
            ("cafe\u0301.TXT", b"two"), ("x.mp4", b"3"), ("X.mp4", b"4"), ("X.txt", b"of X"),
            form=tarfile.PAX_FORMAT,
        )
    )  # fmt: skip
    assert [s.caption for s in samples] == ["one", "two", "", "of X"]


def test_tars_one_after_the_other_in_a_file_are_all_listed(listed):
    one = tar_bytes(("a.mp4", b"1"), ("a.txt", b"one"))
    two = tar_bytes(("a.txt", b"two"), ("a.mp4", b"22"), ("b.mp4", b"333"))
    three = tar_bytes(("c.mp4", b"4"), form=tarfile.PAX_FORMAT)
    samples = listed(one + two + bytes(100 * 512) + three[:2048])
    assert [read(s) for s in samples] == [b"1", b"22", b"333", b"4"]
    assert [s.caption for s in samples] == ["one", "two", "", ""]
    assert [samples[n].key for n in (0, 2, 3)] == ["t--a", "t--b", "t--c"]
    assert len({s.key for s in samples}) == 4


def test_captions_may_be_in_a_tar_of_their_own_in_the_same_file(listed):
    samples = listed(tar_bytes(("a.mp4", b"1"), ("b.mp4", b"2")) + tar_bytes(("b.txt", b"b")))
    assert [s.caption for s in samples] == ["", "b"]


def test_what_follows_a_tar_and_is_none_is_told(listed):
    good, bad = listed(tar_bytes(("a.mp4", b"1")) + b"signature" * 100)
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
def test_hostile_names_are_only_names(listed, name, form):
    before, sample, after = listed(
        tar_bytes(("a.mp4", b"1"), (name, b"video"), ("z.mp4", b"3"), form=form)
    )
    assert read(sample) == b"video"
    assert sample.source.member == name
    assert sample.key == member_key("t.tar", name)
    assert (before.key, after.key) == ("t--a", "t--z")


def test_a_name_that_is_not_utf8_can_be_written(listed):
    data = tar_bytes(("caf_.mp4", b"video")).replace(b"caf_", b"caf\xe9")
    fixed = bytearray(data)
    fixed[148:156] = b" " * 8
    fixed[148:156] = b"%06o\0 " % sum(fixed[:512])
    (sample,) = listed(bytes(fixed))
    assert sample.source.member == "caf\ufffd.mp4"
    assert read(sample) == b"video"


def test_members_of_one_name_are_all_kept(listed):
    samples = listed(tar_bytes(("a.mp4", b"1"), ("./a.mp4", b"22"), ("a.mp4", b"333")))
    assert [read(s) for s in samples] == [b"1", b"22", b"333"]
    assert samples[0].key == "t--a"
    assert len({s.key for s in samples}) == 3


def test_folders_and_hidden_members_are_skipped(listed):
    folder = tarfile.TarInfo("d.mp4")
    folder.type = tarfile.DIRTYPE
    (sample,) = listed(tar_bytes(folder, ("._a.mp4", b"0"), ("a.mp4", b"1")))
    assert sample.key == "t--a"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.FIFOTYPE, "not a regular file"),
    ],
)
def test_links_and_devices_are_rejected_rows(listed, kind, why):
    info = tarfile.TarInfo("bad.mp4")
    info.type, info.linkname = kind, "/etc/passwd"
    bad, good = listed(tar_bytes(info, ("good.mp4", b"1")))
    assert (bad.outcome, bad.stopped.reason) == ("rejected", "unreadable")
    assert why in bad.stopped.detail
    assert read(good) == b"1"


def test_sparse_members_are_rejected_rows(listed):
    block = bytearray(header("hole.mp4", 512, b"S"))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % 10**6
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    sparse, good = listed(bytes(block) + bytes(512) + tar_bytes(("good.mp4", b"1")))
    assert "sparse" in sparse.stopped.detail
    assert read(good) == b"1"


def test_a_pax_record_that_overrides_the_size_does_not_reach_beyond_the_tar(listed):
    info = tarfile.TarInfo("a.mp4")
    info.pax_headers = {"size": str(10**15)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    (sample,) = listed(file.getvalue())
    assert sample.outcome == "rejected"
    assert "the tar ends within it" in sample.stopped.detail


@pytest.mark.parametrize("size", [-1, -512, -(10**9), 2**62])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"g", b"S"])
def test_a_header_with_a_lying_size_ends_the_listing_with_a_rejected_row(listed, size, kind):
    data = tar_bytes(("good.mp4", b"1"))[:1024] + header("bad.mp4", size, kind) + bytes(1024)
    good, *bad = listed(data)
    assert read(good) == b"1"
    assert {(s.outcome, s.stopped.reason) for s in bad} == {("rejected", "unreadable")}


def test_a_long_chain_of_extended_headers_ends(listed):
    chain = b"".join(header("x", 10, b"L") + bytes(512) for _ in range(5000))
    (sample,) = listed(chain + tar_bytes(("a.mp4", b"1")))
    assert sample.outcome == "rejected"


def test_a_truncated_tar_gives_what_is_whole_and_a_row_for_what_is_cut(listed):
    whole = tar_bytes(("a.mp4", b"a" * 1000), ("b.mp4", b"b" * 5000), ("c.mp4", b"c"))
    ends = (512 + 1000, 1536 + 512 + 5000, 7168 + 512 + 1)  # of the three videos
    between = (1536, 7168)  # cut exactly between two members: nothing shows
    for end in (*range(1, 8192, 97), *between):
        samples = listed(whole[:end])
        good = [s for s in samples if s.stopped is None]
        bad = [s for s in samples if s.stopped is not None]
        assert [read(s) for s in good] == [b"a" * 1000, b"b" * 5000, b"c"][: len(good)]
        assert len(good) == sum(end >= video for video in ends)
        assert len(bad) == (end not in between)
        assert all(s.stopped.reason == "unreadable" for s in bad)


def test_damage_in_the_middle_is_told(listed):
    whole = bytearray(tar_bytes(("a.mp4", b"1"), ("b.mp4", b"2"), ("c.mp4", b"3")))
    whole[1024:1536] = b"\xaa" * 512
    good, bad = listed(bytes(whole))
    assert good.key == "t--a"
    assert "byte 1024" in bad.stopped.detail


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"just text, not a tar\n" * 100, "damaged"),
        (b"\x1f\x8b" + bytes(2000), "compressed"),
        (b"short", "damaged"),
    ],
)
def test_what_is_no_tar_is_one_rejected_row(listed, data, why):
    (sample,) = listed(data)
    assert (sample.outcome, sample.stopped.reason) == ("rejected", "unreadable")
    assert why in sample.stopped.detail


def test_a_tar_without_videos_is_the_users_mistake(listed):
    with pytest.raises(UserError, match="no video in it"):
        listed(tar_bytes(("a.jpg", b"1")))


def test_a_compressed_tar_is_the_users_mistake(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match="Decompress it"):
        corpus(str(tmp_path / "a.tar.gz"))


_WHOLE = tar_bytes(
    ("a.mp4", b"a" * 700), ("a.txt", b"text"), ("x" * 300 + ".mp4", b"b"), ("c.json", b"{}"),
    ("c.mov", b"c"), form=tarfile.PAX_FORMAT,
)  # fmt: skip
_patches = st.lists(
    st.tuples(st.integers(0, len(_WHOLE) - 1), st.binary(min_size=1, max_size=12)), max_size=6
)


def with_checksums(data):
    """Right checksums wherever a header may be, so that damage gets past the first check."""
    data = bytearray(data)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


@settings(max_examples=200, deadline=2000)
@given(_patches, st.one_of(st.none(), st.integers(0, len(_WHOLE))), st.booleans())
def test_no_damage_raises_or_leads_outside_the_tar(tmp_path_factory, patches, end, sealed):
    data = bytearray(_WHOLE)
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    data = (with_checksums(data) if sealed else bytes(data))[:end]
    path = tmp_path_factory.getbasetemp() / "fuzz.tar"
    path.write_bytes(data)
    samples = [
        entry
        for entry in tar_samples(Tar(place(str(path)), "fuzz.tar"))
        if isinstance(entry, Sample)
    ]
    assert len({s.key for s in samples}) == len(samples)
    for sample in samples:
        if sample.stopped is None:
            assert sample.source.offset >= 512
            assert sample.source.offset + sample.source.size <= len(data)


@given(st.binary(max_size=2048))
def test_no_bytes_raise(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "noise.tar"
    path.write_bytes(data)
    list(tar_samples(Tar(place(str(path)), "noise.tar")))


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
