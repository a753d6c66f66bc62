"""A run from Python gives what the commands give."""

import json

import pyarrow.parquet as pq
import pytest

from datapipe.errors import UserError
from harmoview import Rules, Run
from jobs import pack, show, stats
from tests.datapipe.runs import TinyRun, good


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A person with a blurred view, one whose views all fail, a rejected video; packed."""
    root = tmp_path_factory.mktemp("python")
    tiny = TinyRun(root)
    bad = {yaw: good(yaw, detected=False) for yaw in RULES.yaws}
    tiny.add("a", [{-90: good(-90, sharpness=0.0)}, bad])
    tiny.add("b")
    tiny.reject("noface")
    tiny.save()
    assert pack.main([str(root / "run"), "--quiet"]) == 0
    return root / "run"


RULES = Rules.load()


def printed(capsys, main, *words):
    assert main(list(map(str, words))) == 0
    return json.loads(capsys.readouterr().out)


def test_statistics_and_stories_are_those_of_the_commands(folder, capsys):
    """As their --json prints them; paths are strings or paths."""
    run = Run(folder)
    assert json.loads(json.dumps(run.stats().as_dict())) == printed(
        capsys, stats.main, folder, "--json"
    )
    story = Run(str(folder)).show("a")
    assert json.loads(json.dumps(story.as_dict())) == printed(
        capsys, show.main, folder, "a", "--json"
    )
    assert story.picture().startswith(b"\xff\xd8")


def test_views_carry_their_verdicts(folder):
    """Each view once, in order; it is kept where it passes and its identity is not left out."""
    rows = Run(folder).views().to_pylist()
    assert [(row["key"], row["identity"], row["yaw"]) for row in rows] == [
        (key, identity, yaw) for key, identity in (("a", 0), ("a", 1), ("b", 0))
        for yaw in RULES.yaws
    ]  # fmt: skip
    assert rows[0]["reason"] == "blurred"
    assert {row["identity_reason"] for row in rows if row["identity"]} == {"too_few_views"}
    for row in rows:
        assert row["kept"] == (row["reason"] is None and row["identity_reason"] is None)


def test_exported_views_are_those_of_python(folder, tmp_path, capsys):
    """`stats --export`, also beside --json, which stays one document."""
    file = tmp_path / "views.parquet"
    found = printed(capsys, stats.main, folder, "--json", "--export", file)
    table = pq.read_table(file)
    assert table.equals(Run(folder).views())
    assert sum(table["kept"].to_pylist()) == found["funnel"]["views_kept"]
    assert stats.main([str(folder), "--quiet", "--export", str(file / "x.parquet")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_windows_carry_what_the_rules_say(folder, tmp_path):
    """Of every identity; rules that ask for more reject them by name."""
    (tmp_path / "long.toml").write_text("[windows]\nseconds = 10000\n")
    assert Run(folder).windows()["reason"].to_pylist() == [None] * 3
    assert set(Run(folder).windows(tmp_path / "long.toml")["reason"].to_pylist()) == {"short"}


def test_rules_pack_from_python(folder, tmp_path):
    """A file, its path as a string, and loaded rules give the same shards."""
    (tmp_path / "all.toml").write_text("minimum_views = 7\n")
    given = (tmp_path / "all.toml", str(tmp_path / "all.toml"), Rules.load(tmp_path / "all.toml"))
    packs = [Run(folder).pack(rules, tmp_path / str(n)) for n, rules in enumerate(given)]
    assert {made.totals.samples for made in packs} == {1}
    assert len({shard.sha256 for made in packs for shard in made.shards}) == 1
    assert Run(folder).pack(out=tmp_path / "default", shard_samples=1).totals.samples == 2


def test_rules_for_another_run_are_refused(folder):
    """Other scorers have other scales: the thresholds would mean nothing."""
    with pytest.raises(UserError, match="w600k_r50"):
        Run(folder).stats(Rules.load(recogniser="w600k_r50"))
    with pytest.raises(UserError, match="yaws"):
        Run(folder).pack(Rules.load(yaws=(-30, 0, 30)))


def test_no_run_is_told_at_once(tmp_path):
    """Before anything is asked of it."""
    with pytest.raises(UserError, match="not a run folder"):
        Run(tmp_path)
