"""Pack is a pure function: same scores, same rules, same bytes; and only what passes."""

import io
import json
import logging
import os
import tarfile
from dataclasses import replace

import pytest
import webdataset as wds

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from datapipe.run.info import Scoring, save_info
from dataset.pack.pack import ShardLimits
from dataset.pack.verify import verify
from tests.datapipe.runs import LABELS, REFERENCE_SCORES, RULES, TinyRun, picture
from tests.dataset.pack.packs import BAD, contents, packed


def members(folder, shard="000000.tar"):
    with tarfile.open(fileobj=io.BytesIO(folder.read(shard))) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def test_a_sample_has_the_members_of_the_contract(tiny):
    """Clip and pictures byte for byte, caption, description; views that pass and no others."""
    run = tiny.save()
    packed(run)
    found = members(run.folder("shards"))
    wanted = ["walk-a.mp4", "walk-a.txt", "walk-a.json"]
    for identity, yaws in ((0, YAWS), (1, [yaw for yaw in YAWS if yaw != 30])):
        wanted.append(f"walk-a.id{identity}.reference.jpg")
        wanted += [f"walk-a.id{identity}.yaw{yaw:+03d}.jpg" for yaw in yaws]
    assert [name for name in found if name.startswith("walk-a.")] == wanted
    assert found["walk-a.mp4"] == b"the clip of walk-a" * 40
    assert found["walk-a.txt"].decode() == "zwei Köpfe"
    assert found["walk-e.txt"] == b""
    assert found["walk-a.id1.yaw-60.jpg"] == picture(-60 + 200 + 1)
    assert not [name for name in found if name.startswith(("walk-c.", "noface.", "broken."))]


def test_the_description_tells_yaws_scores_timestamp_and_provenance(tiny):
    """What a trainer or a curious person wants to know of a sample is in its JSON."""
    run = tiny.save()
    packed(run)
    described = json.loads(members(run.folder("shards"))["walk-b.json"])
    (identity,) = described["identities"]
    assert identity["yaws"] == [-60, -30, 0, 30, 60]
    assert identity["reference"]["timestamp"] == 1.5
    assert identity["views"]["-60"]["scores"]["identity_cosine"] == 0.9
    assert identity["views"]["-60"]["seed"] == 940
    assert described["provenance"] == {"engine": "noise"}
    assert described["scorers"] == LABELS


def test_the_description_keeps_all_captions_and_says_why_there_is_none(tiny):
    """Where a source holds several the text is the first; one caption is not told twice."""
    tiny.add("walk-f", caption="one", captions=("one", "zwei"))
    tiny.add("walk-g", caption="", caption_problem="walk-g.txt is not UTF-8")
    run = tiny.save()
    packed(run)
    found = members(run.folder("shards"))
    described = {name: json.loads(found[f"walk-{name}.json"]) for name in "bfg"}
    assert (found["walk-f.txt"], found["walk-g.txt"]) == (b"one", b"")
    assert described["f"]["captions"] == ["one", "zwei"]
    assert described["g"]["caption_problem"] == "walk-g.txt is not UTF-8"
    assert not {"captions", "caption_problem"} & set(described["b"])
    assert list(verify(run.folder("shards"), lambda *_: None)) == []


def test_an_identity_keeps_its_number(tiny):
    """Where the first person of a clip fails, the second is still id1, as in the run."""
    run = tiny.save()
    packed(run)
    names = [name for name in members(run.folder("shards")) if name.startswith("walk-d.id")]
    assert names
    assert all(name.startswith("walk-d.id1.") for name in names)


def test_the_totals_add_up(tiny):
    """Samples, identities, views per yaw, left out and skipped, as counted by hand."""
    manifest = packed(tiny.save())
    totals = manifest.totals
    assert (totals.candidates, totals.samples, totals.left_out) == (5, 4, 1)
    assert totals.identities == 5
    assert totals.views == {"-90": 4, "-60": 5, "-30": 5, "0": 5, "30": 4, "60": 5, "90": 4}
    assert totals.skipped == {}
    assert manifest.rules == RULES.as_dict()
    assert manifest.run["settings"] == tiny.info.settings_hash


