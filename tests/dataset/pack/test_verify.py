"""Verify names every way in which shards differ from their manifest."""

import hashlib
import io
import json
import tarfile
from dataclasses import asdict, replace

import pytest

from datapipe import tar
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.shards import Shard
from dataset.pack.manifest import load_manifest
from dataset.pack.pack import ShardLimits, pack
from dataset.pack.verify import NAMED, CaptionCount, verify
from tests.datapipe.runs import RULES, TinyRun


@pytest.fixture
def shards(tmp_path):
    """Three good samples in two shards."""
    tiny = TinyRun(tmp_path)
    for key in ("a", "b", "c"):
        tiny.add(key)
    run = tiny.save()
    pack(run, run.folder("shards"), RULES, ShardLimits(samples=2), lambda *_: None)
    return run.folder("shards")


def found(folder):
    return [str(mismatch) for mismatch in verify(folder, lambda *_: None)]


def test_captions_are_counted(tmp_path):
    """With one, without, unreadable in the source, and the same as another's; over all shards."""
    tiny = TinyRun(tmp_path)
    for key, caption in {"a": "same", "b": "same", "c": "", "d": "other", "e": "same"}.items():
        tiny.add(key, caption=caption)
    tiny.add("f", caption="", caption_problem="f.txt is not UTF-8")
    run = tiny.save()
    pack(run, run.folder("shards"), RULES, ShardLimits(samples=2), lambda *_: None)
    captions = CaptionCount()
    assert list(verify(run.folder("shards"), lambda *_: None, captions)) == []
    assert (captions.present, captions.empty, captions.undecodable) == (4, 1, 1)
    assert captions.duplicates == 2
    assert str(captions) == "4 with, 1 empty, 1 undecodable, 2 duplicates"


@pytest.mark.parametrize("caption", [b"caf\xe9", b"another"])
def test_a_caption_that_is_not_the_one_packed_is_named(tmp_path, caption):
    """No UTF-8, or not the first of those that the JSON names."""
    tiny = TinyRun(tmp_path)
    tiny.add("a", caption="one", captions=("one", "two"))
    run = tiny.save()
    pack(run, run.folder("shards"), RULES, ShardLimits(), lambda *_: None)

    def change(found):
        return [(name, caption if name.endswith("txt") else data) for name, data in found]

    rewrite(run.folder("shards"), change)
    assert any("the caption of sample 'a' is not" in what for what in found(run.folder("shards")))


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return [(info.name, opened.extractfile(info).read()) for info in opened]


def rewrite(folder, change, name="000000.tar", honest=True):
    """Replace a shard by one with changed members; `honest` mends its entry in the manifest."""
    buffer = io.BytesIO()
    with tar.open_writer(buffer) as writer:
        for member, data in change(members(folder.read(name))):
            tar.add(writer, member, data)
    data = buffer.getvalue()
    folder.put(name, data)
    if honest:
        manifest = load_manifest(folder)
        entries = [
            Shard(name, hashlib.sha256(data).hexdigest(), len(data), shard.samples)
            if shard.name == name
            else shard
            for shard in manifest.shards
        ]
        replace(manifest, shards=tuple(entries)).write(folder)
        folder.delete("README.md")


def test_what_pack_wrote_is_right(shards):
    """No complaint without a cause."""
    assert found(shards) == []


def test_a_changed_byte_is_found(shards):
    """One flipped byte in a clip: the hash of that shard, and nothing else."""
    data = bytearray(shards.read("000001.tar"))
    data[data.index(b"the clip of c")] ^= 1
    shards.put("000001.tar", bytes(data))
    (mismatch,) = found(shards)
    assert mismatch.startswith("000001.tar: has SHA-256 ")


def test_missing_and_surplus_files_are_named(shards):
    """A shard that is gone, a file that nobody listed."""
    shards.put("000007.tar", shards.read("000001.tar"))
    shards.put("notes.txt", b"")
    shards.delete("000001.tar")
    mismatches = found(shards)
    assert "000007.tar: is not in the manifest" in mismatches
    assert "notes.txt: is not in the manifest" in mismatches
    assert "000001.tar: is missing" in mismatches
    assert "manifest.json: says 3 samples in all, the shards hold 2" in mismatches


