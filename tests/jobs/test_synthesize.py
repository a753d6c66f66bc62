"""The main job on real parts: every kind of input in, byte-identical shards out, on Ray or not."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datapipe.claim import locked
from datapipe.files import Folder
from jobs import pack, score, synthesize, verify
from tests.datapipe.media import numbered, write_sound, write_video
from tests.jobs.people import person

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two good clips among everything that can be wrong with a corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    good = write_video(folder / "good.mp4", person("P005", 448, 12))
    (folder / "good.txt").write_bytes("a man smiles \xe9".encode("latin-1"))
    (folder / "sub dir").mkdir()
    write_video(folder / "sub dir" / "été.v2.mov", person("P007", 448, 12))
    write_video(folder / "good.mkv", numbered(20))
    write_video(folder / "small.mp4", person("P005", 112, 12))
    write_video(folder / "single.mp4", numbered(1))
    write_sound(folder / "sound.mp4")
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:3000])
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    with tarfile.open(folder / "hostile.tar", "w") as tar:
        for name in ("../../escaped.mp4", "/abs.mp4", "a b.c.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"nope"))
    whole = (folder / "hostile.tar").read_bytes()
    (folder / "torn.tar").write_bytes(whole[:700])
    return folder


def run(corpus, out, *options):
    return synthesize.main([str(corpus), "--out", str(out), "--quiet", *options])


@pytest.fixture(scope="module")
def local(corpus, tmp_path_factory):
    """The corpus through the line in one process."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert run(corpus, out, "--local") == 0
    return out


def rows(folder, table):
    """A table by key, without the times."""
    found = pq.read_table(folder / table).to_pylist()
    plain = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in found]
    return sorted(plain, key=lambda row: (row["key"], row.get("identity", 0), row.get("yaw", 0)))


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.tar")}


def test_every_video_is_one_row_with_its_reason(local):
    """What is wrong with each is said by a code, and hurts no other."""
    ledger = rows(local, "ledger")
    found = {row["source"].rsplit("/", 1)[-1]: (row["outcome"], row["reason"]) for row in ledger}
    assert found["good.mp4"] == found["été.v2.mov"] == ("candidate", None)
    reasons = {name: reason for name, (outcome, reason) in found.items() if outcome == "rejected"}
    assert reasons["good.mkv"] == "no_face"
    assert reasons["small.mp4"] == "too_small"
    assert reasons["single.mp4"] == "too_short"
    assert reasons["sound.mp4"] == "no_video"
    for name in ("zero.mp4", "text.mp4", "cut.mp4", "gone.mp4", "hostile.tar", "torn.tar"):
        assert reasons[name] == "unreadable"
    assert len(ledger) == 15  # of the torn tar a member and the torn end
    keys = [row["key"] for row in ledger]
    assert len(set(keys)) == len(keys)
    assert not any(set("./\\ ") & set(key) for key in keys)


def test_nothing_is_written_outside_the_run(corpus, local):
    """Names in tars are never used as paths."""
    for folder in (corpus, local, local / "shards"):
        for place in (folder, folder.parent, folder.parent.parent):
            assert not (place / "escaped.mp4").exists()
    assert not Path("/abs.mp4").exists()
    assert not [path for path in local.rglob("*") if {"escaped", "abs"} & {path.stem}]


def test_a_caption_that_cannot_be_read_is_empty_and_says_why(local):
    """Nothing unreadable reaches a shard; the video is worth having without it."""
    (row,) = (row for row in rows(local, "ledger") if row["key"] == "good")
    assert (row["caption"], row["outcome"]) == ("", "candidate")
    assert "good.txt is not UTF-8 (byte 0xe9 at 13)" in row["detail"]


@pytest.mark.ray
def test_ray_gives_the_same_ledger_and_the_same_shards(corpus, local, tmp_path):
    """Candidates, tables and shards, byte for byte."""
    assert run(corpus, tmp_path / "run") == 0
    for table in ("ledger", "views", "references"):
        assert rows(tmp_path / "run", table) == rows(local, table)
    assert files(tmp_path / "run") == files(local)
    assert (tmp_path / "run/shards/manifest.json").read_bytes() == (
        local / "shards/manifest.json"
    ).read_bytes()