def test_the_stock_webdataset_reads_the_shards(tiny):
    """`wds.WebDataset(url).decode("pil")` gives whole samples in order, pictures decoded."""
    run = tiny.save()
    packed(run, limits=ShardLimits(samples=2))
    url = f"{run.local}/shards/{{000000..000001}}.tar"
    samples = list(wds.WebDataset(url, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == ["walk-a", "walk-b", "walk-d", "walk-e"]
    second = {name for name in samples[1] if not name.startswith("__")}
    views = {f"id0.yaw{yaw:+03d}.jpg" for yaw in (-60, -30, 0, 30, 60)}
    assert second == {"mp4", "txt", "json", "id0.reference.jpg"} | views
    assert samples[1]["id0.yaw+00.jpg"].size == (24, 24)
    assert samples[0]["txt"] == "zwei Köpfe"
    assert samples[1]["json"]["identities"][0]["yaws"] == [-60, -30, 0, 30, 60]


def test_the_bytes_depend_on_nothing_but_the_input(tiny, tmp_path):
    """A second pack, another folder, and a run whose rows came in another order give the same."""
    order = list(tiny.samples)
    run = tiny.save()
    packed(run)
    once = contents(run.folder("shards"))
    packed(run)
    assert contents(run.folder("shards")) == once
    packed(run, Folder(tmp_path / "elsewhere"))
    assert contents(Folder(tmp_path / "elsewhere")) == once
    for table in ("ledger", "views", "references"):
        for name in run.names(f"{table}/*"):
            run.delete(name)
    again = TinyRun(tmp_path)
    again.samples = order[::-1]
    packed(again.save(per_segment=2))
    assert contents(run.folder("shards")) == once


def test_shards_keep_their_limits(tmp_path):
    """Neither limit is passed, but by a sample that alone is larger; every shard is used."""
    tiny = TinyRun(tmp_path)
    for index in range(6):
        tiny.add(f"clip{index}", clip=os.urandom(100_000 if index else 400_000))
    run = tiny.save()
    manifest = packed(run, limits=ShardLimits(samples=2))
    assert [shard.samples for shard in manifest.shards] == [2, 2, 2]
    manifest = packed(run, limits=ShardLimits(bytes=270_000))
    assert [shard.samples for shard in manifest.shards] == [1, 2, 2, 1]
    assert [shard.bytes <= 270_000 for shard in manifest.shards] == [False, True, True, True]
    tight = packed(run, limits=ShardLimits(bytes=manifest.shards[1].bytes))
    assert [shard.samples for shard in tight.shards] == [1, 2, 2, 1]
    tighter = packed(run, limits=ShardLimits(bytes=manifest.shards[1].bytes - 1))
    assert [shard.samples for shard in tighter.shards] == [1] * 6


def test_nothing_is_left_of_an_earlier_pack(tiny):
    """Fewer shards than before: the surplus goes, and verify finds nothing to say."""
    run = tiny.save()
    packed(run, limits=ShardLimits(samples=1))
    packed(run)
    assert run.folder("shards").names("*") == ["000000.tar", "README.md", "manifest.json"]
    assert list(verify(run.folder("shards"), lambda *_: None)) == []


def test_a_folder_of_someone_else_is_not_touched(tiny, tmp_path):
    """Tars that pack did not write are refused, not replaced."""
    run = tiny.save()
    other = Folder(tmp_path / "corpus")
    other.put("000000.tar", b"precious")
    with pytest.raises(UserError, match="did not write"):
        packed(run, other)
    other.put("manifest.json", b'{"kind": "something else"}')
    with pytest.raises(UserError, match="not a manifest of shards"):
        packed(run, other)
    assert other.read("000000.tar") == b"precious"


@pytest.mark.parametrize("what", ["gone", "grown", "shrunk"])
def test_a_clip_that_is_no_longer_there_is_skipped_and_counted(tiny, caplog, what):
    """One vanished or changed clip costs one sample, with a warning that names it."""
    clip = tiny.root / "clips" / "walk-b.mp4"
    run = tiny.save()
    clip.unlink()
    if what != "gone":
        clip.write_bytes(b"x" * (100_000 if what == "grown" else 10))
    with caplog.at_level(logging.WARNING):
        totals = packed(run).totals
    assert totals.skipped == {"clip": 1}
    assert (totals.candidates, totals.samples, totals.left_out) == (5, 3, 1)
    assert "walk-b is skipped" in caplog.text
    assert not any(name.startswith("walk-b.") for name in members(run.folder("shards")))


def test_a_corpus_that_is_not_there_at_all_is_an_error(tiny):
    """Every clip missing means a wrong mount, not an empty data set; no manifest appears."""
    run = tiny.save()
    for clip in (tiny.root / "clips").iterdir():
        clip.unlink()
    with pytest.raises(UserError, match="all 4 samples that pass the rules were skipped"):
        packed(run)
    assert "manifest.json" not in run.folder("shards").names("*")


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_a_lost_candidate_is_an_error_that_names_it(tiny, what):
    """Stored work that is gone is never passed over in silence; --skip-damaged counts it."""
    name = tiny.samples[0].candidate
    run = tiny.save()
    run.delete(name)
    if what == "damaged":
        run.put(name, b"not a tar")
    with pytest.raises(UserError, match=f"walk-b cannot be packed: .*{name}.*--skip-damaged"):
        packed(run)
    assert packed(run, skip_damaged=True).totals.skipped == {"candidate": 1}


def test_views_of_two_sets_of_scorers_are_refused(tiny):
    """Scores on different scales cannot be judged by one set of rules."""
    run = tiny.save()
    tiny.add("walk-f")
    tiny.ledger.append(tiny.samples, {**LABELS, "aesthetic_scorer": "nima"}, 0)
    with pytest.raises(UserError, match=r"different scorers .*brisque.*nima.*harmoview score"):
        packed(run)


def test_missing_and_double_scores_are_refused(tiny):
    """A candidate without its scores, or with two, is named, and so is the way out."""
    run = tiny.save()
    stray = run.read("views/g0000-000000.parquet")
    run.put("views/g0000-000009.parquet", stray)
    with pytest.raises(UserError, match=r"walk-a has a view that is scored twice.*harmoview score"):
        packed(run)
    run.delete("views/g0000-000009.parquet")
    run.delete("views/g0000-000000.parquet")
    with pytest.raises(UserError, match="walk-a has no complete scores"):
        packed(run)


def test_only_the_current_generation_counts(tiny):
    """Scores of another generation lie beside the current ones without harm."""
    run = tiny.save()
    once = packed(run).shards
    for table in ("windows", "views", "references"):
        for name in run.names(f"{table}/*"):
            run.put(name.replace("g0000", "g0001"), run.read(name))
    assert packed(run).shards == once
    save_info(run, replace(tiny.info, scoring=Scoring(generation=1, labels=LABELS)))
    assert packed(run).shards == once


def test_rows_of_a_killed_driver_are_ignored(tiny):
    """Scores whose ledger segment was never written belong to no sample."""
    run = tiny.save()
    once = packed(run).shards
    tiny.add("walk-zz")
    tiny.save()
    run.delete("ledger/000003.parquet")
    assert packed(run).shards == once


def test_an_empty_run_packs_to_an_empty_manifest(tmp_path):
    """No candidate is no error."""
    tiny = TinyRun(tmp_path)
    tiny.reject("noface")
    run = tiny.save()
    assert packed(run).totals.samples == 0
    assert list(verify(run.folder("shards"), lambda *_: None)) == []


def test_batches_do_not_show(tmp_path, monkeypatch):
    """Judging one candidate at a time gives the same shards as judging them together."""
    tiny = TinyRun(tmp_path)
    for index in range(9):
        tiny.add(f"clip{index}", [{}, BAD] if index % 2 else [BAD, {}])
    run = tiny.save(per_segment=4)
    once = packed(run).shards
    monkeypatch.setattr("dataset.pack.pack.BATCH", 1)
    assert packed(run).shards == once


@pytest.mark.slow
def test_run_and_shards_on_an_object_store(tmp_path, s3_bucket):
    """The same run in a bucket, packed into a bucket, gives the same bytes."""
    results = []
    for where in ("run", f"{s3_bucket}/pack-test/run"):
        tiny = TinyRun(tmp_path, where)
        for index in range(4):
            tiny.add(f"clip{index}", [BAD, {}] if index == 2 else [{}])
        run = tiny.save()
        manifest = packed(run, limits=ShardLimits(samples=3))
        assert list(verify(run.folder("shards"), lambda *_: None)) == []
        results.append((manifest.shards, run.folder("shards").read("000001.tar")))
    assert results[0] == results[1]


def test_a_damaged_table_is_named(tiny):
    """A Parquet file that cannot be read ends in one message, not in a traceback."""
    run = tiny.save()
    run.put("views/g0000-000000.parquet", b"PAR1 not really")
    with pytest.raises(UserError, match=r"g0000-000000\.parquet"):
        packed(run)


def test_the_reference_must_pass_too(tmp_path):
    """A reference that is not calm enough leaves its identity out however good its views are."""
    tiny = TinyRun(tmp_path)
    tiny.add("grimace", [{"reference": replace(REFERENCE_SCORES, expression=None)}])
    assert packed(tiny.save()).totals.left_out == 1


def test_limits_must_be_positive():
    """A limit of nothing is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        ShardLimits(samples=0)
