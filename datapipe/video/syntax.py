"""What packets say of the pictures in them, where the container's own word will not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from av.bitstream import BitStreamFilterContext

PICTURES = range(32)
"""Types of HEVC's units that hold pictures; of `HEVC_PREDICTED` none rests on the even ones."""
HEVC_PREDICTED = range(16)
VP8_SHOWN = 0x10
"""Bit of a VP8 packet's first byte; without it the picture is only predicted from."""
VOP = b"\0\0\1\xb6"
"""Before a picture of MPEG-4; the two bits after it are its type."""
INTRA, BETWEEN = 0, 2
EMPTY = 8
"""Bytes of an MPEG-4 packet up to which it only says that the last picture stays; one that codes
nothing but unmoved blocks is longer in all but tiny videos."""


class Syntax:
    """A codec whose packets are taken as the container describes them."""

    complete = False
    """Whether a picture that does not come out of the decoder must be damaged."""
    untold = False
    """Whether times of display that go up from packet to packet must be decoding's."""

    def unpack(self, packet: Any) -> list[Any]:
        """Return the packet as packets of one picture each; none where it is empty."""
        return [packet] if packet.size else []

    def note(self, packet: Any) -> None:
        """Take note of the next packet in order of decoding."""

    def is_start(self, packet: Any) -> bool:
        """Tell whether decoding can start here."""
        return bool(packet.is_keyframe)

    def is_shown(self, packet: Any) -> bool:
        """Tell whether its picture is to be seen."""
        return not packet.is_discard

    def is_reference(self, packet: Any) -> bool:
        """Tell whether other pictures may be predicted from it; in doubt they may."""
        return True

    def display_order(self) -> Sequence[Any] | None:
        """Return what sorts the packets noted by display; None where nothing tells it."""
        return None

    def second_fields(self) -> set[int]:
        """Return the packets noted that only complete the frame of the one before."""
        return set()


class Hevc(Syntax):
    """HEVC names each picture that no other rests on."""

    def __init__(self, extradata: bytes | None) -> None:
        boxed = extradata is not None and len(extradata) > 22 and extradata[0] == 1
        self.prefix = (extradata[21] & 3) + 1 if extradata is not None and boxed else 0
        """Bytes before each unit that tell its size; 0: start codes, as in transport streams."""

    def is_reference(self, packet: Any) -> bool:
        kinds = (unit[0] >> 1 & 63 for unit in units(bytes(packet), self.prefix, 1))
        kind = next((kind for kind in kinds if kind in PICTURES), 1)
        return kind % 2 == 1 or kind not in HEVC_PREDICTED


class Vp8(Syntax):
    """VP8 keeps pictures that are only predicted from in packets of their own."""

    def is_shown(self, packet: Any) -> bool:
        return super().is_shown(packet) and memoryview(packet)[0] & VP8_SHOWN != 0


class Mpeg4(Syntax):
    """MPEG-4, part 2. DivX and Xvid in AVI pack two pictures in one packet, then one of none."""

    def __init__(self, stream: Any) -> None:
        self._unpacker = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
        self._between: list[bool] = []

    def unpack(self, packet: Any) -> list[Any]:
        return list(self._unpacker.filter(packet)) if packet.size else []

    def note(self, packet: Any) -> None:
        self._between.append(_vop_type(packet) == BETWEEN)

    def is_start(self, packet: Any) -> bool:
        return super().is_start(packet) and _vop_type(packet) == INTRA

    def is_shown(self, packet: Any) -> bool:
        return super().is_shown(packet) and packet.size > EMPTY

    def display_order(self) -> Sequence[Any]:
        """A picture that is predicted from both sides comes before the one in front of it."""
        shown: list[int] = []
        held: list[int] = []
        for row, between in enumerate(self._between):
            shown += [row] if between else held
            held = held if between else [row]
        places = {row: place for place, row in enumerate(shown + held)}
        return [places[row] for row in range(len(places))]


def units(packet: bytes, prefix: int, head: int) -> Iterator[bytes]:
    """The first `head` bytes of the units of an H.264 or HEVC packet, in order.

    `prefix` bytes before each tell its size; 0: they begin with start codes.
    """
    if prefix:
        place = 0
        while place + prefix < len(packet):
            size = int.from_bytes(packet[place : place + prefix], "big")
            place += prefix
            if size:
                yield packet[place : place + min(size, head)]
            place += size
    else:
        place = packet.find(b"\0\0\1")
        while 0 <= place < len(packet) - 3:
            yield packet[place + 3 : place + 3 + head]
            place = packet.find(b"\0\0\1", place + 3)


def _vop_type(packet: Any) -> int | None:
    data = bytes(packet)
    place = data.find(VOP)
    return data[place + 4] >> 6 if 0 <= place < len(data) - 4 else None
