"""Packed samples: what is not one is named, and no name leads outside."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from datapipe import tar
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.prepare.video import Decoder
from dataset.pack.manifest import load_manifest
from dataset.pack.pack import AppliedRules, Limits, pack
from harmoview.encode.buckets import Bucket
from harmoview.encode.clip import Frames
from harmoview.encode.packed import checked, prepare, samples
from harmoview.encode.run import packed_manifest
from harmoview.model.layout import ReferenceLayout
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import DECIDE, TinyRun

FRAMES = Frames((Bucket(5, 32, 32),), 8, 2.0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    run = TinyRun(root)
    draw = np.random.default_rng(0)
    run.add("a", clip=mp4((draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(5)),
                          (64, 48), 8))  # fmt: skip
    folder = run.save()
    pack(folder, folder.folder("shards"), AppliedRules(DECIDE, {}), Limits(), lambda *_: None)
    return folder.folder("shards")


@pytest.fixture
def good(packed):
    """The one sample of the shard."""
    (shard,) = load_manifest(packed).shards
    with checked(packed, shard) as path:
        ((key, members),) = samples(path)
    assert key == "a"
    return members


def ready(key, members):
    with Decoder() as decoder:
        return prepare(key, members, decoder, FRAMES, ReferenceLayout())


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
