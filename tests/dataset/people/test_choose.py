"""Splits share nobody, caps keep the best, and the report says who comes twice."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from dataset.pack.manifest import load_holdout, load_packed
from dataset.pack.pack import ShardLimits, pack, pack_chosen
from dataset.pack.verify import verify
from dataset.people.cap import Passing, over_cap
from dataset.people.choose import choose, validation
from dataset.people.clusters import Clusters, cluster, joined
from dataset.people.embeddings import Embeddings
from dataset.selection import PersonLimits
from tests.datapipe.runs import RULES, TinyRun, good
from tests.dataset.people.test_neighbours import by_hand, crowd, quiet, units

BAD = {yaw: good(yaw, detected=False) for yaw in YAWS}


def embedded(vectors, sample=None):
    """Identities with these embeddings, in these samples; by default each in its own."""
    sample = np.arange(len(vectors)) if sample is None else np.asarray(sample)
    identity = np.array([int(i > 0 and sample[i - 1] == s) for i, s in enumerate(sample)])
    keys = pa.array([f"key{number:05d}" for number in range(int(sample.max()) + 1)])
    return Embeddings(keys, sample, identity, vectors)


def separate(count):
    """Clusters of which none was found."""
    return Clusters(np.arange(count, dtype=np.int32), joined([]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("missed", [False, True])
def test_nobody_is_on_both_sides(seed, missed):
    """By every cosine of one side with the other, even where the index had missed every pair."""
    rng = np.random.default_rng(seed)
    vectors = crowd(seed, people=200, videos=3)
    sample = np.sort(rng.integers(0, 500, len(vectors)))
    who = embedded(vectors, np.unique(sample, return_inverse=True)[1])
    found = separate(len(vectors)) if missed else cluster(vectors, 0.6, quiet)
    held_out, _ = validation(who, found, 0.1, seed, 0.6, quiet)
    side = held_out[who.sample]
    assert all(side[a] == side[b] for a, b in by_hand(vectors, 0.6))
    assert 0.05 * len(who.keys) <= held_out.sum() <= round(0.1 * len(who.keys))
    again, _ = validation(who, found, 0.1, seed, 0.6, quiet)
    np.testing.assert_array_equal(held_out, again)
    other, _ = validation(who, found, 0.1, seed + 1, 0.6, quiet)
    assert (held_out != other).any()


def test_a_video_of_two_people_holds_their_other_videos():
    """A with B in one video, A alone in another, B in a third: all on one side."""
    a, b = np.eye(8, dtype=np.float32)[:2]
    rest = np.eye(8, dtype=np.float32)[2:]
    who = embedded(np.stack([a, b, a, b, *rest]), [0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    for seed in range(20):
        clusters = cluster(who.vectors, 0.9, quiet)
        held_out, _ = validation(who, clusters, 0.4, seed, 0.9, quiet)
        assert len(set(held_out[:3].tolist())) == 1


def test_a_run_in_which_all_hang_together_cannot_be_split():
    """The message says how large the group is and what to change."""
    who = embedded(np.tile(units([[1.0, 2.0]]), (10, 1)))
    with pytest.raises(UserError, match=r"up to 10 of 10 samples; raise --same-person"):
        validation(who, cluster(who.vectors, 0.9, quiet), 0.2, 0, 0.9, quiet)


def passing(who, views, cosine=None):
    views = np.asarray(views, float)
    cosine = np.full(len(views), 0.5) if cosine is None else np.asarray(cosine)
    return Passing(np.ones(len(who.sample), bool), views, cosine * views)


def test_the_cap_keeps_the_best_of_each_person():
    """More views first, then the higher mean cosine, then the smaller key."""
    vectors = np.repeat(np.eye(2, 8, dtype=np.float32), [5, 2], axis=0)
    who = embedded(vectors)
    clusters = cluster(vectors, 0.9, quiet)
    ranked = passing(who, [5, 7, 6, 7, 7, 4, 4], [0.5, 0.6, 0.9, 0.8, 0.6, 0.5, 0.5])
    over = over_cap(who, clusters, ranked, 2, 0.9)
    assert np.flatnonzero(over).tolist() == [0, 2, 4]


def test_a_chain_of_look_alikes_is_not_one_person_to_the_cap():
    """Each is like the next and the ends are not alike: whoever goes is like one that stays."""
    angles = np.deg2rad(np.arange(0, 90, 5))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    who, threshold = embedded(vectors), float(np.cos(np.deg2rad(12)))
    clusters = cluster(vectors, threshold, quiet)
    assert set(clusters.labels.tolist()) == {0}
    over = over_cap(who, clusters, passing(who, [7] * len(vectors)), 1, threshold)
    assert 1 < (~over).sum() < len(vectors)
    cosines = vectors[over] @ vectors[~over].T
    assert (cosines.max(axis=1) >= threshold - 1e-6).all()


@pytest.mark.parametrize("most", [1, 3])
def test_the_cap_compares_with_everyone_that_was_better(most):
    """As by hand: each face counts for the nearest of those kept before it, or is a new person."""
    vectors = crowd(2, people=30, videos=6)
    who = embedded(vectors)
    one = Clusters(np.zeros(len(vectors), np.int32), joined([]))
    over = over_cap(who, one, passing(who, [7] * len(vectors)), most, 0.8)
    people, counted, wanted = [], [], []
    for row, cosines in enumerate(vectors.astype(np.float64) @ vectors.T.astype(np.float64)):
        near = max(people, key=lambda other: cosines[other], default=None)
        if near is None or cosines[near] < 0.8:
            people.append(row)
            counted.append(1)
        elif counted[people.index(near)] < most:
            counted[people.index(near)] += 1
        else:
            wanted.append(row)
    assert len(people) > 30
    assert np.flatnonzero(over).tolist() == wanted


def test_a_sample_of_two_goes_when_one_of_them_is_full():
    """Its other person gains no place by it."""
    a, b = np.eye(2, 8, dtype=np.float32)
    who = embedded(np.stack([a, a, b, b, b]), [0, 1, 1, 2, 3])
    clusters = cluster(who.vectors, 0.9, quiet)
    over = over_cap(who, clusters, passing(who, [7, 6, 5, 4]), 1, 0.9)
    assert np.flatnonzero(over).tolist() == [1, 3]


@pytest.fixture
def run(tmp_path):
    """Twelve people in 30 videos; every fifth video has no view that passes."""
    rng = np.random.default_rng(5)
    faces = units(rng.standard_normal((12, 32)))
    tiny = TinyRun(tmp_path)
    for number in range(30):
        face = faces[number % 12] + 0.4 * units(rng.standard_normal((1, 32)))[0]
        tiny.add(f"v{number:02d}", [BAD if number % 5 == 4 else {}], faces=[face.tolist()])
    return tiny.save(10)


def sides(folder):
    """The keys of each split, from the shards."""
    return {
        split: {
            key.partition(".")[0]
            for name in folder.names(f"{split}/*.tar")
            for key in _names(folder, name)
        }
        for split in ("train", "validation")
    }


def _names(folder, name):
    import tarfile

    with folder.open(name) as file, tarfile.open(fileobj=file) as tar:
        return tar.getnames()


def packed(run, by, rules=RULES, limits=None, out="out"):
    where = run.folder(out)
    chosen = choose(run, rules, by, quiet)
    parts = pack_chosen(run, where, rules, limits or ShardLimits(), chosen, quiet)
    return where, parts


def contents(folder):
    return {name: folder.read(name) for name in (*folder.names("*.*"), *folder.names("*/*"))}


def test_splits_hold_what_passes_and_verify(run):
    """Each a folder of shards of its own; together they are the pack without splits."""
    out, parts = packed(run, PersonLimits(0.6, validation=0.2))
    assert list(verify(out, quiet)) == []
    assert list(verify(out.folder("train"), quiet)) == []
    found = sides(out)
    whole = pack(run, run.folder("whole"), RULES, ShardLimits(), quiet)
    assert len(found["train"]) + len(found["validation"]) == whole.totals.samples
    assert not found["train"] & found["validation"]
    people = [{int(key[1:]) % 12 for key in found[split]} for split in ("train", "validation")]
    assert not people[0] & people[1]
    assert sum(part.totals.candidates for part in parts.values()) == 30
    assert load_packed(out).totals == replace(whole.totals, members=load_packed(out).totals.members)


def test_splits_do_not_depend_on_the_rules(run):
    """Stricter rules take samples out and move none to the other side."""
    lax = sides(packed(run, PersonLimits(0.6, validation=0.3))[0])
    strict = replace(RULES, reference_must_pass=False, minimum_views=7)
    again = sides(packed(run, PersonLimits(0.6, validation=0.3), strict, out="strict")[0])
    assert all(again[split] <= lax[split] for split in lax)


def test_the_report_names_who_comes_twice(run):
    """All videos of a person on one line, with the nearest other and the side."""
    out, _ = packed(run, PersonLimits(0.6, validation=0.2, max_per_identity=2))
    people = [json.loads(line) for line in out.read("identities.jsonl").splitlines()]
    assert len(people) == 12
    for person in people:
        keys = [one["key"] for one in person["identities"]]
        assert person["videos"] == len(keys) == len(set(keys))
        assert len({int(key[1:]) % 12 for key in keys}) == 1
        assert len({one["split"] for one in person["identities"]}) == 1
        assert all(0.6 <= one["nearest"] <= 1 for one in person["identities"])
    left = {i["key"] for one in people for i in one["identities"] if i.get("over_cap")}
    assert left
    assert not left & set.union(*sides(out).values())


def test_the_cap_counts_those_that_pass(run):
    """A sample that fails the rules takes nobody's place."""
    _, parts = packed(run, PersonLimits(0.6, max_per_identity=1))
    totals = parts[None].totals
    assert (totals.candidates, totals.samples, totals.left_out) == (30, 12, 6)
    assert totals.over_cap == 12
    assert list(verify(run.folder("out"), quiet)) == []


