"""Hostile videos and tars end as one row each, and leave nothing else."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.fuzz import faults
from datapipe.corpus import corpus
from datapipe.files import Folder
from datapipe.run.tables import Ledger
from tests.datapipe.fuzz import KINDS, MUTATIONS, hostile_tar, mutated, write_tars
from tests.datapipe.fuzz_line import fuzz


@pytest.mark.proof
def test_hostile_input_costs_a_row_and_nothing_else(tmp_path):
    """Every kind of tar and of mutation; `python -m benchmarks.fuzz` runs thousands."""
    # in a process of its own: a process knows the memory of all children that it ever had
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        seen = alone.submit(fuzz, tmp_path, videos=48, tars=2 * len(KINDS), seed=1).result()
    assert faults(seen) == []
    assert set(seen.mutations.values()) == set(MUTATIONS)
    assert {kind for kind, _ in seen.tars.values()} == set(KINDS)
    assert {"candidate", "unreadable"} <= set(seen.reasons())
    assert not [row["detail"] for row in seen.rows if row["outcome"] == "error"]
    assert seen.decoder_bytes < 2 << 30


def test_what_hundreds_of_hostile_tars_list_fits_into_the_ledger(tmp_path):
    """Forged sizes and names of every kind: one of them would stop a run for good."""
    write_tars(tmp_path / "corpus", b"no video" * 400, 25 * len(KINDS), seed=1)
    Path(os.fsdecode(os.fsencode(tmp_path / "corpus") + b"/caf\xe9.tar")).write_bytes(
        b"noise" * 300
    )
    listed = [
        sample if sample.stopped else sample.stop("error", "exception", "not looked at")
        for sample in corpus(str(tmp_path / "corpus"))
    ]
    ledger = Ledger(Folder(tmp_path / "run"))
    ledger.append(listed, {}, 0)
    (keys,) = ledger.recorded_keys()
    assert sorted(keys) == sorted({sample.key for sample in listed})


def test_a_seed_makes_the_same_bytes_again():
    """So that what was found can be found again."""
    clip = bytes(range(256)) * 40 + b"avih" + bytes(200)
    for seed in range(60):
        assert mutated(clip, seed) == mutated(clip, seed)
        assert hostile_tar(seed, b"video") == hostile_tar(seed, b"video")
