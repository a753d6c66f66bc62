"""Whatever a tar holds or claims, what is whole in it is listed and what is not is told."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.corpus.folder import Tar, tar_samples
from datapipe.files import place
from datapipe.record import Sample
from tests.datapipe.corpus.tar_files import header, read, tar_bytes


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.FIFOTYPE, "not a regular file"),
    ],
)
def test_links_and_devices_are_rejected_rows(listed_tar, kind, why):
    info = tarfile.TarInfo("bad.mp4")
    info.type, info.linkname = kind, "/etc/passwd"
    bad, good = listed_tar(tar_bytes(info, ("good.mp4", b"1")))
    assert (bad.outcome, bad.stopped.reason) == ("rejected", "unreadable")
    assert why in bad.stopped.detail
    assert read(good) == b"1"


def test_sparse_members_are_rejected_rows(listed_tar):
    block = bytearray(header("hole.mp4", 512, b"S"))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % 10**6
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    sparse, good = listed_tar(bytes(block) + bytes(512) + tar_bytes(("good.mp4", b"1")))
    assert "sparse" in sparse.stopped.detail
    assert read(good) == b"1"


def test_a_pax_record_that_overrides_the_size_does_not_reach_beyond_the_tar(listed_tar):
    info = tarfile.TarInfo("a.mp4")
    info.pax_headers = {"size": str(10**15)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    (sample,) = listed_tar(file.getvalue())
    assert sample.outcome == "rejected"
    assert "the tar ends within it" in sample.stopped.detail


@pytest.mark.parametrize("size", [-1, -512, -(10**9), 2**62])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"g", b"S"])
def test_a_header_with_a_lying_size_ends_the_listing_with_a_rejected_row(listed_tar, size, kind):
    data = tar_bytes(("good.mp4", b"1"))[:1024] + header("bad.mp4", size, kind) + bytes(1024)
    good, *bad = listed_tar(data)
    assert read(good) == b"1"
    assert {(s.outcome, s.stopped.reason) for s in bad} == {("rejected", "unreadable")}


def test_a_long_chain_of_extended_headers_ends(listed_tar):
    chain = b"".join(header("x", 10, b"L") + bytes(512) for _ in range(5000))
    (sample,) = listed_tar(chain + tar_bytes(("a.mp4", b"1")))
    assert sample.outcome == "rejected"


def test_a_truncated_tar_gives_what_is_whole_and_a_row_for_what_is_cut(listed_tar):
    whole = tar_bytes(("a.mp4", b"a" * 1000), ("b.mp4", b"b" * 5000), ("c.mp4", b"c"))
    ends = (512 + 1000, 1536 + 512 + 5000, 7168 + 512 + 1)  # of the three videos
    between = (1536, 7168)  # cut exactly between two members: nothing shows
    for end in (*range(1, 8192, 97), *between):
        samples = listed_tar(whole[:end])
        good = [s for s in samples if s.stopped is None]
        bad = [s for s in samples if s.stopped is not None]
        assert [read(s) for s in good] == [b"a" * 1000, b"b" * 5000, b"c"][: len(good)]
        assert len(good) == sum(end >= video for video in ends)
        assert len(bad) == (end not in between)
        assert all(s.stopped.reason == "unreadable" for s in bad)


def test_damage_in_the_middle_is_told(listed_tar):
    whole = bytearray(tar_bytes(("a.mp4", b"1"), ("b.mp4", b"2"), ("c.mp4", b"3")))
    whole[1024:1536] = b"\xaa" * 512
    good, bad = listed_tar(bytes(whole))
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
def test_what_is_no_tar_is_one_rejected_row(listed_tar, data, why):
    (sample,) = listed_tar(data)
    assert (sample.outcome, sample.stopped.reason) == ("rejected", "unreadable")
    assert why in sample.stopped.detail


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