def test_splits_are_the_same_bytes_and_leave_nothing_behind(run):
    """Twice, over a pack without splits, and back."""
    by = PersonLimits(0.6, validation=0.2)
    out, _ = packed(run, by, limits=ShardLimits(samples=3))
    once = contents(out)
    assert "packing.json" not in once
    pack(run, out, RULES, ShardLimits(samples=2), quiet)
    assert not out.names("*/*")
    assert list(verify(out, quiet)) == []
    packed(run, by, limits=ShardLimits(samples=3))
    assert contents(out) == once


def test_interrupted_splits_continue(run, monkeypatch):
    """Killed in the second split, the first one's shards stay; the bytes are the same."""
    by, limits = PersonLimits(0.6, validation=0.3), ShardLimits(samples=2)
    out, _ = packed(run, by, limits=limits)
    once = contents(out)
    chosen = choose(run, RULES, by, quiet)
    packs = []

    def failing(*arguments, **options):
        if packs:
            raise UserError("interrupted")
        packs.append(pack(*arguments, **options))
        return packs[0]

    with monkeypatch.context() as patch:
        patch.setattr("dataset.pack.pack.pack", failing)
        with pytest.raises(UserError, match="interrupted"):
            pack_chosen(run, out, RULES, limits, chosen, quiet)
    assert "manifest.json" not in out.names("*")
    before = {path.name: path.stat().st_mtime_ns for path in (out.local / "train").glob("*.tar")}
    pack_chosen(run, out, RULES, limits, chosen, quiet)
    after = {path.name: path.stat().st_mtime_ns for path in (out.local / "train").glob("*.tar")}
    assert before == after
    assert contents(out) == once


