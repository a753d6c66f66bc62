"""What the packets of an H.264 stream say of themselves, as far as reading by time needs it.

FFmpeg knows all of this inside its parser, but PyAV does not hand it out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datapipe.video.syntax import Syntax, units

SLICES = range(1, 6)
IDR, SEI, SPS, PPS = 5, 6, 7, 8
"""Types of units."""
INTRA = {2, 4, 7, 9}
"""Types of slices that are predicted from no other picture."""
WITH_CHROMA = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
"""Profiles whose sequence parameters hold the chroma format (H.264, 7.3.2.1.1)."""
RECOVERY_POINT = 6
HIGHER = 60
"""Rows of blocks by which `heightened` pictures are higher: more than damage fills."""
HEAD = 256
"""Bytes of a unit that are read at most."""
LARGEST = 1 << 16
"""Bytes of sequence parameters that are rewritten at most; sound ones have some dozens."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of a sequence: what the layout of a slice's header depends on."""

    planes: bool
    frame_bits: int
    gaps: bool
    """Numbers of frames may be left out."""
    order_bits: int
    """Of the order of display; 0 where slices do not tell it."""
    frames_only: bool
    """No picture is coded as two fields."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The header of a packet's first slice."""

    reference: bool
    idr: bool
    number: int
    """`frame_num`: the same for both fields of a frame."""
    field: int | None
    """0: a top field, 1: a bottom field, None: a whole frame."""
    order: int | None
    """Lowest bits of the picture's place in the order of display."""


