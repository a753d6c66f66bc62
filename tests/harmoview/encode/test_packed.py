"""Packed samples and their clips: what is none is named, no name leads out, nothing is invented."""

from __future__ import annotations

import io
import json
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe import tar
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.video.decoder import Decoder, VideoInfo
from dataset.pack.manifest import load_manifest
from dataset.pack.pack import ShardLimits, pack
from harmoview.encode.packed import (
    ClipFile,
    ClipReader,
    checked,
    fit,
    frame_indices,
    prepare,
    samples,
    unpack,
)
from harmoview.encode.run import packed_manifest
from harmoview.encode.settings import Bucket
from harmoview.encode.windows import TrainWindow, crop_for
from harmoview.model.layout import ReferenceLayout
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import RULES, TinyRun

FRAMES = ClipReader((Bucket(5, 32, 32),), 8, 2.0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    run = TinyRun(root)
    draw = np.random.default_rng(0)
    run.add("a", clip=mp4((draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(5)),
                          (64, 48), 8))  # fmt: skip
    folder = run.save()
    pack(folder, folder.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    return folder.folder("shards")


@pytest.fixture
def good(packed):
    """The one sample of the shard."""
    (shard,) = load_manifest(packed).shards
    with checked(packed, shard) as path:
        ((key, members),) = samples(path)
    assert key == "a"
    return members


def test_a_clip_is_copied_and_never_held(tmp_path):
    """One of 32 MB takes a few, and arrives as it is."""
    clip = np.random.default_rng(0).bytes(32 << 20)
    (tmp_path / "x.tar").write_bytes(tar.tar_of({"a.mp4": clip, "a.txt": b"", "b.mp4": b"b"}))
    tracemalloc.start()
    spans = [members["mp4"] for _, members in samples(tmp_path / "x.tar")]
    for number, span in enumerate(spans):
        span.copy(tmp_path / f"{number}.mp4")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert [(tmp_path / f"{n}.mp4").read_bytes() for n in range(2)] == [clip, b"b"]


def ready(key, members):
    packed = unpack(key, members, ReferenceLayout())
    (window,) = packed.windows
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:
        clip = ClipFile(Path(folder)).path(packed)
        return prepare(packed, window, clip, decoder, FRAMES)


def whole(size=(64, 48)):
    """A span of any clip with a small face in its middle."""
    x, y = size[0] / 2, size[1] / 2
    return TrainWindow(0.0, 1e3, (0,), (x - 2, y - 2, x + 2, y + 2), 4.0)


def test_a_packed_sample_is_decoded_whole(good):
    """Seven views, the frontal one the reference; the lowest mean of each score."""
    sample = ready("a", good)
    assert sorted(sample.identities[0]) == [-90, -60, -30, 0, 30, 60, 90]
    assert sample.frames.shape == (5, 32, 32, 3)
    assert sample.scores["sharpness"] == 900.0
    assert sample.caption == "a person"


def described(members, **changes):
    about = json.loads(members["json"])
    return {**members, "json": json.dumps({**about, **changes}).encode()}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: {**m, "json": b"{"},
        lambda m: {**m, "txt": b"\xff\xfe"},
        lambda m: {n: d for n, d in m.items() if n != "txt"},
        lambda m: {n: d for n, d in m.items() if n != "mp4"},
        lambda m: {n: d for n, d in m.items() if n != "id0.reference.jpg"},
        lambda m: {**m, "id0.yaw+30.jpg": b"no picture"},
        lambda m: described(m, identities=[]),
        lambda m: described(m, identities=None),
        lambda m: described(m, identities=[{"identity": 0, "yaws": [17], "views": {}}]),
        lambda m: described(m, identities=3 * json.loads(m["json"])["identities"]),
    ],
)
def test_what_is_no_packed_sample_is_refused_with_a_reason(good, spoil):
    """Broken JSON, text or pictures, members that are missing, people and yaws without a slot."""
    with pytest.raises(BadSample) as refused:
        ready("a", spoil(good))
    assert refused.value.reason == "unreadable"


@pytest.mark.parametrize("key", ["../../etc/x", "/x", "..", ".hidden", "a/b", "a\x1b[2J", ""])
def test_a_key_that_leads_elsewhere_is_refused(good, key):
    """It would become a member's name that somebody may unpack, or a line in a terminal."""
    with pytest.raises(BadSample):
        ready(key, good)


def test_a_shard_named_outside_its_folder_is_refused(packed, tmp_path):
    """A manifest from outside cannot say where encode writes."""
    out = Folder(tmp_path / "shards")
    manifest = load_manifest(packed)
    replace(manifest, shards=(replace(manifest.shards[0], name="../evil.tar"),)).write(out)
    with pytest.raises(UserError, match=r"evil\.tar"):
        packed_manifest(out)


def test_a_shard_is_checked_before_anything_of_it_is_used(packed, tmp_path):
    """One flipped bit in a picture is enough."""
    (shard,) = load_manifest(packed).shards
    data = bytearray(packed.read(shard.name))
    data[2000] ^= 1
    out = Folder(tmp_path)
    out.put(shard.name, bytes(data))
    with pytest.raises(UserError, match="not the file"), checked(out, shard):
        raise AssertionError("it was handed out")
    with pytest.raises(UserError, match="missing"), checked(Folder(tmp_path / "no"), shard):
        raise AssertionError("it was handed out")


