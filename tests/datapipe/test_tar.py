"""The reader of untrusted tars: what tarfile writes it reads, what is hostile it refuses."""

import hashlib
import io
import resource
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import tar
from datapipe.tar import TarReader

NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150
).filter(lambda name: name.strip("/ ") == name)


def tar_of(members):
    buffer = io.BytesIO()
    with tar.open_writer(buffer) as writer:
        for name, data in members:
            tar.add(writer, name, data)
    return buffer.getvalue()


def read(data, hashed=True, most=1 << 20):
    reader = TarReader(io.BytesIO(data), hashed=hashed)
    found = [
        (member.name, member.size, reader.read() if member.size <= most else None)
        for member in reader
    ]
    return found, reader.finish() if hashed else None


@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=2000))))
def test_what_is_written_is_read(members):
    """Any names, long and in any script, any sizes, in order; and the hash of the whole file."""
    data = tar_of(members)
    found, (digest, size) = read(data)
    assert found == [(name, len(part), part) for name, part in members]
    assert (digest, size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert tar.read_members(data) == dict(members)


@given(members=st.lists(st.tuples(NAMES, st.binary(max_size=2000))), most=st.integers(0, 2000))
def test_what_is_passed_over_changes_nothing(members, most):
    """Whether bytes are read or not, hashed or not, every member is found where it is."""
    data = tar_of(members)
    assert read(data, hashed=False, most=most) == (read(data, most=most)[0], None)
    places = [(member.begin, member.size) for member in TarReader(io.BytesIO(data))]
    assert [data[begin : begin + size] for begin, size in places] == [part for _, part in members]


def outcome(data, **how):
    """What is found, or why nothing is."""
    try:
        return read(data, **how)[0]
    except tarfile.ReadError as refused:
        return str(refused)


@given(data=st.binary(max_size=3000))
def test_noise_is_refused_and_nothing_else_happens(data):
    """Any bytes either read as a tar or raise ReadError, whichever way they are read."""
    assert outcome(data, hashed=False) == outcome(data)


@given(
    cut=st.integers(0, 4000),
    flip=st.integers(0, 4000),
    to=st.integers(0, 255),
    most=st.sampled_from([0, 1 << 20]),
)
def test_damage_anywhere_is_survived(cut, flip, to, most):
    """A tar cut short or with a changed byte reads or raises ReadError, never anything else."""
    data = bytearray(tar_of([("n" * 120 + ".json", b"{}"), ("b.mp4", b"x" * 700)]))
    data[flip % len(data)] = to
    data = bytes(data[: len(data) - cut])
    assert outcome(data, hashed=False, most=most) == outcome(data, most=most)


@given(
    members=st.lists(
        st.tuples(NAMES, st.binary(max_size=700), st.sampled_from(sorted(tarfile.SUPPORTED_TYPES)))
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    tars=st.integers(1, 3),
)
def test_members_of_any_kind_are_listed_as_tarfile_lists_them(members, form, tars):
    """Names, places, sizes and kinds, of tars one after the other in a file too."""
    kinds = {tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as writer:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            if kind in kinds:
                info.type, info.linkname = kind, "../elsewhere"
                writer.addfile(info)
            else:
                info.size = len(data)
                writer.addfile(info, io.BytesIO(data))
    one = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(one)) as theirs:
        wanted = [(info.name, info.offset_data, info.size, info.type) for info in theirs]
    found = list(TarReader(io.BytesIO(one * tars)).of_any_kind())
    assert [(m.name, m.begin, m.size, m.kind) for m in found] == [
        (name, begin + number * len(one), size, kind)
        for number in range(tars)
        for name, begin, size, kind in wanted
    ]


def special(kind, **values):
    info = tarfile.TarInfo("../../outside")
    info.type = kind
    for name, value in values.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE),
        *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE),
    ],
)
def test_anything_but_plain_files_is_refused(kind):
    """Links, devices, folders and sparse files have no place in a shard."""
    with pytest.raises(tarfile.ReadError, match="not a plain file"):
        read(special(kind) + bytes(1024))


def test_an_extended_header_of_any_size_costs_no_memory():
    """A header that claims 8 GB is refused before it is read."""
    claim = special(tarfile.XHDTYPE, size=8 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tarfile.ReadError, match="extended header of 8589934592 bytes"):
        read(claim + bytes(1024))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("size", ["-5", "1e9", "٣", "9" * 30, "0x1"])
def test_a_size_that_is_no_number_is_refused(size):
    """The size in an extended header is text, and is checked as such."""
    value = f"size={size}\n".encode()
    record = f"{len(value) + 3} ".encode() + value
    record = f"{len(record):02d} ".encode() + value
    header = special(tarfile.XHDTYPE, size=len(record))
    body = record + bytes(-len(record) % 512)
    with pytest.raises(tarfile.ReadError, match="no valid size"):
        read(header + body + special(tarfile.REGTYPE) + bytes(1024))
