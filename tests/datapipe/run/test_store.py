"""Candidates are put whole, found again, and never half-read."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import Identity, Pose, Reference, Sample, Source, View
from datapipe.run.store import CandidateStore, DamagedCandidate

REFERENCE = Reference(
    1.5, 37, (1.0, 2.0, 3.5, 4.5), (0, 0, 9, 9), Pose(-3.0, 2.0, 0.5), 0.9, 88.0, 4
)
YAWS = (-90, 0, 90)


def portrait(seed=0):
    return encode_jpeg(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8))


def prepared(key="a", people=1, caption="a person"):
    identities = tuple(Identity(REFERENCE, portrait=portrait(i)) for i in range(people))
    return Sample(key, Source(f"clips/{key}.mp4", ".mp4"), caption, identities)


def test_all_captions_of_a_sample_are_stored_with_it(tmp_path):
    """One caption is not stored twice: ordinary candidates have the bytes that they had."""
    store = CandidateStore(Folder(tmp_path), "settings")
    several = replace(prepared("a"), captions=("one", "zwei"), caption="one")
    assert put(store, several).captions == store.find("a").sample.captions == ("one", "zwei")
    put(store, prepared("b"))
    assert b"captions" not in store.run.read(store.name("b"))


def put(store, sample):
    views = tuple(View(yaw, 7 * yaw + 1000) for yaw in YAWS)
    made = replace(sample, identities=tuple(replace(i, views=views) for i in sample.identities))
    return store.put(made, [{yaw: portrait(yaw + 90) for yaw in YAWS}] * len(made.identities), {})


def test_a_stored_candidate_is_read_back_as_it_was_put(tmp_path):
    """Record, pictures and provenance survive the trip, pixels leave the row."""
    store = CandidateStore(Folder(tmp_path), "settings")
    sample = put(store, prepared(people=2))
    found = store.find("a")
    assert found is not None
    assert found.sample == sample
    assert sample.identities[0].portrait == b""
    assert found.pictures[1].reference == portrait(1)
    assert found.pictures[0].views[90] == portrait(180)


@given(
    key=st.from_regex(r"[A-Za-z0-9_-]{1,60}", fullmatch=True),
    caption=st.text(),
    people=st.integers(1, 2),
)
def test_any_caption_and_key_survive(tmp_path_factory, key, caption, people):
    """Captions are untrusted text; they come back unchanged."""
    store = CandidateStore(Folder(tmp_path_factory.mktemp("run")), "s")
    put(store, prepared(key, people, caption))
    found = store.find(key)
    assert found is not None
    assert (found.sample.key, found.sample.caption) == (key, caption)


def test_the_bytes_depend_only_on_the_content(tmp_path):
    """Two writers of the same key write the same file."""
    names = []
    for run in ("one", "two"):
        folder = Folder(tmp_path / run)
        names.append(folder.read(put(CandidateStore(folder, "s"), prepared()).candidate))
    assert names[0] == names[1]


def test_an_unknown_key_is_not_found(tmp_path):
    """Nothing stored, nothing found."""
    assert CandidateStore(Folder(tmp_path), "s").find("a") is None


def test_a_candidate_of_other_settings_is_refused(tmp_path):
    """A settings hash that differs is an error that names the file, never a silent mix."""
    put(CandidateStore(Folder(tmp_path), "s1"), prepared())
    with pytest.raises(DamagedCandidate, match=r"a\.tar was made with other settings"):
        CandidateStore(Folder(tmp_path), "s2").find("a")


@given(data=st.data())
def test_a_damaged_candidate_is_an_error_that_names_it(tmp_path_factory, data):
    """Cut anywhere, a candidate is reported as damaged and never read in part."""
    folder = Folder(tmp_path_factory.mktemp("run"))
    store = CandidateStore(folder, "s")
    name = put(store, prepared()).candidate
    whole = folder.read(name)
    end = whole.rstrip(b"\0").__len__()
    folder.put(name, whole[: data.draw(st.integers(0, end - 1))])
    with pytest.raises(DamagedCandidate, match=r"a\.tar"):
        store.find("a")


def test_a_foreign_tar_writes_nothing(tmp_path):
    """Members are read by name into memory; a tar with hostile names touches no file."""
    folder = Folder(tmp_path / "run")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("../../escaped.json")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
    folder.put(CandidateStore.name("a"), buffer.getvalue())
    with pytest.raises(DamagedCandidate):
        CandidateStore(folder, "s").find("a")
    assert [p.name for p in tmp_path.rglob("escaped*")] == []
