"""Hostile videos and tars, seeded: the same seed makes the same bytes on every machine.

Only the seed clips depend on the encoder's version; what is done to them does not.
"""

from __future__ import annotations

import io
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.datapipe.media import write_video
from tests.datapipe.painted import Painted, paint

Mutation = Callable[[random.Random, bytearray], None]

FRAMES = 24


def seed_clips(folder: Path) -> list[Path]:
    """A person who turns the head, by four codecs in four containers, some 10 to 90 kB each."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {"width": 240, "height": 180}
    pictures = [
        paint([Painted(0, 5.0 * (index - 12), 124, 60, 28)], **small) for index in range(FRAMES)
    ]
    kinds: dict[str, dict[str, object]] = {
        "h264.mp4": {"gop": 8},
        "h264.mkv": {"gop": 8},
        "vp9.webm": {"codec": "libvpx-vp9", "bframes": 0, "options": {"cpu-used": "8"}},
        "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p", "bframes": 0},
    }
    return [write_video(folder / name, pictures, **how) for name, how in kinds.items()]  # type: ignore[arg-type]


def mutated(clip: bytes, seed: int) -> tuple[str, bytes]:
    """What was done to a clip, and the result."""
    source = random.Random(seed)
    name = source.choice(sorted(MUTATIONS))
    data = bytearray(clip)
    MUTATIONS[name](source, data)
    return name, bytes(data)


def _bit_flips(source: random.Random, data: bytearray) -> None:
    for _ in range(source.choice((1, 4, 64, len(data) // 50))):
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _header_flips(source: random.Random, data: bytearray) -> None:
    """Where containers say what is in them: at the start and, in an mp4, at the end."""
    reach = min(1500, len(data))
    for _ in range(source.choice((1, 3, 12))):
        place = source.randrange(reach)
        data[place if source.random() < 0.5 else -1 - place] = source.randrange(256)


def _truncated(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data)) :]


def _headless(source: random.Random, data: bytearray) -> None:
    del data[: source.randrange(1, len(data))]


def _hole(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    length = min(source.randrange(1, 4000), len(data) - start)
    data[start : start + length] = source.choice((bytes(length), source.randbytes(length)))


def _shuffled(source: random.Random, data: bytearray) -> None:
    size = source.choice((16, 512, 4096))
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    source.shuffle(blocks)
    data[:] = b"".join(blocks)


def _repeated(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    data[start:start] = data[start : start + source.randrange(1, 9000)] * source.randrange(1, 20)


def _numbers(source: random.Random, data: bytearray) -> None:
    """Sizes, counts, times and dimensions in the header, at their extremes."""
    extremes = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0)
    reach = min(1200, len(data) - 8)
    for _ in range(source.choice((1, 2, 8))):
        place = source.randrange(4, reach)
        if source.random() < 0.5:
            place = len(data) - place
        data[place : place + 4] = struct.pack(source.choice("><") + "I", source.choice(extremes))


def _boxes(source: random.Random, data: bytearray) -> None:
    """Fields that name themselves: an mp4's boxes, an avi's chunks, a matroska's elements."""
    marks = (
        b"mvhd", b"tkhd", b"mdhd", b"stts", b"stsz", b"stsc", b"stco", b"stss", b"ctts", b"avc1",
        b"avcC", b"elst", b"moov", b"mdat", b"avih", b"strh", b"strf", b"idx1", b"movi",
        b"\x44\x89", b"\xb0", b"\xba", b"\x2a\xd7\xb1", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b",
    )  # fmt: skip
    there = [mark for mark in marks if mark in data]
    for _ in range(source.choice((1, 2, 5))):
        mark = source.choice(there)
        place = data.find(mark) + len(mark) + source.choice((-8, -4, 0, 4, 8, 12, 16, 20, 24, 76))
        place = max(0, min(place, len(data) - 4))
        data[place : place + 4] = source.choice(
            (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", struct.pack(">I", 100_000),
             struct.pack("<I", 65_535), source.randbytes(4))
        )  # fmt: skip


