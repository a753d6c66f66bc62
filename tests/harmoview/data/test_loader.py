"""The loader: no duplicates, no losses, the same order for any number of ranks and workers."""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import islice

import pyarrow as pa
import pytest
import torch
import webdataset as wds
from encoded import SETTINGS, TEXT, write_encoded

from datapipe.errors import UserError
from harmoview.data.encoded import DamagedSample, EncodedShards
from harmoview.data.loader import batches
from harmoview.data.plan import plan_of


@pytest.fixture
def data(tmp_path):
    """Eleven samples in three shards, of one and of two people, of two lengths."""
    write_encoded(
        tmp_path, [4, 4, 3], people=lambda n: 1 + n % 2, frames=lambda n: 9 if n < 7 else 5
    )
    return EncodedShards(str(tmp_path))


def planned(data, size=2):
    return plan_of(data, range(len(data.keys)), size, seed=0)


def keys(stream, count):
    return [batch.keys for batch in islice(stream, count)]


def test_ranks_share_the_order_without_duplicates_or_losses(data):
    """Interleaved, the ranks' batches are the one rank's; in a step all are of one size."""
    plan = plan_of(data, range(len(data.keys)), 2, seed=0, step=6)
    alone = keys(batches(data, plan), 24)
    for ranks in (2, 3):
        shares = [keys(batches(data, plan, rank=r, ranks=ranks), 24 // ranks) for r in range(ranks)]
        assert [shares[n % ranks][n // ranks] for n in range(24)] == alone
    shapes = [(b.video.shape, b.references.shape) for b in islice(batches(data, plan), 24)]
    assert all(len(set(shapes[first : first + 6])) == 1 for first in range(0, 24, 6))
    assert len(set(shapes)) > 1


def test_folders_are_read_as_one(data, tmp_path):
    """Samples, captions and damage of the second one too; folders that do not fit are named."""
    other = tmp_path / "other"
    write_encoded(other, [3])
    both = EncodedShards(data.folder.url, str(other))
    assert both.keys == [*data.keys, *EncodedShards(str(other)).keys]
    assert both.column("folder").tolist() == [0] * 11 + [1] * 3
    assert torch.equal(both.read(12).video, EncodedShards(str(other)).read(1).video)
    (other / "000000.tar").write_bytes(bytes(both.manifests[1].shards[0].bytes))
    with pytest.raises(DamagedSample, match="sample-0001"):
        both.read(12)
    with pytest.raises(UserError, match=r"other/000000\.tar has another hash"):
        both.check_hashes(both.shards)
    write_encoded(tmp_path / "third", [3], settings=replace(SETTINGS, reference_size=64))
    with pytest.raises(UserError, match="reference_size 32 and 64"):
        EncodedShards(data.folder.url, str(tmp_path / "third"))


@pytest.mark.slow
def test_worker_processes_do_not_change_the_order_nor_the_place_to_resume(data):
    """Two processes from batch 3 on give what none give, an error of the data in the end too."""
    plan = planned(data)
    expected = keys(batches(data, plan, start=3), 9)
    assert keys(batches(data, plan, start=3, workers=2), 9) == expected
    for shard in data.manifest.shards:
        (data.folder.local / shard.name).write_bytes(bytes(shard.bytes))
    with pytest.raises(UserError, match=r"^\d+ samples near .* into a new folder$"):
        next(batches(data, plan, workers=1))


def test_a_batch_holds_what_was_encoded(data):
    """Tensors by key; text padded with zeros."""
    batch = next(batches(data, planned(data)))
    for row, key in enumerate(batch.keys):
        number = data.keys.index(key)
        draw = torch.Generator().manual_seed(number)
        video = torch.randn(batch.video.shape[1:], generator=draw)
        assert torch.equal(batch.video[row], video)
    assert batch.text.shape[1] == 2
    whole = batch.to(torch.device("cpu"), torch.float32).text
    assert torch.equal(whole[:, :2], batch.text)
    assert whole.shape[1] == TEXT
    assert not whole[:, 2:].any()
    assert batch.features.shape[1] == batch.present.shape[1]


def test_a_damaged_sample_is_skipped_with_a_stand_in_that_does_not_count(data):
    """Its place is taken by one of its group with weight 0; the others are untouched."""
    rows = data.index.to_pylist()
    path = data.folder.local / rows[2]["shard"]
    whole = bytearray(path.read_bytes())
    whole[rows[2]["offset"] + 1500] ^= 1
    path.write_bytes(bytes(whole))
    plan = planned(data)
    found = list(islice(batches(data, plan), 20))
    hits = [batch for batch in found if batch.damaged]
    assert all(rows[2]["key"] in hit.damaged[0] for hit in hits)
    assert {float(hit.weight.sum()) for hit in hits} == {1.0}
    counted = {k for b in found for k, w in zip(b.keys, b.weight, strict=True) if w}
    assert counted == set(data.keys) - {rows[2]["key"]}


def test_a_shard_with_another_hash_or_size_is_an_error_that_names_it(data):
    """Hashes find a changed byte, sizes a cut file."""
    data.check_sizes()
    data.check_hashes(data.shards)
    path = data.folder.local / "000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    data.check_sizes()
    with pytest.raises(UserError, match=r"000001\.tar has another hash"):
        data.check_hashes(data.shards)
    path.write_bytes(whole[:-512])
    with pytest.raises(UserError, match=r"000001\.tar has .* bytes"):
        data.check_sizes()


def test_when_too_many_are_damaged_the_run_stops(data):
    """A shard of zeros is no accident."""
    for shard in data.manifest.shards:
        (data.folder.local / shard.name).write_bytes(bytes(shard.bytes))
    with pytest.raises(UserError, match="cannot be read"):
        next(batches(data, planned(data)))


def test_stock_webdataset_reads_the_shards(data):
    """Key, tensors and description of every sample, in the order of the shards."""
    urls = [str(data.folder.local / shard.name) for shard in data.manifest.shards]
    found = list(wds.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in found] == data.keys
    assert all({"safetensors", "json"} <= sample.keys() for sample in found)


def test_another_number_of_ranks_goes_on_where_the_last_one_stopped(data):
    """Two ranks for 4 micro-batches each, then three from the 8th on: the one rank's order."""
    plan = planned(data)
    alone = keys(batches(data, plan), 20)
    two = [keys(batches(data, plan, rank=r, ranks=2), 4) for r in range(2)]
    three = [keys(batches(data, plan, start=8, rank=r, ranks=3), 4) for r in range(3)]
    begun = [two[n % 2][n // 2] for n in range(8)]
    assert begun + [three[n % 3][n // 3] for n in range(12)] == alone


def test_a_batch_stays_as_it_was_while_others_are_read(data):
    """Though samples are read into the same memory again and again."""
    plan = planned(data)
    stream = batches(data, plan)
    first = next(stream)
    copies = [t.clone() for t in (first.video, first.references, first.features, first.text)]
    for _ in range(10):
        next(stream)
    for tensor, copy in zip(
        (first.video, first.references, first.features, first.text), copies, strict=True
    ):
        assert torch.equal(tensor, copy)


def test_a_sample_that_is_none_is_damaged(data):
    """Bytes that somebody else wrote, with a checksum that is right: skipped, nothing worse."""
    row = data.index.to_pylist()[0]
    path = data.folder.local / row["shard"]
    whole = bytearray(path.read_bytes())
    junk = b"\x01" * row["size"]
    whole[row["offset"] : row["offset"] + row["size"]] = junk
    path.write_bytes(bytes(whole))
    sums = [zlib.crc32(junk), *data.index.column("crc32").to_pylist()[1:]]
    place = data.index.column_names.index("crc32")
    column = data.index.schema.field("crc32")
    data.index = data.index.set_column(place, column, pa.array(sums, column.type))
    with pytest.raises(DamagedSample, match=row["key"]):
        data.read(0)
