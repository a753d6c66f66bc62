"""Laws of the kinds of video that people have (docs/corpus.md): each shows what a player shows."""

import struct
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from datapipe.errors import BadSample
from datapipe.video.decoder import Decoder
from tests.datapipe.media import numbered, write_video

CORNERS = {
    (-1, -1): (220, 40, 40),
    (1, -1): (40, 200, 40),
    (-1, 1): (50, 50, 220),
    (1, 1): (200,) * 3,
}
"""Colours of a picture's corners, by their side of the middle."""
NAMED = {"pq": (16, "smpte2084"), "hlg": (18, "arib-std-b67")}
"""Transfers, by FFmpeg's number and x265's name."""


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Thirty numbered frames in H.264."""
    return write_video(tmp_path_factory.mktemp("kinds") / "plain.mp4", numbered(30), gop=10)


def cornered(width: int = 160, height: int = 96) -> np.ndarray:
    image = np.full((height, width, 3), 20, np.uint8)
    for (x, y), colour in CORNERS.items():
        rows = slice(0, height // 3) if y < 0 else slice(-height // 3, None)
        columns = slice(0, width // 3) if x < 0 else slice(-width // 3, None)
        image[rows, columns] = colour
    return image


def shown_corners(image: np.ndarray) -> dict:
    """The nearest corner's name of each corner of a picture."""
    height, width = image.shape[:2]
    found = {}
    for x, y in CORNERS:
        colour = image[height // 2 + y * (height * 2 // 5), width // 2 + x * (width * 2 // 5)]
        found[x, y] = min(CORNERS, key=lambda c: np.abs(np.subtract(CORNERS[c], colour)).sum())
    return found


SIGNS = list(product((-1, 1), repeat=2))
MATRICES = [(a, 0, 0, d) for a, d in SIGNS] + [(0, b, c, 0) for b, c in SIGNS]


@pytest.mark.parametrize("oblong", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_a_display_matrix_turns_and_mirrors(decoder, tmp_path, matrix, oblong):
    """A stored point (x, y) from the middle is shown at (a x + c y, b x + d y), square pixels."""
    options = {"aspect": "2:1"} if oblong else {}  # pixels twice as wide as they are high
    path = write_video(tmp_path / "a.mp4", [cornered()] * 3, options=options)
    a, b, c, d = (n * 65536 for n in matrix)
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    info = decoder.probe(path)
    (frame,) = decoder.frames(path, [1])
    pixel = 2 if oblong else 1
    assert (info.width, info.height) == ((160 * pixel, 96) if matrix[0] else (96 // pixel, 160))
    assert frame.image.shape == (info.height, info.width, 3)
    a, b, c, d = matrix
    expected = {(a * x + c * y, b * x + d * y): (x, y) for x, y in CORNERS}
    assert shown_corners(frame.image) == expected


def test_the_container_tells_the_shape_of_pixels_last(decoder, tmp_path):
    """Where the stream says 2 : 1 and the container 3 : 1, players stretch three times."""
    path = write_video(tmp_path / "a.mp4", [cornered()] * 3, options={"aspect": "2:1"})
    data = path.read_bytes()
    at = data.index(b"pasp") + 4
    path.write_bytes(data[:at] + struct.pack(">2I", 3, 1) + data[at + 8 :])
    info = decoder.probe(path)
    assert (info.width, info.height) == (480, 96)


@pytest.mark.parametrize("side", [None, 160])
def test_a_picture_of_another_shape_has_black_bars(decoder, tmp_path, side):
    """Where the size changes within a file, everything keeps its proportions."""
    wide = write_video(tmp_path / "wide.ts", [cornered(320, 192)] * 20)
    tall = write_video(tmp_path / "tall.ts", [cornered(96, 192)] * 20, stamps=range(20, 40))
    path = tmp_path / "a.ts"
    path.write_bytes(wide.read_bytes() + tall.read_bytes())
    before, after = (frame.image for frame in decoder.frames(path, [5, 30], side))
    width = before.shape[1]
    assert before.shape == after.shape == (192 * width // 320, width, 3)
    left, right = width * 112 // 320, width * 208 // 320
    assert after[:, : left - 2].max() == after[:, right + 2 :].max() == 0
    same = {corner: corner for corner in CORNERS}
    assert shown_corners(before) == shown_corners(after[:, left:right]) == same


def test_frames_before_the_cut_of_an_edit_list_are_none(decoder, tmp_path):
    """What must be decoded and is not shown is not counted; times begin with what is shown."""
    options = {"avoid_negative_ts": "disabled"}
    stamps = range(-10, 50)
    path = write_video(tmp_path / "a.mp4", numbered(60), stamps=stamps, gop=60, container=options)
    info = decoder.probe(path)
    assert info.frames == 50
    assert info.seconds == pytest.approx(2, abs=0.01)
    (frame,) = decoder.frames(path, [4])
    assert frame.timestamp == pytest.approx(4 / 25, abs=1e-3)
    assert np.abs(frame.image.astype(int) - numbered(60)[14]).mean() < 4


def test_a_cut_without_encoding_gives_the_frames_shown(decoder, plain, tmp_path):
    """Packets copied from the key frame before a cut, as `-c copy` does, show what follows it."""
    path, cut = tmp_path / "cut.mp4", 13
    with (
        av.open(str(plain)) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as file,
    ):
        origin = source.streams.video[0]
        stream = file.add_stream_from_template(origin)
        source.seek(int(cut / 25 / origin.time_base), stream=origin)
        for packet in source.demux(origin):
            if packet.size:
                shift = int(cut / 25 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                file.mux(packet)
    info = decoder.probe(path)
    assert info.frames == 30 - cut
    frames = decoder.frames(path, range(info.frames))
    assert [round(frame.timestamp * 25) for frame in frames] == list(range(30 - cut))
    for frame in frames[::6]:
        assert np.abs(frame.image.astype(int) - numbered(30)[cut + frame.index]).mean() < 4


def test_a_clock_that_starts_again_goes_on(decoder, tmp_path):
    """Of two transport streams in one file each frame is shown after the one before."""
    part = write_video(tmp_path / "part.ts", numbered(30), gop=10).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(part + part)
    info = decoder.probe(path)
    assert info.frames == 60
    assert np.diff(info.times) == pytest.approx(1 / 25, abs=1e-3)
    for frame in decoder.frames(path, [4, 28, 29, 30, 47]):
        assert np.abs(frame.image.astype(int) - numbered(30)[frame.index % 30]).mean() < 4


@pytest.mark.parametrize(
    ("codec", "name", "fourcc"),
    [("mpeg4", b"V_MPEG4/ISO/ASP", b"XVID"), ("libx264", b"V_MPEG4/ISO/AVC", b"H264")],
)
def test_packets_without_a_time_of_display_are_in_order(decoder, tmp_path, codec, name, fourcc):
    """Matroska's form for AVI's codecs tells only when to decode, and FFmpeg guesses the rest."""
    plain = write_video(tmp_path / "plain.mkv", numbered(40), codec=codec, gop=20)
    path = tmp_path / "a.mkv"
    with av.open(str(plain)) as source, av.open(str(path), "w") as file:
        origin = source.streams.video[0]
        stream = file.add_stream_from_template(origin, opaque=True)
        head = struct.pack("<3i2H4s5i", 40, 320, 240, 1, 24, fourcc, 0, 0, 0, 0, 0)
        stream.codec_context.extradata = head + origin.codec_context.extradata
        for number, packet in enumerate(p for p in source.demux(origin) if p.size):
            packet.pts = packet.dts = 40 * number
            packet.stream = stream
            file.mux(packet)
    path.write_bytes(path.read_bytes().replace(name, b"V_MS/VFW/FOURCC"))
    info = decoder.probe(path)
    assert info.frames == 40
    assert np.diff(info.times) == pytest.approx(1 / 25, abs=2e-3)
    for frame in decoder.frames(path, range(0, 40, 7)):
        assert np.abs(frame.image.astype(int) - numbered(40)[frame.index]).mean() < 4


def test_h264_in_avi_has_its_rate(decoder, tmp_path):
    """AVI tells no times of display, and a raw stream would guess them at double the rate."""
    path = write_video(tmp_path / "a.avi", numbered(40), gop=20)
    info = decoder.probe(path)
    assert info.frames == 40
    assert info.fps == pytest.approx(25, rel=0.01)
    assert info.seconds == pytest.approx(1.6, abs=0.05)


def light(colour: np.ndarray, transfer: str) -> np.ndarray:
    """An SDR colour (0 to 1) as PQ or HLG has it with SDR white at 203 nit, in BT.2020."""
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    nit = colour**2.4 @ np.transpose(to_2020) * 203
    if transfer == "pq":
        y = (nit / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    luma = nit @ [0.2627, 0.6780, 0.0593]
    scene = nit / 1000 * (luma / 1000)[..., None] ** (-0.2 / 1.2)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


@pytest.mark.parametrize("transfer", NAMED)
def test_hdr_becomes_the_sdr_that_it_was_made_of(decoder, tmp_path, transfer):
    """Colours of skin, hair and cloth wrapped as HDR come back within 10 of 255."""
    patches = np.uint8(
        [[[224, 172, 150], [141, 85, 60], [60, 45, 40]], [[90, 110, 150], [235] * 3, [120] * 3]]
    )
    picture = np.repeat(np.repeat(patches, 64, 0), 64, 1)
    number, name = NAMED[transfer]
    deep = np.round(light(picture / 255, transfer) * 65535).astype(np.uint16)
    path = tmp_path / "a.mp4"
    colours = f"log-level=none:colorprim=bt2020:transfer={name}:colormatrix=bt2020nc"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx265", rate=25, options={"x265-params": colours, "crf": "10"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.color_trc = index, number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert decoder.probe(path).transfer == transfer
    (frame,) = decoder.frames(path, [1])
    middles = frame.image[32::64, 32::64].astype(int)
    assert np.abs(middles - patches).max() < 10


def two_streams(path: Path, first: np.ndarray, count: int, film: list, mark: int) -> Path:
    """A film behind another stream of `count` pictures; `mark` is that one's disposition."""
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("mpeg4", rate=25) for _ in range(2)]
        pictures = [[first] * count, film]
        for stream, some in zip(streams, pictures, strict=True):
            stream.height, stream.width = some[0].shape[:2]
            stream.pix_fmt = "yuv420p"
        streams[0].disposition = Disposition(mark)
        for stream, some in zip(streams, pictures, strict=True):
            for picture in some:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("count", "mark", "film_is_used"),
    [
        (1, 0, True),
        (1, int(Disposition.attached_pic), True),
        (12, 0, True),
        (12, int(Disposition.default), False),
    ],
)
def test_the_moving_picture_is_used(decoder, tmp_path, count, mark, film_is_used):
    """Not a cover or a thumbnail; of two films the default, else the larger one."""
    small = np.full((64, 64, 3), 200, np.uint8)
    path = two_streams(tmp_path / "a.mkv", small, count, numbered(12), mark)
    info = decoder.probe(path)
    assert (info.width, info.frames) == ((320, 12) if film_is_used else (64, 12))


def combed(image: np.ndarray) -> float:
    """How much every other line differs from its neighbours."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.mark.parametrize("mark", ["tff=1", "bff=1", ""])
@pytest.mark.parametrize("first", [0, 1])
def test_interlaced_frames_are_made_whole(decoder, tmp_path, mark, first):
    """A bar that moves between two fields has straight edges again, whatever the file says."""
    moments = numbered(40)
    for index, image in enumerate(moments):
        image[40:200, 40 + 5 * index : 60 + 5 * index] = 250
    woven = [one.copy() for one in moments[::2]]
    for image, later in zip(woven, moments[1::2], strict=True):
        image[1 - first :: 2] = later[1 - first :: 2]
    path = write_video(
        tmp_path / "a.mp4", woven, options={"x264-params": mark, "crf": "12"}, bframes=0
    )
    frames = decoder.frames(path, [5, 9, 14])
    assert [frame.deinterlaced for frame in frames] == [True] * 3
    for frame in frames:
        assert combed(frame.image) < combed(woven[frame.index]) / 2


def test_pictures_that_are_single_fields_are_refused(decoder, tmp_path):
    """HEVC has interlaced films so, and nothing here weaves them."""
    options = {"x265-params": "log-level=none:interlace=1"}
    path = write_video(tmp_path / "a.mp4", numbered(10), codec="libx265", options=options)
    with pytest.raises(BadSample, match="one field") as caught:
        decoder.probe(path)
    assert caught.value.reason == "interlaced"


def test_progressive_frames_are_left_as_they_are(decoder, tmp_path):
    """Also where a shirt has stripes of one line, all is noise, or a bar moves."""
    draw = np.random.default_rng(0)
    moments = numbered(20)
    for index, image in enumerate(moments):
        image[40:200:2, 40 + 5 * index : 60 + 5 * index] = 250
        image[100:] = np.clip(image[100:] + draw.normal(0, 20, image[100:].shape), 0, 255)
    frames = decoder.frames(write_video(tmp_path / "a.mp4", moments), [5, 9, 14])
    assert [frame.deinterlaced for frame in frames] == [False] * 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html><body>Log in", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"GIF89a" + bytes(60), "GIF"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "PNG"),
        (b'{"error": "not found"}', "JSON"),
        ("export const é = 1;\n".encode(), "a text"),
        (bytes(4096), "zeros"),
    ],
)
def test_what_is_no_video_says_what_it_is(decoder, tmp_path, content, says):
    """The detail names the kind of file."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(BadSample, match=says) as caught:
        decoder.probe(path)
    assert caught.value.reason == "unreadable"


def test_an_encrypted_video_and_one_without_index_say_so(decoder, plain, tmp_path):
    """Neither can be decoded, for reasons that a user can act on."""
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "112233445566778899aabbccddeeff00",
    }
    path = write_video(tmp_path / "locked.mp4", numbered(5), container=options)
    with pytest.raises(BadSample, match="encrypted"):
        decoder.probe(path)
    data = plain.read_bytes()
    (tmp_path / "lost.mp4").write_bytes(data[: data.find(b"moov") - 4])
    with pytest.raises(BadSample, match="index"):
        decoder.probe(tmp_path / "lost.mp4")
    options = {"movflags": "frag_keyframe+empty_moov"}
    data = write_video(tmp_path / "parts.mp4", numbered(5), container=options).read_bytes()
    (tmp_path / "segment.mp4").write_bytes(data[data.find(b"moof") - 4 :])
    with pytest.raises(BadSample, match="segment"):
        decoder.probe(tmp_path / "segment.mp4")
