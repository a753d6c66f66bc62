"""`harmoview stats` as a user meets it."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from datapipe.corpus.names import PassedOver
from datapipe.record import Sample, Source
from datapipe.run.info import Survey
from jobs import pack, stats
from tests.datapipe.runs import TinyRun, good


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{-90: good(-90, sharpness=100.0)}])
    tiny.add("b", [{30: good(30, measured_yaw=55.0)}], caption="", caption_problem="no text")
    tiny.reject("noface")
    Survey(3, PassedOver({".gif": 2})).save(tiny.save())
    return tmp_path / "run"


def shown(capsys, *arguments):
    assert stats.main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def test_the_tables_are_plain_text_in_a_pipe(run, capsys):
    """No escape sequences, nothing cut off, the numbers where one looks for them."""
    out = shown(capsys, run)
    assert "\x1b" not in out
    assert "…" not in out
    (row,) = [line for line in out.splitlines() if line.strip().startswith("+30°")]
    assert row.split() == ["+30°", "2", "2", "1", "50%", "1", "1", "pose"]
    (row,) = [line for line in out.splitlines() if "no_face" in line]
    assert row.split() == ["rejected", "no_face", "1", "noface"]


def test_captions_and_what_is_passed_over_are_counted(tmp_path, capsys):
    """With one, without, unreadable, several, the same as another's; and files by suffix."""
    tiny = TinyRun(tmp_path)
    tiny.add("a", caption="same")
    tiny.add("b", caption="same", captions=("same", "other"))
    tiny.add("c", caption="")
    tiny.add("d", caption="", caption_problem="d.txt is not UTF-8 \x1b[31m")
    tiny.add("e", caption="same")
    tiny.reject("noface")
    Survey(6, PassedOver({".gif": 2, "hidden": 1})).save(tiny.save())
    found = json.loads(shown(capsys, tmp_path / "run", "--json"))
    assert found["captions"] == {
        **{"present": 3, "empty": 2, "undecodable": 1, "several": 1, "duplicates": 2},
        "examples": ["d"],
    }
    assert found["passed_over"] == {".gif": 2, "hidden": 1}
    out = shown(capsys, tmp_path / "run")
    assert "2 .gif, 1 hidden" in out
    (row,) = [line for line in out.splitlines() if line.strip().startswith("undecodable")]
    assert row.split() == ["undecodable", "1", "d"]
    assert "\x1b" not in out


def test_json_is_one_document(run, capsys):
    """For programs: stdout parses, and has a format number."""
    found = json.loads(shown(capsys, run, "--json"))
    assert found["format"] == 1
    assert found["funnel"]["views_made"] == 14
    assert [yaw["yield"] for yaw in found["yaws"]] == [1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0]


SCHEMA = {
    "format": 1,
    "funnel": {
        name: 0
        for name in (
            *("videos", "prepared", "candidates", "identities", "views_made", "views_detected"),
            *("views_passed", "views_kept", "identities_kept", "samples_kept", "samples_packed"),
        )
    },
    "yaws": [
        {
            **{name: 0 for name in ("yaw", "made", "detected", "passed", "kept")},
            **{"reasons": {}, "yield": 0.0},
        }
    ],
    "reasons": [{"of": "", "reason": "", "count": 0, "examples": [""]}],
    "outcomes": [{"outcome": "", "reason": None, "videos": 0, "examples": [""]}],
    "seconds": [
        {
            **{"stage": "", "videos": 0},
            **{name: 0.0 for name in ("total", "mean", "median", "p95", "gpus", "gpu_seconds")},
            **{"per_sample": 0.0, "gpu_seconds_per_sample": 0.0},
        }
    ],
    "accepted": {"views": 0, "seconds": 0.0, "unit": "", "per_second": 0.0},
    "throughput": {
        **{"drivers": 0, "first": "", "last": "", "seconds": 0.0},
        **{"videos_per_hour": 0.0, "samples_per_hour": 0.0},
    },
    "sources": {
        "count": 0,
        **{
            name: [
                {
                    **{"source": "", "videos": 0, "candidates": 0, "rejected": 0, "errors": 0},
                    **{"seconds": 0.0, "mean": 0.0},
                }
            ]
            for name in ("slowest", "failing")
        },
    },
    "captions": {
        **{name: 0 for name in ("present", "empty", "undecodable", "several", "duplicates")},
        "examples": [""],
    },
    "windows": {
        "windows": 0,
        "passed": 0,
        "seconds": 0.0,
        "identities": 0,
        "without": 0,
        "together": 0,
        "reasons": {},
        "lengths": {},
        "spans": {},
    },
    "real_views": None,
    "passed_over": {},
    "packed": {},
    "packed_with_these_rules": True,
    "rules": {},
}


MEAN = {"count": 0, "mean": 0.0, "low": 0.0, "high": 0.0}
REAL = {
    "mode": "",
    "coverage": [
        {
            **{"yaw": 0, "identities": 0, "real": 0},
            **{"low": 0.0, "high": 0.0, "kept": 0, "share": 0.0},
        }
    ],
    "engine": [{"yaw": 0, "pairs": 0, "cosine": MEAN, "turn": MEAN, "sharpness": MEAN}],
    "synthesised": 0,
    "spared": 0.0,
}
"""`real_views` where some were looked for."""


