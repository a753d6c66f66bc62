"""The loader: no duplicates, no losses, the same order for any number of ranks and workers."""

from __future__ import annotations

import zlib
from itertools import islice

import pyarrow as pa
import pytest
import torch
import webdataset as wds
from encoded import TEXT, write_encoded

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


def test_ranks_share_an_epoch_without_duplicates_or_losses(data):
    """Interleaved, the ranks' batches are the one rank's."""
    plan = planned(data)
    count = len(plan) * 2
    alone = keys(batches(data, plan), count)
    assert sorted(k for batch in alone[: len(plan)] for k in batch) == sorted(data.keys)
    for ranks in (2, 3):
        shares = [keys(batches(data, plan, rank=r, ranks=ranks), count) for r in range(ranks)]
        assert [shares[n % ranks][n // ranks] for n in range(count)] == alone


@pytest.mark.slow
def test_worker_processes_do_not_change_the_order_nor_the_place_to_resume(data):
    """Two processes from batch 3 on give what none give."""
    plan = planned(data)
    expected = keys(batches(data, plan, start=3), 9)
    assert keys(batches(data, plan, start=3, workers=2), 9) == expected


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
    found = list(islice(batches(data, plan), len(plan)))
    (hit,) = [batch for batch in found if batch.damaged]
    assert rows[2]["key"] in hit.damaged[0]
    assert float(hit.weight.sum()) == len(hit) - 1
    counted = [k for b in found for k, w in zip(b.keys, b.weight, strict=True) if w]
    assert sorted(counted) == sorted(set(data.keys) - {rows[2]["key"]})


def test_a_shard_with_another_hash_or_size_is_an_error_that_names_it(data):
    """Hashes find a changed byte, sizes a cut file."""
    data.check_sizes()
    data.check_hashes(data.manifest.shards)
    path = data.folder.local / "000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 1]) + whole[601:])
    data.check_sizes()
    with pytest.raises(UserError, match=r"000001\.tar has another hash"):
        data.check_hashes(data.manifest.shards)
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
    epoch = [key for batch in alone[: len(plan)] for key in batch]
    assert sorted(epoch) == data.keys


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