def _durations(source: random.Random, data: bytearray) -> None:
    """Time scales and lengths of an mp4, the duration of a matroska, the rate of an avi."""
    for mark, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"\x44\x89", 3), (b"avih", 4)):
        if (place := data.find(mark)) >= 0 and source.random() < 0.8:
            at = min(place + offset, len(data) - 8)
            data[at : at + 4] = source.choice((b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff"))


def _dimensions(source: random.Random, data: bytearray) -> None:
    """Huge pictures, as the container and an mp4's sample entry declare them."""
    side = source.choice((0, 1, 4096, 16_384, 65_535))
    if (place := data.find(b"avc1")) >= 0:
        data[place + 28 : place + 32] = struct.pack(">HH", side, side)
    if (place := data.find(b"tkhd")) >= 0:
        data[place + 80 : place + 88] = struct.pack(">HHHH", side, 0, side, 0)
    if (place := data.find(b"strf")) >= 0:
        data[place + 12 : place + 20] = struct.pack("<II", side, side)
    if (place := data.find(b"\xb0\x81")) >= 0 or (place := data.find(b"\xb0\x82")) >= 0:
        data[place + 2 : place + 4] = struct.pack(">H", side)


MUTATIONS: dict[str, Mutation] = {
    "bit flips": _bit_flips,
    "header flips": _header_flips,
    "truncated": _truncated,
    "headless": _headless,
    "hole": _hole,
    "shuffled": _shuffled,
    "repeated": _repeated,
    "numbers": _numbers,
    "boxes": _boxes,
    "durations": _durations,
    "dimensions": _dimensions,
}


def write_videos(folder: Path, clips: list[Path], count: int, seed: int) -> dict[str, str]:
    """`count` mutated clips as NNNNN.ext; what was done to each, by key."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {}
    for number in range(count):
        clip = clips[number % len(clips)]
        what, data = mutated(clip.read_bytes(), seed * 1_000_003 + number)
        (folder / f"{number:05d}{clip.suffix}").write_bytes(data)
        done[number] = what
    return {_key(number, clips): what for number, what in done.items()}


def _key(number: int, clips: list[Path]) -> str:
    from datapipe.corpus.names import file_key

    return file_key(f"{number:05d}{clips[number % len(clips)].suffix}")


def hostile_tar(seed: int, video: bytes) -> tuple[str, bytes, int | None]:
    """Its kind, its bytes, and how many rows it must give; None where damage decides that."""
    source = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    data, rows = _MAKERS[kind](source, video)
    return kind, data, rows


def _tar(*members: tuple[tarfile.TarInfo | str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, encoding="latin-1") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return file.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, dict(pax)
    return info


_Made = tuple[bytes, int | None]


def _traversal(source: random.Random, video: bytes) -> _Made:
    up = "../" * source.randrange(1, 12)
    names = (f"{up}escaped.mp4", f"a/{up}b/escaped.mp4", "..", "./../escaped.mp4", "a.mp4")
    return _tar(*((name, video) for name in names)), 4


def _absolute(source: random.Random, video: bytes) -> _Made:
    names = ("/escaped.mp4", "//etc/escaped.mp4", "C:\\escaped.mp4", "\\\\host\\escaped.mp4")
    return _tar(*((name, video) for name in names)), 4


def _links(source: random.Random, video: bytes) -> _Made:
    target = source.choice(("/etc/passwd", "../../../../etc/passwd", "b.mp4", "a.mp4", "/dev/zero"))
    return _tar(
        (_entry("a.mp4", tarfile.SYMTYPE, target), b""),
        (_entry("b.mp4", tarfile.LNKTYPE, target), b""),
        (_entry("d", tarfile.SYMTYPE, "/tmp"), b""),
        ("d/escaped.mp4", video),
    ), 3  # fmt: skip


def _devices(source: random.Random, video: bytes) -> _Made:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE)
    return _tar(*((_entry(f"{n}.mp4", kind), b"") for n, kind in enumerate(kinds))), 4


def _huge(source: random.Random, video: bytes) -> _Made:
    """A header that claims up to an exabyte."""
    data = bytearray(_tar(("a.mp4", video), ("b.mp4", video), form=tarfile.GNU_FORMAT))
    place = 512 + -(-len(video) // 512) * 512
    size = source.choice((10**9, 2**33, 2**60, 2**63 - 1))
    data[place + 124 : place + 136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    _checksum(data, place)
    return bytes(data), 2


def _negative(source: random.Random, video: bytes) -> _Made:
    data = bytearray(_tar(("a.mp4", video), ("b.mp4", video), form=tarfile.GNU_FORMAT))
    place = 512 + -(-len(video) // 512) * 512
    size = source.choice((-1, -512, -1024 - len(video), -(2**40)))
    data[place + 124 : place + 136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    _checksum(data, place)
    return bytes(data), None


def _checksum(data: bytearray, place: int) -> None:
    header = data[place : place + 512]
    header[148:156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(header)


def _pax_bomb(source: random.Random, video: bytes) -> _Made:
    """An extended header as long as it says, or that only says so."""
    info = _entry("b.mp4", comment="x" * source.choice((10**5, 10**6)))
    return _tar(("a.mp4", video), (info, video), ("c.mp4", video)), None


def _pax_lies(source: random.Random, video: bytes) -> _Made:
    lie = source.choice(("size", "path", "linkpath", "mtime", "GNU.sparse.size", "GNU.sparse.map"))
    value = source.choice(("-1", "9" * 30, "../../escaped.mp4", "\0", "", "nan", "1e400"))
    return _tar(("a.mp4", video), (_entry("b.mp4", **{lie: value}), video)), None


def _not_utf8(source: random.Random, video: bytes) -> _Made:
    names = ("caf\xe9.mp4", "\xff\xfe\x01.mp4", "a\nb\x1b[31m.mp4")
    return _tar(*((name, video) for name in names), form=tarfile.GNU_FORMAT), 3


def _duplicates(source: random.Random, video: bytes) -> _Made:
    count = source.randrange(2, 9)
    names = ("a.mp4", "./a.mp4", "A.mp4", "a.MP4")
    return _tar(*((names[n % 4], video) for n in range(count))), count


def _nested(source: random.Random, video: bytes) -> _Made:
    inner = _tar(("inside.mp4", video))
    for _ in range(source.randrange(5)):
        inner = _tar(("inner.tar", inner))
    return _tar(("a.mp4", video), ("inner.tar", inner), ("b.mp4", inner)), 2


def _cut(source: random.Random, video: bytes) -> _Made:
    whole = _tar(("a.mp4", video), ("b.mp4", video), ("c.mp4", video))
    return whole[: source.randrange(1, len(whole))], None


def _long(source: random.Random, video: bytes) -> _Made:
    name = source.choice(("x" * 50_000 + ".mp4", "d/" * 9_000 + "x.mp4", "é" * 10_000 + ".mp4"))
    form = source.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    return _tar((name, video), ("a.mp4", video), form=form), 2


def _sparse(source: random.Random, video: bytes) -> _Made:
    size = str(source.choice((2**20, 2**40, 2**62)))
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "b.mp4"}
    pax |= {"GNU.sparse.map": f"0,512,{int(size) - 512},512", "GNU.sparse.size": size}
    return _tar(("a.mp4", video), (_entry("s.mp4", **pax), video)), 2


def _noise(source: random.Random, video: bytes) -> _Made:
    return source.randbytes(source.randrange(1, 5000)), None


def _flips(source: random.Random, video: bytes) -> _Made:
    data = bytearray(_tar(("a.mp4", video), ("b.mp4", video), ("c.txt", b"a caption")))
    for _ in range(source.randrange(1, 20)):
        data[source.randrange(512) + source.choice((0, len(data) - 10_240))] ^= source.randrange(
            256
        )
    return bytes(data), None


_MAKERS: dict[str, Callable[[random.Random, bytes], _Made]] = {
    "path traversal": _traversal,
    "absolute": _absolute,
    "links": _links,
    "devices": _devices,
    "huge sizes": _huge,
    "negative sizes": _negative,
    "PAX bomb": _pax_bomb,
    "PAX lies": _pax_lies,
    "not UTF-8": _not_utf8,
    "duplicates": _duplicates,
    "nested": _nested,
    "cut": _cut,
    "long names": _long,
    "sparse": _sparse,
    "noise": _noise,
    "flips": _flips,
}
KINDS = tuple(_MAKERS)


def write_tars(
    folder: Path, video: bytes, count: int, seed: int
) -> dict[str, tuple[str, int | None]]:
    """`count` hostile tars as tNNNNN.tar; kind and rows of each, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for number in range(count):
        kind, data, rows = hostile_tar(seed * 1_000_003 * len(KINDS) + number, video)
        name = f"t{number:05d}.tar"
        (folder / name).write_bytes(data)
        made[name] = kind, rows
    return made
