"""The command encode: the same bytes whoever is killed, from disks and object stores alike."""

from __future__ import annotations

import json
import time
from itertools import islice

import numpy as np
import psutil
import pytest

from datapipe.files import Folder
from dataset.pack.pack import ShardLimits, pack
from harmoview.data.encoded import EncodedShards
from harmoview.data.loader import batches
from harmoview.data.plan import plan_of
from harmoview.tiny import save_base, tower
from jobs import encode
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import RULES, TinyRun
from tests.processes import command

SHARDS = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models, and the options that fit them."""
    root = tmp_path_factory.mktemp("models")
    save_base(root / "wan")
    tower().save_pretrained(root / "vit")
    return ["--base", str(root / "wan"), "--vit", str(root / "vit"), "--buckets", "9x32x32",
            *("--fps", "8"), *("--reference-size", "32"), *("--vit-layer", "0"),
            *("--vit-size", "56"), *("--text-length", "8"), *("--device", "cpu")]  # fmt: skip


def packed(root, out=None):
    """Two samples a shard, of three captions; the last clip is no video."""
    run = TinyRun(root)
    for number in range(2 * SHARDS):
        draw = np.random.default_rng(number)
        pictures = (draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(9))
        clip = mp4(pictures, (64, 48), 8) if number < 2 * SHARDS - 1 else b"no video at all"
        run.add(f"clip-{number:02d}", clip=clip, caption=f"caption {number % 3}")
    folder = run.save()
    out = out or folder.folder("shards")
    pack(folder, out, RULES, ShardLimits(samples=2), lambda *_: None)
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory, models, source):
    """What one process without Ray writes."""
    out = tmp_path_factory.mktemp("oracle") / "out"
    assert encode.main([source.url, "--out", str(out), *models, "--local", "--quiet"]) == 0
    return contents(out)


def contents(url):
    out = Folder(url)
    names = [name for name in out.names("**") if out.fs.isfile(out.path(name))]
    return {name: out.read(name) for name in names}


def test_captions_are_stored_once_and_what_is_left_out_is_named(oracle):
    """Three captions and the empty one; the damaged clip is counted and named with its reason."""
    assert sum(name.startswith("text/") for name in oracle) == 4
    assert json.loads(oracle["manifest.json"])["totals"]["skipped"] == {"unreadable": 1}
    (line,) = oracle["skipped.jsonl"].decode().splitlines()
    assert json.loads(line)["key"] == "clip-15"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_killed_drivers_and_workers_cost_nothing_but_time(
    tmp_path, models, source, oracle, monkeypatch
):
    """A driver and then a worker are killed in the middle; the rerun ends with the same bytes.

    Relative paths are the command's, on a cluster that was started in another folder.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packed").symlink_to(source.local)
    out = tmp_path / "out"

    def begin(workers):
        words = ["packed", "--out", "out", *models, "--workers", workers, "--quiet"]
        return command("jobs.encode", words, tmp_path / "said")

    driver = begin("1")
    wait_for_shards(out, 2, driver)
    driver.kill()
    driver.join()
    done = indices(out)
    assert len(done) < SHARDS
    before = {name: (out / name).stat().st_mtime_ns for name in done}
    driver = begin("2")
    wait_for_shards(out, len(done) + 2, driver)
    workers()[0].kill()
    driver.join(500)
    assert driver.exitcode == 0, (tmp_path / "said").read_text()
    assert contents(out) == oracle
    assert {name: (out / name).stat().st_mtime_ns for name in done} == before
    assert not list(out.rglob(".*.tmp"))


def indices(out):
    return [path.name for path in out.glob("0*.parquet")]


def wait_for_shards(out, count, driver):
    while len(indices(out)) < count:
        assert driver.is_alive()
        time.sleep(0.02)


def workers():
    """The encoding actors on the cluster that this process has started."""
    below = psutil.Process().children(recursive=True)
    return [one for one in below if "ray::Entered" in " ".join(one.cmdline())]


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_a_damaged_shard_ends_a_run_on_ray_with_one_message(tmp_path, models, capsys):
    """Its name and what to do; nothing of it appears."""
    source = packed(tmp_path)
    path = source.local / "000001.tar"
    whole = bytearray(path.read_bytes())
    whole[-3000] ^= 1
    path.write_bytes(bytes(whole))
    out = tmp_path / "out"
    assert encode.main([source.url, "--out", str(out), *models, "--workers", "1", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "000001.tar is not the file that its manifest lists" in said
    assert "Traceback" not in said
    assert not (out / "000001.tar").exists()
    assert not (out / "manifest.json").exists()


def test_from_one_object_store_folder_to_another_the_bytes_are_the_same(
    tmp_path, models, oracle, s3_bucket, capsys
):
    """And the loader reads them there as it reads them on a disk."""
    source, out = packed(tmp_path, Folder(f"{s3_bucket}/packed")), f"{s3_bucket}/encoded"
    assert encode.main([source.url, "--out", out, *models, "--local"]) == 0
    assert "left out 1 unreadable" in capsys.readouterr().out
    found = contents(out)
    assert found.pop("encode.json") == oracle["encode.json"]
    assert {name: data for name, data in oracle.items() if name in found} == found
    assert len(found) == len(oracle) - 1
    data = EncodedShards(out)
    data.check_sizes()
    data.check_hashes(data.shards)
    plan = plan_of(data, range(len(data.keys)), 2, 0)
    seen = {key for batch in islice(batches(data, plan), 2 * len(data.keys)) for key in batch.keys}
    assert sorted(seen) == data.keys
    assert len(seen) == 2 * SHARDS - 1


def test_progress_is_shown_unless_quiet(tmp_path, models, source, capsys):
    """A bar on stderr and a line on stdout; --quiet leaves both empty."""
    command = [source.url, *models, "--local", "--out"]
    assert encode.main([*command, str(tmp_path / "a")]) == 0
    shown = capsys.readouterr()
    assert "[encode] 16 of 16, 15 encoded, 1 " in shown.err
    assert "encoded 15 samples" in shown.out
    assert encode.main([*command, str(tmp_path / "b"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
