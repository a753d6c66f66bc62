"""`harmoview plan` as a user meets it, and against the full run that goes on with its pilot."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from jobs import plan, synthesize
from tests.datapipe.media import numbered, write_video
from tests.jobs.people import person


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twelve videos: four of people, and what is wrong with a corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    for at, name in enumerate(("P005", "P007", "P005", "P007")):
        write_video(folder / f"person{at}.mp4", person(name, 448, 8))
    for at in range(4):
        write_video(folder / f"nobody{at}.mp4", numbered(12 + at))
        (folder / f"text{at}.mp4").write_text("this is no video\n" * 100)
    return folder


PRICES = ("--cpus", "8", "--cpu-hour", "0.04", "--gb-month", "0.02")


@pytest.fixture(scope="module")
def pilot(corpus, tmp_path_factory):
    """The pilot of six, in one process."""
    run = tmp_path_factory.mktemp("pilot") / "run"
    assert plan.main([str(corpus), "--out", str(run), *PRICES, "--samples", "6", "--local"]) == 0
    return run


def planned(capsys, corpus, run, *options):
    assert plan.main([str(corpus), "--out", str(run), "--json", "--quiet", *options]) == 0
    return json.loads(capsys.readouterr().out)


def tree(run):
    """What counts of a run: every tar and manifest, byte for byte."""
    names = [*run.rglob("*.tar"), *run.rglob("manifest.json")]
    return {path.relative_to(run): path.read_bytes() for path in names}


def inside(estimate, truth):
    return estimate["low"] <= truth <= estimate["high"]


@pytest.mark.slow
@pytest.mark.weights
def test_the_full_run_lies_in_the_intervals_and_continues_the_pilot(
    corpus, pilot, tmp_path, capsys
):
    """`synthesize` on the pilot does the rest alone, and ends as a fresh run does."""
    found = planned(capsys, corpus, pilot, "--samples", "6", *PRICES)
    assert (found["videos"], found["sample"]) == (12, 6)
    continued = tmp_path / "continued"
    shutil.copytree(pilot, continued)
    recorded = {path.name for path in (continued / "ledger").iterdir()}
    stored = {path: path.stat().st_mtime_ns for path in continued.glob("candidates/*/*.tar")}
    assert synthesize.main([str(corpus), "--out", str(continued), "--local", "--quiet"]) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in stored.items())
    rest = [p for p in (continued / "ledger").iterdir() if p.name not in recorded]
    assert sum(pq.read_metadata(path).num_rows for path in rest) == 6

    assert (
        synthesize.main([str(corpus), "--out", str(tmp_path / "fresh"), "--local", "--quiet"]) == 0
    )
    assert tree(continued) == tree(tmp_path / "fresh")

    manifest = json.loads((continued / "shards/manifest.json").read_text())
    totals = manifest["totals"]
    assert totals["samples"] > 0
    assert inside(found["candidates"], totals["candidates"])
    assert inside(found["packed"], totals["samples"])
    assert inside(found["packed_identities"], totals["identities"])
    assert inside(found["shards"], len(manifest["shards"]))
    for yaw in found["yaws"]:
        assert inside(yaw["packed"], totals["views"].get(str(yaw["yaw"]), 0))
    outcomes = pq.read_table(continued / "ledger")["reason"].to_pylist()
    for stopped in found["outcomes"]:
        assert inside(stopped["videos"], outcomes.count(stopped["reason"]))

    exact = planned(capsys, corpus, continued, "--samples", "12")
    assert exact["packed"] == dict.fromkeys(("value", "low", "high"), totals["samples"])
    sizes = [shard["bytes"] for shard in manifest["shards"]]
    padding = 10_240  # of a tar's end, for each shard
    assert sum(sizes) - len(sizes) * padding <= exact["shard_bytes"]["value"] <= sum(sizes)
    again = planned(capsys, corpus, continued, "--samples", "6", *PRICES)
    assert again == found  # the rest of the run is not looked at


@pytest.mark.slow
@pytest.mark.weights
def test_a_finished_pilot_is_planned_again_without_any_work(corpus, pilot, capsys, monkeypatch):
    """Other rules and prices; neither is the corpus listed nor a stage set up."""
    before = {path: path.stat().st_mtime_ns for path in pilot.rglob("*") if path.is_file()}

    def never(*_):
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr(plan, "start", never)
    monkeypatch.setattr(plan, "draw", never)
    rules = pilot.parent / "all.toml"
    rules.write_text("minimum_views = 7\n")
    found = planned(capsys, corpus, pilot, "--samples", "6", "--rules", str(rules))
    assert found["wall_hours"] is None
    assert found["money"] == {}
    del before[pilot / ".lock"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
@pytest.mark.weights
def test_the_tables_are_plain_text_in_a_pipe(corpus, pilot, capsys):
    """No escape sequences, nothing cut off, and the columns that were asked for."""
    assert plan.main([str(corpus), "--out", str(pilot), "--samples", "6", *PRICES]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "…" not in out
    assert "Pilot of 6 videos, drawn from 12" in out
    assert "cost of 8 CPUs" in out
    assert plan.main([str(corpus), "--out", str(pilot), "--samples", "6"]) == 0
    assert "cost" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", "0"), "--samples must be at least 1"),
        (("--gpus", "4"), "--gpus needs --cpus too"),
        (("--cpus", "0"), "--cpus must be above 0"),
        (("--gpu-hour", "-1"), "--gpu-hour must be at least 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, capsys, options, message):
    """Exit status 2, by the option's name."""
    assert plan.main([str(tmp_path), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.weights
def test_a_corpus_that_is_none_is_named(tmp_path, capsys):
    """And an --out within the corpus is refused, as by synthesize."""
    corpus = tmp_path / "empty"
    corpus.mkdir()
    assert plan.main([str(corpus), "--out", str(tmp_path / "run"), "--quiet"]) == 1
    assert "no video in it" in capsys.readouterr().err
    assert plan.main([str(corpus), "--out", str(corpus / "run"), "--quiet"]) == 1
    assert "lies in the corpus" in capsys.readouterr().err