def test_a_cut_shard_is_found(shards):
    """Half a shard has the wrong size, is no whole tar and holds too few samples."""
    data = shards.read("000000.tar")
    shards.put("000000.tar", data[: len(data) // 2])
    text = "\n".join(found(shards))
    assert "is not a whole tar: the file ends within" in text
    assert f"has {len(data) // 2} bytes, the manifest says {len(data)}" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: [x for x in m if x[0] != "a.mp4"], "sample 'a' has 0 clips, not one"),
        (lambda m: [x for x in m if x[0] != "b.txt"], "sample 'b' lacks its .txt"),
        (lambda m: [x for x in m if x[0] != "b.json"], "sample 'b' lacks its .json"),
        (lambda m: [x for x in m if x[0] != "a.id0.yaw+30.jpg"], "lacks id0 at +30°, which"),
        (lambda m: [x for x in m if "a.id0.ref" not in x[0]], "lacks the reference of id0"),
        (lambda m: [*m[:-1], m[-1], ("b.id4.yaw+00.jpg", b"")], "holds id4 at +0°, which its"),
        (lambda m: [*m, ("b.id0.depth.png", b"")], "holds 'id0.depth.png', which does not"),
        (lambda m: [*m, m[-1]], "'b.id0.yaw+90.jpg' is there twice"),
        (lambda m: [*m, m[0]], "sample 'a' is out of order or there twice"),
        (lambda m: [*m, ("../../etc/passwd", b"x")], "'../../etc/passwd' is not the name of"),
        (lambda m: [*m, ("/etc/passwd", b"x")], "'/etc/passwd' is not the name of"),
        (lambda m: [(n, b"[]" if n == "a.json" else d) for n, d in m], "does not describe"),
        (lambda m: [(n, b"{" if n == "a.json" else d) for n, d in m], "does not describe"),
        (lambda m: [(n, b"[" * 9**5 if n == "a.json" else d) for n, d in m], "does not desc"),
    ],
)
def test_members_are_checked_even_when_the_hash_agrees(shards, change, says):
    """A shard that was made wrong is found although manifest and bytes agree."""
    rewrite(shards, change)
    assert any(says in mismatch for mismatch in found(shards)), found(shards)


def test_a_lying_manifest_is_found(shards):
    """Counts in the manifest are counted again."""
    manifest = load_manifest(shards)
    totals = replace(manifest.totals, identities=4, views={**manifest.totals.views, "-90": 9})
    replace(manifest, totals=totals).write(shards)
    assert found(shards) == [
        "manifest.json: says 4 identities in all, the shards hold 3",
        "manifest.json: says 9 views at -90°, there are 3",
    ]


def test_a_manifest_cannot_reach_outside_its_folder(shards, tmp_path):
    """A shard called ../x is refused by its name."""
    (tmp_path / "x.tar").write_bytes(b"private")
    manifest = load_manifest(shards)
    entry = Shard("../../x.tar", "0", 1, 1)
    replace(manifest, shards=(*manifest.shards, entry)).write(shards)
    shards.delete("README.md")
    assert found(shards) == ["manifest.json: '../../x.tar' is not a shard's name"]


def test_a_flood_of_mismatches_is_counted_not_printed(shards):
    """A hostile shard with thousands of wrong members does not flood the terminal."""
    rewrite(shards, lambda m: [*m, *((f"b.{i}/x", b"") for i in range(3000))])
    mismatches = found(shards)
    assert len(mismatches) == NAMED + 1
    assert mismatches[-1] == f"000000.tar: and {3000 - NAMED} more"


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"{}", b'{"kind": "x"}', b"\xff", b"[" * 100_000),
        b'{"kind": "harmoview-shards", "format": 2, "totals": {}, "shards": [1]}',
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    """Any other JSON, or no JSON, ends in a message that names the file."""
    folder = Folder(tmp_path)
    folder.put("manifest.json", text)
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest of shards"):
        found(folder)


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused_by_name(shards, number):
    """A manifest of another format says which one this version reads."""
    data = json.loads(shards.read("manifest.json")) | {"format": number}
    shards.put("manifest.json", json.dumps(data).encode())
    with pytest.raises(UserError, match=f"of format {number}; this version reads 2"):
        found(shards)


def test_a_manifest_survives_the_trip(shards):
    """Written and read back it is equal."""
    manifest = load_manifest(shards)
    manifest.write(shards)
    assert asdict(load_manifest(shards)) == asdict(manifest)
