"""`harmoview pack` and `harmoview verify` as a user meets them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from datapipe.files import Folder
from dataset.pack.manifest import load_manifest
from jobs import pack, stats, verify
from tests.datapipe.runs import TinyRun, good


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a")
    tiny.add("b", [{-90: good(-90, sharpness=100.0)}])
    tiny.add("c")
    tiny.save()
    return tmp_path / "run"


def test_pack_then_verify(run, capsys):
    """Shards in RUN/shards, a line that says so, and they verify."""
    assert pack.main([str(run)]) == 0
    assert "packed 3 of 3 candidates" in capsys.readouterr().out
    assert verify.main([str(run / "shards")]) == 0
    assert "is as its manifest says" in capsys.readouterr().out


def test_rules_out_and_limits_are_followed(run, tmp_path):
    """A stricter file drops a view; the shards go where they are asked to, as small as asked."""
    rules = tmp_path / "strict.toml"
    rules.write_text("[sharpness]\nminimum = 500.0\n")
    out = tmp_path / "elsewhere"
    options = ["--rules", rules, "--out", out, "--shard-samples", 2, "--quiet"]
    assert pack.main([str(word) for word in (run, *options)]) == 0
    manifest = load_manifest(Folder(out))
    assert manifest.rules["sharpness"]["minimum"] == 500.0
    assert manifest.totals.views["-90"] == 2
    assert [shard.samples for shard in manifest.shards] == [2, 1]
    assert not (run / "shards").exists()


def test_splits_and_cap_are_one_command(tmp_path, capsys):
    """Two folders of shards, a card that names both, a sentence on who comes twice; they verify."""
    tiny = TinyRun(tmp_path)
    for number in range(8):
        tiny.add(f"v{number}", faces=[np.eye(4)[number // 2].tolist()])
    tiny.save()
    out = str(tmp_path / "out")
    options = ["--validation", "0.3", "--max-per-identity", "1", "--out", out]
    assert pack.main([str(tmp_path / "run"), *options]) == 0
    said = capsys.readouterr().out
    assert f"packed 3 of 6 candidates into {out}/train" in said
    assert f"packed 1 of 2 candidates into {out}/validation" in said
    assert (
        "of 8 identities, 4 people are in several videos (8 videos; cosine 0.65 by sface)" in said
    )
    assert verify.main([out]) == 0
    assert verify.main([f"{out}/validation"]) == 0


def test_same_person_alone_only_reports(run, capsys):
    """All samples are packed, as without it, and the report lies beside them."""
    assert pack.main([str(run), "--same-person", "0.9"]) == 0
    assert "packed 3 of 3 candidates" in capsys.readouterr().out
    assert (run / "shards" / "identities.jsonl").is_file()


@pytest.mark.parametrize("curve", ["[[0, 0.9]]", "[[0, -1]]"])
def test_a_rules_file_moves_nobody_to_the_other_split(tmp_path, curve):
    """Who is who is a matter of the run: a file's own identity curve is for views, also at -1."""
    tiny = TinyRun(tmp_path)
    for number in range(8):  # by twos at a cosine of 0.72
        faces = np.eye(8)[number // 2 * 2 :][:2]
        tiny.add(f"v{number}", faces=[(faces[0] + 0.4 * (-1) ** number * faces[1]).tolist()])
    tiny.save()
    rules = tmp_path / "rules.toml"
    rules.write_text(f"[identity.sface]\ncurve = {curve}\nverified_to = 90\njudged_to = 90\n")
    report = []
    for options in ([], ["--rules", str(rules)]):
        out = tmp_path / f"out{len(report)}"
        words = [str(tmp_path / "run"), "--validation", "0.3", "--max-per-identity", "2", "--quiet"]
        assert pack.main([*words, "--out", str(out), *options]) == 0
        report.append((out / "identities.jsonl").read_bytes())
    assert report[0] == report[1]
    assert report[0].count(b"validation") == 2


def test_a_recogniser_without_a_threshold_asks_for_one(run, tmp_path, capsys):
    """The package knows none of another recogniser; the message says which option to give."""
    info = run / "run.json"
    info.write_text(info.read_text().replace('"sface"', '"mine"'))
    rules = tmp_path / "rules.toml"
    rules.write_text("[identity.mine]\ncurve = [[0, 0.4]]\nverified_to = 90\njudged_to = 90\n")
    words = [str(run), "--rules", str(rules), "--max-per-identity", "2"]
    assert pack.main(words) == 1
    assert "no threshold for mine: give --same-person" in capsys.readouterr().err
    assert pack.main([str(run), "--rules", str(rules)]) == 0


def test_statistics_know_a_pack_in_splits(tmp_path, capsys):
    """`stats` counts both sides together."""
    tiny = TinyRun(tmp_path)
    for number in range(4):
        tiny.add(f"v{number}", faces=[np.eye(4)[number].tolist()])
    tiny.save()
    run = str(tmp_path / "run")
    assert pack.main([run, "--validation", "0.25", "--quiet"]) == 0
    assert stats.main([run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packed"]["samples"] == 4
    assert found["packed_with_these_rules"]


def test_quiet_says_nothing(run, capfd):
    """Neither on stdout nor on stderr."""
    assert pack.main([str(run), "--quiet"]) == 0
    assert verify.main([str(run / "shards"), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_a_mismatch_is_named_and_the_status_is_1(run, capsys):
    """Every mismatch on stderr, with a count."""
    assert pack.main([str(run), "--quiet"]) == 0
    (run / "shards" / "000000.tar").write_bytes(b"")
    assert verify.main([str(run / "shards"), "--quiet"]) == 1
    errors = capsys.readouterr().err
    assert "000000.tar: is not a whole tar" in errors
    assert "is not what was packed" in errors


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["{run}", "--shard-samples", "0"], 2, "--shard-samples must be at least 1, not 0"),
        (["{run}", "--shard-bytes", "x"], 2, "shard-bytes"),
        ([], 2, "RUN"),
        (["{run}", "--validation", "2"], 2, "--validation must be above 0 and under 1, not 2"),
        (["{run}", "--max-per-identity", "0"], 2, "--max-per-identity must be at least 1"),
        (["{run}", "--same-person", "-1"], 2, "--same-person must be above 0"),
        (["{run}", "--validation", "0.3"], 1, "raise --same-person or --validation"),
        (["{tmp}/nothing"], 1, "is not a run folder"),
        (["{run}", "--rules", "{tmp}/nothing.toml"], 1, "cannot read the rules file"),
        (["{run}", "--out", "{tmp}/clips"], 1, "did not write"),
        (["{run}", "--out", "{run}/run.json"], 1, "cannot write to"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, capsys, arguments, status, says):
    """No traceback for a user's mistake; the message names what is wrong."""
    words = [word.format(run=run, tmp=tmp_path) for word in arguments]
    assert pack.main(words) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_two_packs_at_once_are_refused(run, capsys):
    """The second one on the same folder says who is at work."""
    from datapipe.claim import locked

    with locked(Folder(run / "shards")):
        assert pack.main([str(run), "--quiet"]) == 1
    assert "is in use by process" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pack", "verify", "stats"])
def test_commands_import_no_model_library(command):
    """Importing and running --help loads neither torch nor ray nor cv2, nor the index."""
    code = (
        f"import sys\nfrom jobs import {command}\nassert {command}.main(['--help']) == 0\n"
        "assert not {'torch', 'ray', 'cv2', 'onnxruntime', 'usearch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
