"""Hostile videos and tars end as one row each, and leave nothing else."""

import pytest

from benchmarks.fuzz import faults
from tests.datapipe.fuzz import KINDS, MUTATIONS, hostile_tar, mutated
from tests.datapipe.fuzz_line import fuzz


@pytest.mark.slow
def test_hostile_input_costs_a_row_and_nothing_else(tmp_path):
    """Every kind of tar and of mutation; `python -m benchmarks.fuzz` runs thousands."""
    seen = fuzz(tmp_path, videos=48, tars=2 * len(KINDS), seed=1)
    assert faults(seen) == []
    assert set(seen.mutations.values()) == set(MUTATIONS)
    assert {kind for kind, _ in seen.tars.values()} == set(KINDS)
    assert {"candidate", "unreadable"} <= set(seen.reasons())
    assert not [row["detail"] for row in seen.rows if row["outcome"] == "error"]
    assert seen.decoder_bytes < 2 << 30


def test_a_seed_makes_the_same_bytes_again():
    """So that what was found can be found again."""
    clip = bytes(range(256)) * 40 + b"avih" + bytes(200)
    for seed in range(60):
        assert mutated(clip, seed) == mutated(clip, seed)
        assert hostile_tar(seed, b"video") == hostile_tar(seed, b"video")
