"""Laws of the file that names weights, and of scoring with and without them."""

import json

import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.models import digest
from harmoview.bench.opens2v.scorers import published
from harmoview.bench.opens2v.weights import PARTS, read_weights
from harmoview.bench.run import open_bench
from harmoview.bench.score import outdated, score
from harmoview.bench.store import read_scores
from lora_engine.subjects.clip import encode
from tests.harmoview.bench.opens2v import tiny
from tests.harmoview.bench.opens2v.test_natural import server
from tests.harmoview.bench.suites import four_cases, write_suite


def write(tmp_path, text):
    path = tmp_path / "weights.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "weights.toml"),
        ("[opens2v_smoth]", "did you mean opens2v_smooth"),
        ("opens2v_aes = 1", "must be a table"),
        ("[opens2v_gme]", "must name gme"),
        ("[opens2v_gme]\ngem = 'here'", "did you mean gme"),
        ("[opens2v_gme]\ngme = 'here'", "path ="),
        ("[opens2v_gme]\ngme = { path = 'nowhere', sha256 = 'x' }", "there is no"),
        ("[opens2v_gme]\ngme = { path = 'weights.toml', sha256 = 'x' }", "has sha256"),
        ("[opens2v_natural]\nurl = 'http://x'", "lacks model"),
        ("[opens2v_natural]\nurl = 'http://x'\nmodel = 'm'\ntemperature = 0", "temperature"),
        ("[opens2v_natural]\nurl = 'http://x'\nmodle = 'm'", "did you mean model"),
        ("[opens2v_natural]\nurl = 'http://x'\nmodel = 'm'\nkey_file = 'nowhere'", "key_file"),
        ("[opens2v_natural]\nurl = 'http://x'\nmodel = 'm'\nworkers = 0", "workers"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(tmp_path, text, says):
    """The table, the part, and what to do."""
    with pytest.raises(UserError, match=says):
        read_weights(write(tmp_path, text))


def test_no_file_is_no_weights_and_every_metric_says_what_it_lacks():
    """Each of the six names its own table."""
    assert read_weights(None) == ({}, None)
    scorers = published(None, "cpu")
    assert {scorer.name for scorer in scorers} == {*PARTS, "opens2v_natural"}
    assert all(f"[{scorer.name}]" in scorer.missing() for scorer in scorers)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one method with two small videos."""
    folder = tmp_path_factory.mktemp("bench")
    write_suite(folder / "suite", four_cases())
    run = open_bench(str(folder / "run"), str(folder / "suite"))
    rng = np.random.default_rng(0)
    for name in ("solo-1", "pair-1"):
        images = (rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(5))
        run.folder.put(f"videos/mine/{name}.s0.mp4", encode(images, (96, 64), 16))
    return run


def test_without_weights_rows_say_so_and_later_weights_fill_them(run, tmp_path):
    """missing_weights first; with weights given the same videos are measured, once."""
    scorers = published(None, "cpu")
    assert list(outdated(run, scorers)) == []
    rows = read_scores(run.folder)
    assert {row["status"] for row in rows} == {"missing_weights"}
    assert {row["metric"] for row in rows} == {*PARTS, "opens2v_natural", "nexus_mean"}
    clip = tiny.save_clip(tmp_path / "clip")
    tiny.save_head(tmp_path / "head.pth")
    with server("4", "5", "no") as (url, _):
        path = write(
            tmp_path,
            f"[opens2v_aes]\nclip = {{ path = 'clip', sha256 = '{digest(clip)}' }}\n"
            f"head = {{ path = 'head.pth', sha256 = '{digest(tmp_path / 'head.pth')}' }}\n"
            f"[opens2v_natural]\nurl = '{url}'\nmodel = 'm'\nworkers = 1\n",
        )
        scorers = published(path, "cpu")
        tasks = list(outdated(run, scorers))
        assert len(tasks) == 4
        score(run, tasks, workers=1)
    assert list(outdated(run, published(path, "cpu"))) == []
    rows = {(row["metric"], row["case"]): row for row in read_scores(run.folder)}
    assert rows["opens2v_aes", "solo-1"]["status"] == "ok"
    assert rows["opens2v_aes", "solo-1"]["n_used"] == 32
    natural = [rows["opens2v_natural", case] for case in ("solo-1", "pair-1")]
    assert {row["value"] for row in natural} == {4.5, None}
    assert all("replies unusable: no" in row["reason"] for row in natural)
    kept = json.loads(run.folder.read("replies/mine.pair-1.s0.json"))
    assert [len(kept["replies"]), kept["model"]] == [3, "m"]
    assert list(outdated(run, published(None, "cpu"))) == []
    again = {(row["metric"], row["case"]): row for row in read_scores(run.folder)}
    assert again["opens2v_aes", "solo-1"]["status"] == "ok"


@pytest.mark.slow
def test_nexus_without_boxes_of_a_video_is_a_row_with_the_reason(run, tmp_path):
    """The others get both numbers."""
    gme = tiny.save_gme(tmp_path / "gme")
    frames = [[[10, 10, 60, 60, 0.9, 0]]] * 32
    (tmp_path / "boxes.json").write_text(json.dumps({"solo-1.s0": frames}))
    path = write(
        tmp_path,
        f"[opens2v_nexus]\ngme = {{ path = 'gme', sha256 = '{digest(gme)}' }}\n"
        f"boxes = {{ path = 'boxes.json', sha256 = '{digest(tmp_path / 'boxes.json')}' }}\n"
        f"[opens2v_gme]\ngme = {{ path = 'gme', sha256 = '{digest(gme)}' }}\n",
    )
    scorers = [s for s in published(path, "cpu") if s.name in ("opens2v_nexus", "opens2v_gme")]
    score(run, list(outdated(run, scorers)), workers=1)
    rows = {(row["metric"], row["case"]): row for row in read_scores(run.folder)}
    assert rows["opens2v_nexus", "pair-1"]["status"] == "failed"
    assert "boxes name no mine/pair-1.s0" in rows["nexus_mean", "pair-1"]["reason"]
    official, mean = (rows[name, "solo-1"] for name in ("opens2v_nexus", "nexus_mean"))
    assert official["status"] == mean["status"] == "ok"
    if mean["value"] is not None:
        assert official["value"] == pytest.approx(mean["value"] / 32)
    assert -1 <= rows["opens2v_gme", "solo-1"]["value"] <= 1