def test_an_object_store_gives_what_a_disk_gives(corpus, local, s3_bucket, tmp_path):
    """Corpus and run folder on S3: the same candidates, views and clips in the shards."""
    import s3fs

    store = s3fs.S3FileSystem()
    for name in ("good.mp4", "good.txt", "zero.mp4"):
        store.put_file(str(corpus / name), f"{s3_bucket}/synthesize/videos/{name}")
    assert run(f"{s3_bucket}/synthesize/videos", f"{s3_bucket}/synthesize/run", "--local") == 0
    store.get(f"{s3_bucket}/synthesize/run", str(tmp_path / "run"), recursive=True)
    views = [row for row in rows(local, "views") if row["key"] == "good"]
    assert rows(tmp_path / "run", "views") == views
    outcomes = {row["key"]: row["outcome"] for row in rows(tmp_path / "run", "ledger")}
    assert outcomes == {"good": "candidate", "zero": "rejected"}
    assert verify.main([f"{s3_bucket}/synthesize/run/shards", "--quiet"]) == 0
    with tarfile.open(tmp_path / "run/shards/000000.tar") as tar:
        assert tar.extractfile("good.mp4").read() == (corpus / "good.mp4").read_bytes()


def test_running_again_does_nothing_and_changes_nothing(corpus, local):
    """A finished run is finished."""
    before, ledger = files(local), rows(local, "ledger")
    assert run(corpus, local, "--local") == 0
    assert (files(local), rows(local, "ledger")) == (before, ledger)