class H264(Syntax):
    """Knows where decoding can start, what rests on a picture, and the order of display."""

    complete = True

    def __init__(self, extradata: bytes | None, untold: bool, reorders: bool = False) -> None:
        """`extradata` is the codec context's; `untold`: times of display are to be found out;
        `reorders`: pictures are not shown in the order in which they are decoded.
        """
        self.parameters: Parameters | None = None
        self.untold = untold or reorders  # until a packet is shown before one that it follows
        self._container_tells = not untold
        self._latest: int | None = None
        self._noted: list[Picture | None] = []
        self.prefix = 0
        """Bytes before each unit that tell its size; 0: start codes, as in transport streams."""
        if extradata and extradata[0] == 1 and len(extradata) > 8:
            self.prefix = (extradata[4] & 3) + 1
            self._learn(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
        elif extradata:
            self.picture(extradata)

    def note(self, packet: Any) -> None:
        plain = self.parameters is not None and self.parameters.frames_only
        if self._container_tells and packet.pts is not None:
            self.untold &= self._latest is None or packet.pts > self._latest
            self._latest = packet.pts
        told = plain and not self.untold and packet.pts is not None
        self._noted.append(None if told else self.picture(bytes(packet)))

    def is_start(self, packet: Any) -> bool:
        """Containers also mark where a stream with intra refresh only begins to recover."""
        if not super().is_start(packet):
            return False
        try:
            for unit in self._units(bytes(packet)):
                kind = unit[0] & 31
                if kind == SEI and _frames_to_recovery(unit) > 0:
                    return False
                if kind in SLICES:
                    bits = Bits(unit[1:])
                    bits.golomb()
                    return kind == IDR or bits.golomb() in INTRA
        except IndexError:
            return True
        return True

    def is_reference(self, packet: Any) -> bool:
        units = self._units(bytes(packet))
        first = next((unit for unit in units if unit[0] & 31 in SLICES), None)
        return first is None or first[0] >> 5 & 3 > 0

    def display_order(self) -> Sequence[Any] | None:
        if self.parameters is None:
            return None
        return display_order(self._noted, self.parameters.order_bits)

    def second_fields(self) -> set[int]:
        pairs = enumerate(second_fields(self._noted))
        return {row for row, completes in pairs if completes}

    def picture(self, packet: bytes) -> Picture | None:
        """The packet's first slice; None where there is none or it makes no sense."""
        for unit in self._units(packet):
            if unit[0] & 31 == SPS:
                self._learn(unit)
            if unit[0] & 31 in SLICES:
                try:
                    return self._slice(unit)
                except IndexError:
                    return None
        return None

    def _learn(self, unit: bytes) -> None:
        try:
            self.parameters = _parameters(Bits(unit[1:]))
        except IndexError:
            return

    def _slice(self, unit: bytes) -> Picture | None:
        known, bits = self.parameters, Bits(unit[1:])
        if known is None:
            return None
        for _ in ("first macroblock", "type", "picture parameters"):
            bits.golomb()
        bits.take(2 * known.planes)
        number = bits.take(known.frame_bits)
        field = bits.take(1) if not known.frames_only and bits.take(1) else None
        idr = unit[0] & 31 == IDR
        if idr:
            bits.golomb()
        order = bits.take(known.order_bits) if known.order_bits else None
        return Picture(unit[0] >> 5 & 3 > 0, idr, number, field, order)

    def _units(self, packet: bytes) -> Iterator[bytes]:
        """The heads of its units, in order."""
        return units(packet, self.prefix, HEAD)


class Bits:
    """The bits of a unit. Raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data.replace(b"\0\0\3", b"\0\0")  # threes only keep start codes out
        self.place = 0
        """Bits taken so far."""

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.data[self.place >> 3] >> (7 - (self.place & 7)) & 1
            self.place += 1
        return value

    def golomb(self) -> int:
        """A number in Exp-Golomb code, unsigned."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def display_order(pictures: Sequence[Picture | None], order_bits: int) -> list[tuple[int, int]]:
    """What sorts pictures that were given in order of decoding into order of display.

    H.264, 8.2.1.1. A picture that does not tell stays behind the one before it.
    """
    turn = 1 << order_bits
    numbers: list[tuple[int, int]] = []
    period = high = low = 0
    for place, picture in enumerate(pictures):
        if picture is None or picture.order is None:
            numbers.append(numbers[-1] if numbers else (0, 0))
            continue
        if picture.idr:
            period, high, low = place, 0, 0
        laps = high
        if low - picture.order >= turn // 2:
            laps += turn
        elif picture.order - low > turn // 2:
            laps -= turn
        numbers.append((period, laps + picture.order))
        if picture.reference:
            high, low = laps, picture.order
    return numbers


def second_fields(pictures: Sequence[Picture | None]) -> list[bool]:
    """Which of the pictures, in order of decoding, complete the frame of the one before."""
    second: list[bool] = []
    before: Picture | None = None
    for here in pictures:
        pair = (
            before is not None
            and here is not None
            and {before.field, here.field} == {0, 1}
            and before.number == here.number
            and not here.idr
        )
        second.append(pair and not second[-1])
        before = here
    return second


def _parameters(bits: Bits) -> Parameters:
    """H.264, 7.3.2.1.1. Raises IndexError where it ends too early."""
    planes, frame_bits, order_bits, gaps = _before_height(bits)
    bits.golomb()
    return Parameters(planes, frame_bits, gaps, order_bits, bits.take(1) == 1)


def _before_height(bits: Bits) -> tuple[bool, int, int, bool]:
    """`planes`, `frame_bits`, `order_bits` and `gaps`; what follows is the height."""
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    planes = False
    if profile in WITH_CHROMA:
        chroma = bits.golomb()
        planes = chroma == 3 and bits.take(1) == 1
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for matrix in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling(bits, 16 if matrix < 6 else 64)
    frame_bits = bits.golomb() + 4
    how = bits.golomb()
    order_bits = 0
    if how == 0:
        order_bits = bits.golomb() + 4
    elif how == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    gaps = bits.take(1) == 1
    bits.golomb()
    return planes, frame_bits, order_bits, gaps


def heightened(data: bytes, prefix: int) -> bytes:
    """A packet's slices and parameters, with start codes, as of pictures `HIGHER` rows higher.

    `prefix` is as of `H264`.
    """
    return b"".join(map(_heightened, _whole_units(data, prefix)))


def heightened_parameters(extradata: bytes) -> bytes:
    """The same of a codec context's `extradata`, in either form."""
    if extradata[:1] != b"\1":
        return heightened(extradata, 0)
    found, place = [], 5
    for mask in (31, 255):  # of sequences, then of pictures
        count = int.from_bytes(extradata[place : place + 1], "big") & mask
        place += 1
        for _ in range(count):
            end = place + 2 + int.from_bytes(extradata[place : place + 2], "big")
            found.append(extradata[place + 2 : end])
            place = end
    return b"".join(map(_heightened, found))


def _whole_units(data: bytes, prefix: int) -> Iterator[bytes]:
    if not prefix:
        yield from data.split(b"\0\0\1")[1:]
        return
    place = 0
    while place + prefix < len(data):
        end = place + prefix + int.from_bytes(data[place : place + prefix], "big")
        yield data[place + prefix : end]
        place = end


def _heightened(unit: bytes) -> bytes:
    """Nothing of units that no slice needs."""
    kind = unit[0] & 31 if unit else 0
    if kind == SPS and len(unit) <= LARGEST:
        with contextlib.suppress(IndexError):  # what makes no sense stays as it is
            unit = unit[:1] + _higher(Bits(unit[1:]))
    return b"\0\0\0\1" + unit if kind in {*SLICES, SEI, SPS, PPS} else b""


def _higher(bits: Bits) -> bytes:
    """Raises IndexError where they end too early."""
    _before_height(bits)
    start = bits.place
    code = f"{bits.golomb() + HIGHER + 1:b}"  # in Exp-Golomb code
    text = f"{int.from_bytes(bits.data, 'big'):0{8 * len(bits.data)}b}"
    text = text[:start] + "0" * (len(code) - 1) + code + text[bits.place :]
    text += "0" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    return re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _frames_to_recovery(unit: bytes) -> int:
    """Of a recovery point (H.264, D.1.8); 0 of other messages."""
    place = 1
    while place + 2 < len(unit):
        head = [0, 0]  # type, size
        for part in range(2):
            while unit[place] == 255:
                head[part] += 255
                place += 1
            head[part] += unit[place]
            place += 1
        if head[0] == RECOVERY_POINT:
            return Bits(unit[place:]).golomb()
        place += head[1]
    return 0
