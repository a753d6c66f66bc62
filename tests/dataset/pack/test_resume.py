"""A pack that was interrupted continues, and its bytes are those of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from datapipe.errors import UserError
from datapipe.shards import ShardWriter
from dataset.pack.pack import ShardLimits, pack
from dataset.pack.verify import verify
from tests.datapipe.runs import RULES, TinyRun
from tests.dataset.pack.packs import contents, packed


def written(folder):
    """When each shard was written; one that is kept keeps its time."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


def interrupted(run, after, monkeypatch, **options):
    """A pack that ends with an error after some samples; the names of its finished shards."""
    write, left = ShardWriter.write, iter(range(after))

    def failing(self, *group):
        if next(left, None) is None:
            raise UserError("interrupted")
        write(self, *group)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", failing)
        with pytest.raises(UserError, match="interrupted"):
            packed(run, **options)
    return run.folder("shards").names("*.tar")


@pytest.mark.parametrize("after", range(3))
def test_an_interrupted_pack_continues_with_the_same_bytes(tiny, monkeypatch, caplog, after):
    """Wherever it ends, finished shards stay and every count is as if nothing had happened."""
    (tiny.root / "clips" / "walk-b.mp4").unlink()
    run, small = tiny.save(), ShardLimits(samples=1)
    packed(run, limits=small)
    whole = contents(run.folder("shards"))
    names = interrupted(run, after, monkeypatch, limits=small)
    assert len(names) == max(after - 1, 0)
    before = written(run.local / "shards")
    packed(run, limits=small)
    assert before.items() <= written(run.local / "shards").items()
    assert contents(run.folder("shards")) == whole


@pytest.mark.parametrize("change", ["rules", "limits", "run", "shard", "state"])
def test_what_was_packed_otherwise_is_not_continued(tiny, tmp_path, monkeypatch, change):
    """Other rules, limits or samples, a lost shard, a damaged state: it begins anew."""
    run, limits, rules = tiny.save(), ShardLimits(samples=1), RULES
    assert interrupted(run, 3, monkeypatch, limits=limits) == ["000000.tar", "000001.tar"]
    if change == "rules":
        rules = replace(RULES, minimum_views=1)
    if change == "limits":
        limits = ShardLimits(samples=1, bytes=1 << 20)
    if change == "run":
        tiny.add("walk-0")
        tiny.save()
    if change == "shard":
        run.put("shards/000001.tar", b"")
    if change == "state":
        run.put("shards/packing.json", b'{"plan": []}')
    before = written(run.local / "shards")
    pack(run, run.folder("shards"), rules, limits, lambda *_: None)
    assert not before.items() & written(run.local / "shards").items()
    assert list(verify(run.folder("shards"), lambda *_: None)) == []


KILLED = """
import sys, time
from datapipe.files import Folder
from datapipe import shards
from dataset.pack.pack import ShardLimits, pack
from tests.datapipe.runs import RULES
write = shards.ShardWriter.write
def slow(self, *group):
    write(self, *group)
    print(len(self.shards), flush=True)
    time.sleep(0.05)
shards.ShardWriter.write = slow
run = Folder(sys.argv[1])
pack(run, run.folder("shards"), RULES, ShardLimits(samples=2), lambda *_: None)
"""


def test_a_killed_pack_lies_to_nobody_and_is_repeated(tmp_path):
    """SIGKILL within a shard: no manifest; packing again keeps what is finished, and gives the
    uninterrupted bytes. tests/datapipe/faults kills at every durable effect."""
    finished = 1
    tiny = TinyRun(tmp_path)
    for index in range(10):
        tiny.add(f"clip{index}", clip=os.urandom(50_000))
    run = tiny.save()
    packed(run, limits=ShardLimits(samples=2))
    whole = contents(run.folder("shards"))
    command = [sys.executable, "-c", KILLED, str(run.local)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) == finished:
                time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
                break
    left = run.folder("shards").names("*")
    assert "manifest.json" not in left
    assert len([name for name in left if name.endswith(".tar")]) == finished
    with pytest.raises(UserError, match="did not finish"):
        list(verify(run.folder("shards"), lambda *_: None))
    noted = {shard["name"] for shard in json.loads(run.read("shards/packing.json"))["shards"]}
    assert len(noted) >= finished - 1  # it may end between the last shard and the note of it
    before = written(run.local / "shards")
    packed(run, limits=ShardLimits(samples=2))
    after = written(run.local / "shards")
    assert all(before[name] == after[name] for name in noted)
    assert contents(run.folder("shards")) == whole
    assert not list((run.local / "shards").glob(".*.tmp"))
