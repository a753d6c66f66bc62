"""Laws of sparse decoding and of its child process."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from datapipe.errors import BadSample
from datapipe.video.decoder import Decoder, DecoderDied, DecodeTimeout, Pass, VideoLimits
from tests.datapipe.media import (
    cut,
    decode_all,
    numbered,
    turn,
    write_av1,
    write_sound,
    write_video,
)


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def rejected(decoder: Decoder, path: Path) -> str:
    with pytest.raises(BadSample) as caught:
        decoder.probe(path)
    assert caught.value.detail
    return caught.value.reason


FORMATS = {
    "short_gop.mp4": {"gop": 12},
    "open_gop.mp4": {"gop": 24, "bframes": 3, "options": {"x264-params": "open-gop=1"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "vp9.webm": {"codec": "libvpx-vp9", "bframes": 0},
    "b_frames.avi": {"codec": "mpeg4", "gop": 20},
    "fragmented.mp4": {"gop": 24, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "variable.mkv": {"gop": 30, "stamps": [n if n < 40 else 40 + 7 * (n - 40) for n in range(90)]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_sparse_frames_equal_those_of_a_full_decode(decoder, tmp_path, name):
    """The frame at an index is the one that a decode from the start gives at that index."""
    path = write_video(tmp_path / name, numbered(90), **FORMATS[name])
    full = decode_all(path)
    info = decoder.probe(path)
    assert info.frames == len(full) == 90
    wanted = [3, 17, 18, 41, 66, 89]
    for _ in range(2):
        frames = decoder.frames(path, reversed(wanted))
        assert [frame.index for frame in frames] == wanted
        for frame in frames:
            assert np.abs(frame.image.astype(int) - full[frame.index]).mean() < 0.5


@pytest.mark.parametrize("bframes", [0, 3])
def test_a_loose_pass_decodes_nothing_for_itself(decoder, tmp_path, bframes):
    """It gets the first frame from each moment on that is decoded anyway, with its picture."""
    path = write_video(tmp_path / "a.mp4", numbered(90), bframes=bframes)
    info = decoder.probe(path)
    passes = [Pass(None, 64), Pass(3.0, 128, loose=True)]
    thumbs, loose = (
        {f.index: f.image.shape for n, f in decoder.sweep(path, passes) if n == number}
        for number in (0, 1)
    )
    alone = {f.index for _, f in decoder.sweep(path, passes[:1])}
    assert thumbs.keys() == alone
    assert (len(alone) < 90) == (bframes > 0)
    wanted = passes[1].frames(info, 0.0, info.seconds)
    assert list(loose) == sorted({min(i for i in alone if i >= w) for w in wanted})
    assert {max(shape) for shape in loose.values()} == {128}


def test_av1_is_read(decoder, tmp_path):
    """Like any other codec."""
    path = write_av1(tmp_path / "a.mp4", numbered(30))
    full = decode_all(path)
    assert decoder.probe(path).codec == "av1"
    (frame,) = decoder.frames(path, [21])
    assert np.abs(frame.image.astype(int) - full[21]).mean() < 0.5


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("libx264", "gray"), ("libx264", "yuv444p"), ("libx265", "yuv420p10le"), ("png", "rgba")],
)
def test_every_pixel_format_becomes_rgb(decoder, tmp_path, codec, pixels):
    """Grey, 4:4:4, 10 bit and alpha come as RGB pictures of the same content."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_video(
        tmp_path / "a.mov", numbered(9), codec=codec, pixels=pixels, bframes=0, options=options
    )
    (frame,) = decoder.frames(path, [4])
    assert frame.image.shape == (240, 320, 3)
    expected = numbered(9)[4].astype(int)
    if pixels == "gray":
        expected = np.repeat(expected @ [[0.299], [0.587], [0.114]], 3, axis=2)
    assert np.abs(frame.image - expected).mean() < 15  # the encoder narrows grey's range


def test_timestamps_follow_the_file_not_the_frame_rate(decoder, tmp_path):
    """Seconds are counted from the first frame, also at a variable frame rate."""
    stamps = [5 + n if n < 30 else 35 + 10 * (n - 30) for n in range(60)]
    path = write_video(tmp_path / "a.mp4", numbered(60), stamps=stamps)
    frames = decoder.frames(path, [0, 10, 40])
    expected = [(stamps[n] - 5) / 25 for n in (0, 10, 40)]
    assert [frame.timestamp for frame in frames] == pytest.approx(expected, abs=1e-3)


def test_pictures_come_upright(tmp_path):
    """A clip turned by its metadata is seen as players show it, and measured so."""
    flat = write_video(tmp_path / "a.mp4", numbered(10))
    path = turn(flat, tmp_path / "turned.mp4", height=240)
    with Decoder() as decoder:
        info = decoder.probe(path)
        assert (info.width, info.height) == (240, 320)
        (frame,) = decoder.frames(path, [5], long_side=160)
    assert frame.image.shape == (160, 120, 3)
    assert frame.image[20, -20, 0] > 150 > 100 > frame.image[20, 20, 0]