def test_a_split_without_its_manifest_is_named(run):
    """It is not whole, whatever the manifest above says."""
    out, _ = packed(run, PersonLimits(0.6, validation=0.2))
    out.delete("train/manifest.json")
    with pytest.raises(UserError, match=r"out/train has no manifest\.json"):
        list(verify(out, quiet))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.put("identities.jsonl", b""), "identities.jsonl: is not the one that was"),
        (lambda f: f.delete("identities.jsonl"), "identities.jsonl: is missing"),
        (lambda f: f.put("README.md", b"# Another"), "README.md: is about other shards"),
        (lambda f: f.put("train/x.tar", b""), "train/x.tar: is not in the manifest"),
        (lambda f: f.put("000000.tar", b""), "000000.tar: is not in the manifest"),
        (lambda f: f.delete("train/000000.tar"), "train/000000.tar: is missing"),
    ],
)
def test_verify_names_what_is_wrong_with_splits(run, change, says):
    """In each split and beside them."""
    out, _ = packed(run, PersonLimits(0.6, validation=0.2))
    change(out)
    assert any(says in str(one) for one in verify(out, quiet))


def test_a_sample_on_both_sides_is_found(run):
    """A split put together by hand from another's shards does not pass."""
    out, _ = packed(run, PersonLimits(0.6, validation=0.2))
    for name in out.names("validation/*"):
        out.put(name.replace("validation", "train"), out.read(name))
    found = [str(one) for one in verify(out, quiet)]
    assert any("which another split holds too" in one for one in found)
    assert any("train/manifest.json: is not the one" in one for one in found)


