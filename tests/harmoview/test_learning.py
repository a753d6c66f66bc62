"""The short form of `benchmarks.proof`: one seed of three variants, with wide margins.

What is best is known in closed form, so that each claim is a number: see docs/proof.md.
"""

import pytest
import torch

from benchmarks import proof

pytestmark = pytest.mark.proof
SEED, STEPS, BATCH, RATE = 0, 1000, 64, 6e-3


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    names = ("full", "no view dropout", "single-view")
    return {name: proof.run(name, SEED, STEPS, BATCH, RATE) for name in names}


def excess(row, at):
    return row["excess"][at]


def test_the_view_that_the_text_names_is_taken_from_its_slot(found):
    """Alone or among all seven it is nearly copied; who was never shown more than one view errs."""
    full, single = found["full"], found["single-view"]
    assert max(excess(full, at) for at in ("1 named", "2 named", "4 named", "7 named")) < 0.2, full
    assert excess(single, "7 named") > 3 * excess(full, "7 named"), single


def test_without_view_dropout_an_absent_view_misleads(found):
    """With some others shown: dropout takes away most of the error that needs not be."""
    full, without = found["full"], found["no view dropout"]
    for at in ("2 absent", "4 absent", "6 absent"):
        assert excess(full, at) < 0.1, full
        assert excess(without, at) > 1.5 * excess(full, at), (full, without)


def test_the_empty_slot_that_is_named_draws_the_attention(found):
    """The sink: one view is shown, another is named, and its proxies get more than fair share."""
    looks = found["full"]["attention"]
    assert looks["named slot"] > 2 * looks["other empty slots"] / 5, looks
    assert 0.7 < found["full"]["weight"]["1 absent"] < 1.3, found["full"]["weight"]