def test_two_samples_of_one_key_are_no_shard(tmp_path):
    """A tar with a member twice."""
    buffer = io.BytesIO()
    with tar.open_writer(buffer) as file:
        tar.add(file, "a.txt", b"one")
        tar.add(file, "a.txt", b"two")
    path = tmp_path / "x.tar"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="no WebDataset shard"):
        list(samples(path))


BUCKETS = (Bucket(9, 32, 48), Bucket(5, 32, 48), Bucket(5, 48, 32))


def about(frames, fps):
    return VideoInfo(64, 48, np.arange(frames) / fps, frames / fps, "h264", (0,))


@given(st.integers(1, 300), st.sampled_from([8.0, 23.976, 25.0, 29.97, 60.0]),
       st.sampled_from([16, 24]), st.integers(0, 30))  # fmt: skip
def test_frames_are_where_the_models_rate_has_them(frames, own, fps, quarter):
    """In order, inside the clip, around its middle, evenly to half a frame of the faster rate."""
    count = 4 * quarter + 1
    indices = frame_indices(about(frames, own), count, fps, (0, frames - 1))
    assert len(indices) == count
    assert 0 <= indices[0] <= indices[-1] <= frames - 1
    if (count - 1) / fps <= (frames - 1) / own - 0.5 / own:
        steps = 1 + own / min(own, fps)  # by which the middle may be missed
        assert abs(indices[0] - (frames - 1 - indices[-1])) <= steps
        off = [k / fps - (i - indices[0]) / own for k, i in enumerate(indices)]
        assert min(off) > -0.51 / max(own, fps)
        assert max(off) < 1 / own - 0.49 / max(own, fps)


@given(st.lists(st.floats(0.001, 1.5), min_size=1, max_size=60), st.sampled_from([16, 24]),
       st.integers(0, 10))  # fmt: skip
def test_each_frame_is_the_one_shown_at_its_moment(gaps, fps, quarter):
    """However unevenly the frames of a clip follow each other."""
    times = np.cumsum([0.0, *gaps])
    info = VideoInfo(64, 48, times, float(times[-1]) + 0.04, "h264", (0,))
    indices = frame_indices(info, 4 * quarter + 1, fps, (0, len(gaps)))
    early = 0.51 * min(1 / fps, float(np.median(gaps)))
    for k, index in enumerate(indices):
        moment = times[indices[0]] + k / fps
        assert times[index] <= moment + early
        assert index == len(gaps) or moment < times[index + 1] + 1e-6


@given(st.integers(1, 300), st.sampled_from([16, 24]), st.integers(0, 30), st.floats(1, 5))
def test_a_clip_at_the_models_rate_or_above_gives_no_frame_twice(frames, fps, quarter, faster):
    """Also where the spare ones cannot be shared evenly: at its own rate they are neighbours."""
    count = 4 * quarter + 1
    for own in (float(fps), fps * faster):
        most = max(frames, int(count * faster) + 2)
        indices = frame_indices(about(most, own), count, fps, (0, most - 1))
        assert len(set(indices)) == count
        assert own != fps or indices[-1] - indices[0] == count - 1


@settings(max_examples=40)
@given(st.integers(17, 200), st.integers(17, 200), st.sampled_from(BUCKETS))
def test_any_size_is_brought_to_the_bucket_without_distortion(height, width, bucket):
    """Odd sides too: a constant picture stays constant, and the middle stays in the middle."""
    picture = np.full((height, width, 3), (10, 90, 200), np.uint8)
    info = VideoInfo(width, height, np.zeros(1), 1.0, "h264", (0,))
    crop = crop_for(whole((width, height)), bucket, info)
    fitted = fit(picture, bucket, crop)
    assert fitted.shape == (bucket.height, bucket.width, 3)
    assert (fitted == (10, 90, 200)).all()
    left = picture.copy()
    left[:, : width // 2] = 0
    share = (fit(left, bucket, crop)[..., 2] < 100).mean()
    assert abs(share - width // 2 / width) < 0.1


def written(tmp_path, frames, size=(64, 48), fps=8):
    path = tmp_path / "clip.mp4"
    pictures = (np.full((size[1], size[0], 3), 5 * k, np.uint8) for k in range(frames))
    path.write_bytes(mp4(pictures, size, fps))
    return path


@pytest.mark.parametrize(
    ("frames", "expected", "first", "last"),
    [(9, 9, 0, 8), (15, 9, 3, 11), (8, 5, 1, 5), (10, 9, 0, 8), (5, 5, 0, 4)],
)
def test_a_clip_gives_the_middle_of_its_longest_bucket(tmp_path, frames, expected, first, last):
    """Exactly long enough, longer, one frame short of the long bucket, and the shortest."""
    with Decoder() as decoder:
        bucket, _, found = ClipReader(BUCKETS, 8, 2.0).read(
            decoder, written(tmp_path, frames), whole()
        )
    assert (bucket.frames, len(found)) == (expected, expected)
    levels = found.mean(axis=(1, 2, 3)) / 5
    assert abs(levels[0] - first) < 1
    assert abs(levels[-1] - last) < 1


@pytest.mark.parametrize(
    ("frames", "size", "reason"), [(4, (64, 48), "too_short"), (9, (20, 14), "too_small")]
)
def test_what_would_have_to_be_invented_is_refused(tmp_path, frames, size, reason):
    """Too few frames for the shortest bucket; pixels enlarged more than twice."""
    with Decoder() as decoder, pytest.raises(BadSample) as refused:
        ClipReader(BUCKETS, 8, 2.0).read(decoder, written(tmp_path, frames, size), whole(size))
    assert refused.value.reason == reason