def alike(found, wanted):
    """The same keys in the same order, and values of the same JSON types; {} is any object."""
    if isinstance(wanted, dict) and wanted:
        return list(found) == list(wanted) and all(alike(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return bool(found) and alike(found[0], wanted[0])
    return type(found) is type(wanted)


def names(part):
    """Every key in a document."""
    if isinstance(part, list):
        return [name for one in part for name in names(one)]
    return [*part, *(n for v in part.values() for n in names(v))] if isinstance(part, dict) else []


def test_the_json_has_the_documented_shape(run, capsys):
    """Programs rely on the keys and types; docs/stats.md names every key."""
    assert pack.main([str(run), "--quiet"]) == 0
    found = json.loads(shown(capsys, run, "--json"))
    for name in SCHEMA:
        assert alike(found[name], SCHEMA[name]), (name, found[name])
    assert list(found) == list(SCHEMA)
    text = (Path(__file__).parents[2] / "docs/stats.md").read_text()
    assert [name for name in names([SCHEMA, REAL]) if f"`{name}`" not in text] == []


def test_real_views_have_the_documented_shape(tmp_path, capsys):
    """Null where none were looked for."""
    tiny = TinyRun(tmp_path, real_views="keep")
    for key in "ab":
        tiny.add(key, real={30: good(30)})
    tiny.save()
    found = json.loads(shown(capsys, tmp_path / "run", "--json"))["real_views"]
    assert alike(found, REAL), found
    assert (found["synthesised"], found["spared"]) == (14, 2 / 14)


HOSTILE = "\x1b[31m\x9b2J[bold]x[/bold]\u202e\r\x7f"


def test_nothing_from_the_corpus_steers_the_terminal(tmp_path, capsys):
    """Keys, reasons and paths with escape sequences and markup are shown, not obeyed."""
    tiny = TinyRun(tmp_path)
    tiny.add("a")
    tiny.reject(f"key{HOSTILE}", reason=f"reason{HOSTILE}")
    inside = Source(f"/tar{HOSTILE}.tar", ".mp4", member="x.mp4")
    tiny.samples.append(Sample("b", inside).stop("error", "exception", "").spent("prepare", 1.0))
    tiny.save()
    run = tmp_path / "run"
    tables, document = shown(capsys, run), shown(capsys, run, "--json")
    for text in (tables, document):
        assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")]
    assert tables.count("\\x1b[31m\\x9b2J[bold]x[/bold]\\u202e\\r\\x7f") >= 3
    assert json.loads(document)["outcomes"][-1]["examples"] == [f"key{HOSTILE}"]


def test_nor_does_it_through_an_error_message(tmp_path, capsys):
    """A key that is named in a complaint is written out, too."""
    tiny = TinyRun(tmp_path)
    for _ in range(2):
        tiny.samples.append(Sample("k\x1b[2J", Source("/k.mp4", ".mp4"), candidate="c"))
    tiny.save()
    assert stats.main([str(tmp_path / "run")]) == 1
    errors = capsys.readouterr().err
    assert "\x1b" not in errors
    assert "the ledger holds k\\x1b[2J twice" in errors


def test_a_run_that_has_only_begun_is_no_error(tmp_path, capsys):
    """Before the first segment there is nothing to count, and that is said."""
    TinyRun(tmp_path)
    assert shown(capsys, tmp_path / "run") == "The run has recorded no video yet.\n"
    found = json.loads(shown(capsys, tmp_path / "run", "--json"))
    assert found["funnel"]["videos"] == 0
    assert (found["yaws"], found["throughput"]) == ([], None)


def test_a_run_on_an_object_store_counts_like_one_on_disk(run, tmp_path, s3_bucket, capsys):
    """The same files give the same document."""
    import s3fs

    s3fs.S3FileSystem().put(str(run), f"{s3_bucket}/stats/", recursive=True)
    there = json.loads(shown(capsys, f"{s3_bucket}/stats/run", "--json"))
    assert there == json.loads(shown(capsys, run, "--json"))


def test_a_rules_file_changes_the_counts_and_nothing_else(run, tmp_path, capsys):
    """Other thresholds are tried on the spot; the run stays as it is."""
    rules = tmp_path / "strict.toml"
    rules.write_text("[sharpness]\nminimum = 500.0\n")
    before = sorted(path for path in run.rglob("*"))
    found = json.loads(shown(capsys, run, "--json", "--rules", rules))
    assert found["yaws"][0]["passed"] == 1
    assert sorted(path for path in run.rglob("*")) == before


def test_the_rules_of_the_last_pack_are_the_default(run, tmp_path, capsys):
    """What was packed is what is counted, unless other rules are asked for."""
    rules = tmp_path / "strict.toml"
    rules.write_text("[sharpness]\nminimum = 500.0\n")
    assert pack.main([str(run), "--quiet", "--rules", str(rules)]) == 0
    found = json.loads(shown(capsys, run, "--json"))
    assert found["yaws"][0]["passed"] == 1
    assert found["packed_with_these_rules"] is True


def test_a_contact_sheet_on_request(run, tmp_path, capsys):
    """A picture appears where it was asked for."""
    path = tmp_path / "sheet.jpg"
    assert str(path) in shown(capsys, run, "--sheet", path)
    assert Image.open(path).format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["{tmp}"], 1, "is not a run folder"),
        (["{run}", "--sheet", "{tmp}/clips/a.mp4/x.jpg"], 1, "cannot write"),
        (["{run}", "--sheet-samples", "0"], 2, "--sheet-samples must be at least 1"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, capsys, arguments, status, says):
    """No traceback for a user's mistake."""
    words = [word.format(run=run, tmp=tmp_path) for word in arguments]
    assert stats.main(words) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_counting_loads_no_model_library(run):
    """A whole `harmoview stats` runs without torch, ray and cv2."""
    code = (
        f"import sys\nfrom jobs import stats\nassert stats.main([{str(run)!r}]) == 0\n"
        "assert not {'torch', 'ray', 'cv2', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