def test_a_card_that_was_edited_still_belongs(run):
    """Whoever publishes fills in a licence."""
    pack(run, run.folder("out"), RULES, ShardLimits(), quiet)
    card = run.read_text("out/README.md").replace('license: "other"', "license: cc-by-4.0")
    run.put("out/README.md", card.encode())
    assert list(verify(run.folder("out"), quiet)) == []


def test_a_trainer_is_not_given_both_sides(run):
    """The folder above the splits is not one of shards, and says which ones are."""
    from dataset.pack.manifest import load_manifest

    out, _ = packed(run, PersonLimits(0.6, validation=0.2))
    with pytest.raises(UserError, match=r"holds splits, not shards: give .*/train"):
        load_manifest(out)
    splits = load_holdout(out)
    assert splits is not None
    assert set(splits.splits) == {"train", "validation"}


def test_identities_without_embedding_are_alone(tmp_path):
    """They can be packed and split like others, and are like nobody."""
    tiny = TinyRun(tmp_path)
    for number in range(4):
        tiny.add(f"v{number}", faces=[[1.0, 0.0] if number < 2 else []])
    chosen = choose(tiny.save(), RULES, PersonLimits(0.5), quiet)
    (person,) = chosen.report.splitlines()
    assert [one["key"] for one in json.loads(person)["identities"]] == ["v0", "v1"]


def test_embeddings_of_two_recognisers_are_refused(tmp_path):
    """They have no common space."""
    tiny = TinyRun(tmp_path)
    tiny.add("a", faces=[[1.0, 0.0]])
    tiny.add("b", faces=[[1.0, 0.0, 0.0]])
    with pytest.raises(UserError, match="embeddings of 2 sizes"):
        choose(tiny.save(), RULES, PersonLimits(0.5), quiet)


@pytest.mark.parametrize(
    "settings",
    [{"same_person": 1.0}, {"validation": 0.0}, {"validation": 1.5}, {"max_per_identity": 0}],
)
def test_impossible_settings_are_refused(settings):
    """By the option's name."""
    with pytest.raises(ValueError, match="--"):
        PersonLimits(**{"same_person": 0.5, **settings})


@pytest.mark.slow
def test_splits_on_an_object_store(tmp_path, s3_bucket):
    """Packed into a bucket they verify, and are the bytes of a pack on a disk."""
    tiny = TinyRun(tmp_path)
    for number in range(6):
        tiny.add(f"v{number}", faces=[np.eye(8)[number].tolist()])
    run, by = tiny.save(), PersonLimits(0.6, validation=0.4)
    chosen = choose(run, RULES, by, quiet)
    bucket = Folder(f"{s3_bucket}/splits-test/out")
    for out in (bucket, bucket, run.folder("out")):
        pack_chosen(run, out, RULES, ShardLimits(samples=2), chosen, quiet)
        assert list(verify(out, quiet)) == []
    assert bucket.names("*/*") == run.folder("out").names("*/*")
    assert bucket.read("manifest.json") == run.read("out/manifest.json")
