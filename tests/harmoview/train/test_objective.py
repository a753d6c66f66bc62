"""What a step draws of a batch depends on seed, key and epoch alone."""

from __future__ import annotations

import torch

from harmoview.data.loader import EncodedBatch
from harmoview.train.objective import permuted


def batch(count, epoch=0):
    """Two people each: the first has ones everywhere and all views, the second zeros and four."""
    first = torch.tensor([1.0, 0.0])
    present = torch.ones(count, 2, 7, dtype=torch.bool)
    present[:, 1, 4:] = False
    return EncodedBatch(
        (epoch,) * count, tuple(f"key-{n}" for n in range(count)), torch.zeros(count, 1, 1, 2, 2),
        first.view(1, 2, 1, 1, 1, 1).expand(count, 2, 7, 1, 2, 2), present,
        first.view(1, 2, 1, 1).expand(count, 2, 3, 5), torch.zeros(count, 1, 1), 1,
        torch.ones(count),
    )  # fmt: skip


def test_people_come_in_either_order_with_all_that_is_theirs():
    """About as often, the same again for the same seed and epoch, and another in another."""
    found = permuted(batch(400), 3)
    ahead = found.references[:, 0, 0, 0, 0, 0].bool()
    assert 160 < int(ahead.sum()) < 240
    assert torch.equal(found.features[:, 0, 0, 0].bool(), ahead)
    assert torch.equal(found.present[:, 0].all(dim=1), ahead)
    assert torch.equal(found.present[:, 1].all(dim=1), ~ahead)
    assert torch.equal(permuted(batch(400), 3).references, found.references)
    assert not torch.equal(permuted(batch(400, epoch=1), 3).references, found.references)


def test_one_person_stays_one_person():
    """Nothing is drawn for a sample of one."""
    alone = batch(3)
    alone = EncodedBatch(**{**vars(alone), "present": alone.present[:, :1]})
    assert permuted(alone, 0) is alone