def test_a_corpus_that_cannot_be_listed_binds_no_run_folder(tmp_path, capsys):
    """Neither a folder without videos nor a table that breaks off; the next corpus may be right."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.csv").write_text('path,caption\na.mp4,x\nb.mp4,"open\n')
    (tmp_path / "wrong.csv").write_text("name,caption\na.mp4,x\n")
    for corpus, why in (
        ("empty", "no video in it"),
        ("broken.csv", "quote that is not closed"),
        ("wrong.csv", "needs a column 'path'"),
        ("gone", "no such file or folder"),
    ):
        assert run(tmp_path / corpus, tmp_path / "run", "--local") == 1
        assert why in capsys.readouterr().err
    assert not (tmp_path / "run/run.json").exists()


def test_other_settings_are_refused_by_name(corpus, local, capsys):
    """Candidates of two settings are never mixed in one run."""
    assert run(corpus, local, "--local", "--seed", "7") == 1
    assert "seed: made with 0, asked for 7" in capsys.readouterr().err


def test_a_second_run_on_the_same_folder_is_refused(corpus, local, capsys):
    """The message says who holds it."""
    with locked(Folder(local)):
        assert run(corpus, local, "--local") == 1
    assert "is in use by process" in capsys.readouterr().err


def test_a_limit_is_a_first_part_that_later_runs_complete(corpus, local, tmp_path):
    """First some videos, then all of them: the same as all at once."""
    assert run(corpus, tmp_path / "run", "--local", "--limit", "3") == 0
    assert len(rows(tmp_path / "run", "ledger")) == 3
    assert run(corpus, tmp_path / "run", "--local") == 0
    assert rows(tmp_path / "run", "views") == rows(local, "views")
    assert files(tmp_path / "run") == files(local)


def test_scoring_again_gives_the_same_scores(local, tmp_path):
    """In a new generation of files, and the old ones go."""
    shutil.copytree(local, tmp_path / "run")
    assert score.main([str(tmp_path / "run"), "--local", "--quiet"]) == 0
    assert rows(tmp_path / "run", "views") == rows(local, "views")
    assert rows(tmp_path / "run", "references") == rows(local, "references")
    assert {p.name[:5] for p in (tmp_path / "run/views").iterdir()} == {"g0001"}
    assert pack.main([str(tmp_path / "run"), "--quiet"]) == 0
    assert files(tmp_path / "run") == files(local)


def test_shards_are_as_their_manifest_says(local):
    """And hold only views that pass."""
    assert verify.main([str(local / "shards"), "--quiet"]) == 0
    manifest = json.loads((local / "shards/manifest.json").read_text())
    assert manifest["totals"]["samples"] >= 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere", "--out", "OUT"], 1, "nowhere: no such file or folder"),
        (["CORPUS", "--out", "FILE/run"], 1, "cannot write to"),
        (["CORPUS", "--out", "INSIDE"], 1, "lies in the corpus"),
        (["CORPUS", "--out", "OUT", "--limit", "0"], 2, "--limit must be at least 1"),
        (["CORPUS"], 2, "--out"),
    ],
)
def test_a_users_mistake_is_one_clear_message(corpus, tmp_path, capsys, arguments, status, said):
    """No traceback; the status says whose fault it is."""
    file, out = tmp_path / "file", tmp_path / "out"
    names = {"CORPUS": str(corpus), "FILE/run": str(file / "run"), "OUT": str(out)}
    names["INSIDE"] = str(corpus / "sub dir" / "run")
    file.touch()
    command = [*(names.get(a, a) for a in arguments), *(["--local"] if status == 1 else [])]
    assert synthesize.main(command) == status
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


@pytest.fixture(scope="module")
def one_clip(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    shutil.copy(corpus / "good.mp4", folder / "good.mp4")
    return folder


def test_attempts_and_the_frontal_reference_survive_a_kill(one_clip, tmp_path):
    """Rejected yaws are made again by the rules given, no other; a rerun after the tables are lost,
    or the candidate too, gives the same; other rules are refused."""
    strict, out = tmp_path / "strict.toml", tmp_path / "run"
    strict.write_text("minimum_views = 1\n[identity.sface]\ncurve = [[0, 0.5], [60, 0.99]]")
    options = ["--local", "--frontal", "reference", "--attempts", "2", "--rules", str(strict)]
    assert run(one_clip, out, *options) == 0
    beside = [row for row in rows(out, "views") if not row["twin"] or row["source"] != "real"]
    views = {row["yaw"]: row for row in beside}
    assert (views[0]["source"], views[0]["seed"]) == ("real", None)
    assert views[0]["identity_cosine"] > 0.9
    assert {row["source"] for yaw, row in views.items() if yaw} == {"synthesised"}
    failing = {yaw for yaw, row in views.items() if abs(yaw) == 60}
    assert {yaw for yaw, row in views.items() if row["attempt"] == 2} <= {*failing, -30, 30}
    before, tables = files(out), [rows(out, name) for name in ("ledger", "views")]
    for name in ("ledger", "views", "references", "shards"):
        shutil.rmtree(out / name)
    assert run(one_clip, out, *options) == 0
    assert (files(out), [rows(out, name) for name in ("ledger", "views")]) == (before, tables)
    shutil.rmtree(out / "candidates")
    shutil.rmtree(out / "ledger")
    shutil.rmtree(out / "shards")
    assert run(one_clip, out, *options) == 0
    assert files(out) == before
    assert run(one_clip, out, *options[:-2]) == 1


def test_without_an_engine_a_sample_has_what_its_video_shows(one_clip, tmp_path):
    """The reference is the frontal view, by rules that ask for no more."""
    rules, out = tmp_path / "one.toml", tmp_path / "run"
    rules.write_text("minimum_views = 1")
    assert run(one_clip, out, "--local", "--engine", "none", "--rules", str(rules)) == 0
    views = rows(out, "views")
    assert {row["source"] for row in views} == {"real"}
    with tarfile.open(out / "shards" / "000000.tar") as tar:
        names = {name.split(".", 1)[1] for name in tar.getnames()}
    shown = {f"id0.yaw{row['yaw']:+03d}.jpg" for row in views}
    assert names - shown == {"mp4", "txt", "json", "id0.reference.jpg"}
    assert "id0.yaw+00.jpg" in names