def test_pixels_are_square(decoder, tmp_path):
    """A clip with oblong pixels is stretched to its shape on a screen."""
    path = write_video(tmp_path / "a.mp4", numbered(10), options={"aspect": "4:3"})
    info = decoder.probe(path)
    assert info.width / info.height == pytest.approx(16 / 9, abs=0.01)
    (full,) = decoder.frames(path, [3])
    assert full.image.shape == (info.height, info.width, 3)
    (small,) = decoder.frames(path, [3], long_side=160)
    assert small.image.shape == (90, 160, 3)


def test_frames_are_scaled_down_and_never_up(decoder, tmp_path):
    """The long side is a bound, kept by odd sizes too."""
    path = write_video(tmp_path / "a.mp4", numbered(5, 321, 243), pixels="yuv444p")
    assert decoder.frames(path, [1], long_side=100)[0].image.shape == (76, 100, 3)
    assert decoder.frames(path, [1], long_side=2000)[0].image.shape == (243, 321, 3)


def test_what_is_no_video_is_rejected_with_its_reason(decoder, tmp_path):
    """Empty files, texts, playlists and sound are told apart and do no harm."""
    empty, text, playlist = (tmp_path / name for name in ("empty.mp4", "text.mp4", "list.mp4"))
    empty.write_bytes(b"")
    text.write_text("not a video\n" * 500)
    good = write_video(tmp_path / "good.mp4", numbered(5))
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")
    assert rejected(decoder, empty) == "unreadable"
    assert rejected(decoder, text) == "unreadable"
    assert rejected(decoder, playlist) == "unreadable"
    assert rejected(decoder, write_sound(tmp_path / "sound.mp4")) == "no_video"
    assert rejected(decoder, cut(good, tmp_path / "cut.mp4", 0.5)) == "unreadable"
    assert decoder.probe(good).frames == 5


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("a.mkv", {}),
        ("a.mp4", {"movflags": "faststart"}),
        ("b.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ],
)
def test_a_file_that_ends_early_gives_the_frames_it_has(decoder, tmp_path, name, container):
    """Frames before the cut are the original ones, those behind it are left out."""
    whole = write_video(tmp_path / name, numbered(120), gop=20, container=container)
    full = decode_all(whole)
    path = cut(whole, tmp_path / f"cut_{name}", 0.55)  # FFmpeg refuses a cut in a fragment's head
    info = decoder.probe(path)
    assert 30 < info.frames < 110
    frames = decoder.frames(path, range(info.frames))
    assert len(frames) > 30
    for frame in frames[::7]:
        assert np.abs(frame.image.astype(int) - full[frame.index]).mean() < 0.5


def test_damage_inside_a_file_costs_only_frames(decoder, tmp_path):
    """Frames away from the damage are still the original ones."""
    path = write_video(tmp_path / "a.mp4", numbered(120), gop=20, bframes=0)
    full = decode_all(path)
    data = bytearray(path.read_bytes())
    middle = data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(data)
    decoder.probe(path)
    frames = decoder.frames(path, [2, 10, 110, 118])
    assert [frame.index for frame in frames] == [2, 10, 110, 118]
    for frame in frames:
        assert np.abs(frame.image.astype(int) - full[frame.index]).mean() < 0.5


def test_limits_hold_before_anything_is_decoded(tmp_path):
    """A frame that claims 8K, too many frames, seconds or bytes: `too_large`."""
    path = write_video(tmp_path / "a.mp4", numbered(100), container={"movflags": "faststart"})
    huge = write_video(
        tmp_path / "huge.mp4", numbered(1, 7680, 4320), options={"preset": "ultrafast"}
    )
    limits = [VideoLimits(frames=99), VideoLimits(seconds=3.9), VideoLimits(bytes=100)]
    for wrong in (*limits, VideoLimits(pixels=320 * 240 - 1)):
        with Decoder(wrong) as decoder:
            assert rejected(decoder, path) == "too_large"
    with Decoder() as decoder:
        assert rejected(decoder, huge) == "too_large"
        assert decoder.probe(path).frames == 100


def test_a_large_file_has_the_time_that_reading_it_takes(tmp_path):
    """What lies between a film's index and its pictures costs nothing but time and no memory."""
    path = write_video(tmp_path / "a.mp4", numbered(30), container={"movflags": "faststart"})
    with Decoder(request_seconds=1e-9) as decoder, pytest.raises(DecodeTimeout):
        decoder.probe(path)
    gap = 12 * 2**30  # a hole: it takes no room on the disk
    with path.open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"free", gap))
        file.truncate(file.tell() + gap - 16)
    with Decoder(request_seconds=1e-9) as decoder:
        assert decoder.probe(path).frames == 30


def test_limits_must_be_positive():
    """A limit of zero admits nothing and is a mistake."""
    with pytest.raises(ValueError, match="frames"):
        VideoLimits(frames=0)


def _while_asking(decoder: Decoder, path: Path, act) -> list:
    """Ask for a frame of a stopped child, and act on its process meanwhile."""
    decoder.probe(path)
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)
    answers: list = []
    asking = threading.Thread(target=lambda: answers.append(decoder.frames(path, [3])))
    asking.start()
    time.sleep(0.2)
    act(pid)
    asking.join(20)
    assert not asking.is_alive()
    assert decoder.pid != pid
    return answers


def test_a_crash_is_survived_by_a_fresh_child(tmp_path):
    """A child that dies by a signal in the middle of a request is replaced and the work done."""
    path = write_video(tmp_path / "a.mp4", numbered(10))

    def crash(pid: int) -> None:
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)

    with Decoder() as decoder:
        ((frame,),) = _while_asking(decoder, path, crash)
        assert frame.index == 3


def test_a_hang_is_ended_and_survived(tmp_path):
    """A child that stops answering is killed after the limit and the work done by another."""
    path = write_video(tmp_path / "a.mp4", numbered(10))
    with Decoder(request_seconds=2) as decoder:
        begin = time.monotonic()
        ((frame,),) = _while_asking(decoder, path, lambda pid: None)
        assert frame.index == 3
        assert time.monotonic() - begin < 8


def test_a_video_that_crashes_every_child_ends_in_an_error(tmp_path):
    """After two dead children DecoderDied says how they died; the next video is unharmed."""
    path = write_video(tmp_path / "a.mp4", numbered(20, 1280, 720))
    killed: set[int] = set()

    def kill_each(decoder: Decoder) -> None:
        end = time.monotonic() + 20
        while len(killed) < 2 and time.monotonic() < end:
            if decoder.pid is not None and decoder.pid not in killed:
                killed.add(decoder.pid)
                os.kill(decoder.pid, signal.SIGSEGV)
            time.sleep(0.005)

    with Decoder() as decoder:
        killer = threading.Thread(target=kill_each, args=[decoder])
        killer.start()
        with pytest.raises(DecoderDied, match="SIGSEGV"):
            decoder.frames(path, range(20))
        killer.join()
        assert len(decoder.frames(path, [1])) == 1


def test_a_memory_bomb_bursts_in_the_child(tmp_path):
    """The child's memory is bounded; running out of it is an error of this video alone."""
    options = {"preset": "ultrafast"}
    path = write_video(tmp_path / "a.mp4", numbered(3, 3840, 2160), options=options)
    small = write_video(tmp_path / "b.mp4", numbered(3))
    with Decoder(memory_bytes=500 * 2**20) as decoder:
        with pytest.raises(RuntimeError, match=r"MemoryError|ended by"):
            decoder.frames(path, range(3))
        assert len(decoder.frames(small, [1])) == 1


def test_a_long_read_takes_no_more_memory_than_a_short_one(tmp_path):
    """A child with room for a few pictures reads any number of them."""
    options = {"preset": "ultrafast"}
    path = write_video(tmp_path / "a.mp4", numbered(40, 1920, 1080), options=options)
    with Decoder(memory_bytes=600 * 2**20) as decoder:
        assert len(decoder.frames(path, range(40))) == 40


def test_a_video_that_always_hangs_ends_in_a_timeout(tmp_path):
    """After two tries DecodeTimeout is raised, and the decoder is fit for the next video."""
    path = write_video(
        tmp_path / "a.mp4", numbered(200, 1280, 720), options={"preset": "ultrafast"}
    )
    with Decoder(request_seconds=0.02) as decoder:
        begin = time.monotonic()
        with pytest.raises(DecodeTimeout, match="no answer within"):
            decoder.frames(path, range(200))
        assert time.monotonic() - begin < 2


def test_the_child_leaves_with_its_parent(tmp_path):
    """Closing the decoder ends its child."""
    path = write_video(tmp_path / "a.mp4", numbered(3))
    decoder = Decoder()
    decoder.probe(path)
    pid = decoder.pid
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_does_not_outlive_a_killed_parent(tmp_path):
    """No decoding process is left behind when a worker is killed without warning."""
    path = write_video(tmp_path / "a.mp4", numbered(3))
    program = (
        "import os, pathlib, signal, sys;"
        "from datapipe.video.decoder import Decoder; d = Decoder();"
        "d.probe(pathlib.Path(sys.argv[1])); print(d.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert done.returncode == -signal.SIGKILL
    child = Path("/proc") / done.stdout.decode().strip()
    end = time.monotonic() + 10
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: Path) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return ") Z " not in (process / "stat").read_text()
    except FileNotFoundError:
        return False
