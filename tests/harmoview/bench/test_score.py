"""Laws of scoring a run: broken videos, changed videos, and a process that is killed."""

import json
import random
import re
import time

import pytest

from datapipe.errors import UserError
from harmoview.bench.add import add_videos, import_scores
from harmoview.bench.results import collect
from harmoview.bench.run import VideoKey, open_bench
from harmoview.bench.score import outdated, score
from harmoview.bench.scorers import FaceScorer, MotionScorer
from harmoview.bench.scores import VideoScore
from harmoview.bench.store import Provenance, put_scores, read_scores
from harmoview.bench.table import Resampling, table
from jobs import bench, cli
from tests.harmoview.bench.gsb.studies import METHODS, write_run
from tests.harmoview.bench.suites import four_cases, write_suite
from tests.processes import forked

MOTION, HERE = [MotionScorer()], [MotionScorer(in_process=True)]


def tables(run):
    results = collect(read_scores(run.folder), run.suite.cases, run.suite.sha256)
    rows = table(results, resampling=Resampling(resamples=50))
    return json.dumps([row.as_dict("open_v1_1") for row in rows])


def test_a_broken_video_becomes_rows_with_a_reason(tmp_path):
    """The others are measured, the table counts them only; --retry-failed looks again."""
    run = write_run(tmp_path)
    whole = run.folder.read("videos/ours/solo-1.s0.mp4")
    run.folder.put("videos/ours/solo-1.s0.mp4", b"not a video")
    run.folder.put("videos/ours/solo-2.s0.mp4", whole[: len(whole) // 3])
    for name in run.folder.names("videos/th*/*"):
        run.folder.delete(name)
    ended = []
    score(run, list(outdated(run, MOTION)), 1, lambda task, status: ended.append(status))
    assert sorted(ended) == ["failed", "failed", "ok", "ok"]
    results = collect(read_scores(run.folder), run.suite.cases, run.suite.sha256)
    assert results.sums("ours", "hv_flow").n == 2
    assert results.failed["ours", "solo-1", 0].startswith("unreadable: ")
    assert list(outdated(run, MOTION)) == []
    assert len(list(outdated(run, MOTION, retry_failed=True))) == 2
    run.folder.put("videos/ours/solo-1.s0.mp4", whole)
    (again,) = outdated(run, MOTION)  # the file is another one, so its scores are made anew
    assert again.key == VideoKey("ours", "solo-1", 0)


def test_any_label_fits_into_a_table_of_markdown_and_latex(tmp_path, capsys):
    """Each line has as many cells as its table's first, braces are paired, and no row begins with
    what LaTeX would take for an option of the row's end before it."""
    run = write_run(tmp_path, frames=2)
    score(run, list(outdated(run, HERE)), 1)
    names = {"label": "[our|s] 50% & {x}_\\", "group": "* a|b"}
    table = "\n".join(f"{name} = {json.dumps(text)}" for name, text in names.items())
    run.folder.put("methods.toml", f"[ours]\n{table}".encode())
    columns = {"markdown": r"(?<!\\)\|", "latex": r"(?<!\\)&"}
    for form, split in columns.items():
        assert bench.main(["table", run.folder.url, "--format", form, "--resamples", "20"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any("our" in line for line in lines)
        wide = 0
        for line in lines:
            cells = len(re.findall(split, line))
            if line.startswith(("%", "**", "\\multi")) or not cells:
                wide = 0
                continue
            wide = wide or cells
            assert cells == wide, line
            plain = re.sub(r"\\[{}]", "", line)
            assert form == "markdown" or plain.count("{") == plain.count("}")
            assert not line.startswith(("[", "*"))


def test_no_crosstalk_is_best_however_little_under_zero_it_reads(tmp_path, capsys):
    """A table's bold figures: 0 and what noise brings under it, where another method has some."""
    run = write_run(tmp_path, frames=2)
    for method, value in zip(METHODS, (-0.02, 0.0, 0.3), strict=True):
        key, made_by = VideoKey(method, "pair-1", 0), Provenance("faces", 2, "", "x")
        one = VideoScore("hv_crosstalk", value, identity="anna")
        put_scores(run.folder, run.suite.sha256, key, made_by, [one], 0.0, {})
    options = ["--layout", "own", "--format", "markdown", "--resamples", "20"]
    assert bench.main(["table", run.folder.url, *options]) == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "crosstalk" in one)
    assert ["**" in cell for cell in line.split("|")[2:5]] == [True, True, False]


@pytest.mark.weights
def test_references_that_show_nobody_stop_the_faces_alone(tmp_path):
    """What keeps them from being measured is said at the end, when the motion has been."""
    run = write_run(tmp_path, frames=2)
    with pytest.raises(UserError, match="no face in any picture of anna"):
        score(run, list(outdated(run, [FaceScorer(), *HERE])), 1)
    assert {row["scorer"] for row in read_scores(run.folder)} == {"motion"}
    assert list(outdated(run, HERE)) == []


@pytest.mark.slow
def test_killed_at_random_and_rerun_the_tables_are_the_same(tmp_path):
    """`bench score` is killed three times; what the fourth run prints is what one run prints."""
    whole, killed = (write_run(tmp_path / name) for name in ("whole", "killed"))
    for run in (whole, killed):
        for name in run.folder.names("videos/th*/*"):
            run.folder.delete(name)
    score(whole, list(outdated(whole, MOTION)), 1)
    command = ["score", killed.folder.url, "--metrics", "opens2v_amp", "--workers", "1", "--quiet"]
    draw = random.Random(0)
    for _ in range(3):
        process = forked().Process(target=bench.main, args=(command,))
        process.start()
        begun, before = time.monotonic(), len(killed.folder.names("scores/*"))
        while process.is_alive() and time.monotonic() - begun < 120:
            if len(killed.folder.names("scores/*")) > before:
                time.sleep(draw.uniform(0, 0.05))
                break
            time.sleep(0.01)
        process.kill()
        process.join()
    assert bench.main(command) == 0
    assert tables(killed) == tables(whole)


def test_files_that_belong_to_no_case_are_listed_and_nothing_is_copied(tmp_path):
    """Misnamed files and cases without a video, by name; --partial takes the rest."""
    run = write_run(tmp_path / "run")
    source = tmp_path / "videos"
    source.mkdir()
    video = run.folder.read("videos/ours/solo-1.s0.mp4")
    for name in ("solo-1.mp4", "solo-2.s3.mp4", "A woman turns.mp4", "solo-9.mp4", "pair-1.mov"):
        (source / name).write_bytes(video)
    told = add_videos(run, "new", source, partial=False)
    assert told.added == []
    assert [line.split(":")[0] for line in told.unknown] == [
        "A woman turns.mp4", "pair-1.mov", "solo-9.mp4",
    ]  # fmt: skip
    done = add_videos(run, "new", source, partial=True)
    assert done.added == [VideoKey("new", "solo-1", 0), VideoKey("new", "solo-2", 3)]
    assert done.missing == ["solo-3", "pair-1"]
    assert add_videos(run, "new", source, partial=True).added == []


def test_videos_with_other_names_come_by_a_list(tmp_path):
    """map.csv names file, case and seed; two files for one video are refused."""
    run = write_run(tmp_path / "run")
    source = tmp_path / "videos"
    source.mkdir()
    (source / "out 1.mp4").write_bytes(run.folder.read("videos/ours/solo-1.s0.mp4"))
    (source / "map.csv").write_text("file,case,seed\nout 1.mp4,solo-3,2\nout 1.mp4,solo-3,2\n")
    done = add_videos(run, "new", source, partial=True)
    assert done.added == [VideoKey("new", "solo-3", 2)]
    assert len(done.unknown) == 1


@pytest.mark.parametrize("form", ["file,case,seed\n", "\ufefffile;case;seed\r\n", "file\tcase\n"])
def test_a_list_may_be_as_a_spreadsheet_writes_it(tmp_path, form):
    """With a mark of its encoding, semicolons or tabs; what is no seed or no text is a sentence."""
    run = write_run(tmp_path / "run")
    source = tmp_path / "videos"
    source.mkdir()
    (source / "out 1.mp4").write_bytes(run.folder.read("videos/ours/solo-1.s0.mp4"))
    split = next(one for one in ",;\t" if one in form)
    row = split.join(["out 1.mp4", "solo-3", "0"][: form.count(split) + 1])
    (source / "map.csv").write_bytes((form + row).encode())
    assert add_videos(run, "new", source, partial=False).added == [VideoKey("new", "solo-3", 0)]
    for wrong, says in ((b"file,case,seed\nout 1.mp4,solo-3,-1", "seed '-1'"),
                        (b"file,case,Seed\nout 1.mp4,solo-3,1", "did you mean seed"),
                        (b"\xff\xfe\x00", "UTF-8"), (b"", "first line")):  # fmt: skip
        (source / "map.csv").write_bytes(wrong)
        with pytest.raises(UserError, match=says):
            add_videos(run, "new", source, partial=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[our]\nlabel = 'Ours'", "did you mean ours"),
        ("[ours]\nlabl = 'Ours'", "did you mean label"),
        ("[ours]\nlabel = 1", "holds label"),
        ("[ours", "methods.toml"),
    ],
)
def test_what_is_wrong_with_the_labels_is_named(tmp_path, text, says):
    """A method of which the run has nothing, or a name that labels nothing, is a mistake."""
    run = write_run(tmp_path / "run")
    run.folder.put("methods.toml", b"[ours]\nlabel = 'Ours'")
    assert run.methods()["ours"].label == "Ours"
    run.folder.put("methods.toml", text.encode())
    with pytest.raises(UserError, match=says):
        run.methods()


def test_what_generate_writes_beside_videos_is_passed_over(tmp_path):
    """Settings, pictures and made views; a folder of videos is told, a near name suggested."""
    run = write_run(tmp_path / "run")
    source = tmp_path / "videos"
    (source / "views").mkdir(parents=True)
    for name in ("solo-1.mp4", "solo-1.json", "solo-1.jpg", "views/yaw+30.jpg"):
        (source / name).write_bytes(run.folder.read("videos/ours/solo-1.s0.mp4"))
    assert add_videos(run, "new", source, partial=False).unknown == []
    (source / "more").mkdir()
    for name in ("more/solo-2.mp4", "Solo-2.mp4"):
        (source / name).write_bytes(b"x")
    told = add_videos(run, "new", source, partial=False)
    assert [line.split("; ")[1] for line in told.unknown] == [
        "did you mean solo-2?", "its videos are not looked for",
    ]  # fmt: skip


def test_built_in_methods_are_for_virtual_suites(tmp_path, capsys):
    """On any other one sentence, before a process is started."""
    write_suite(tmp_path / "suite", four_cases())
    more = ["--run", f"{tmp_path}/run", "--method", "truth", "--workers", "2"]
    assert cli.main(["bench", "generate", f"{tmp_path}/suite", *more]) == 1
    told = capsys.readouterr().err
    assert "is not a virtual person" in told
    assert "Traceback" not in told


def test_an_import_that_brings_nothing_in_fails(tmp_path, capsys):
    """Wrong ids are listed, and the message names some of the suite's; status 1."""
    run = write_run(tmp_path)
    file = tmp_path / "aes.json"
    file.write_text(json.dumps({"a woman turns": {"aes_score": 5.5}, "x": {"aes_score": True}}))
    assert cli.main(["bench", "score", run.folder.url, "--import", "ours", str(file)]) == 1
    told = capsys.readouterr()
    assert "a woman turns" in told.err
    assert "solo-1, solo-2" in told.err
    file.write_text(json.dumps({"solo-1.mp4": {"aes_score": 5.5}}))
    assert cli.main(["bench", "score", run.folder.url, "--import", "other", str(file)]) == 0
    assert "other has no videos" in capsys.readouterr().out
    assert cli.main(["bench", "score", run.folder.url, "--import", str(file), str(file)]) == 2


def test_results_of_another_suite_are_refused(tmp_path):
    """When the run is opened, and when rows of two suites would share a table."""
    run = write_run(tmp_path)
    other = write_suite(tmp_path / "other", four_cases(), seed=1)
    with pytest.raises(UserError, match="different suites"):
        open_bench(run.folder.url, str(tmp_path / "other"))
    score(run, list(outdated(run, MOTION))[:1], 1)
    with pytest.raises(UserError, match="different suites"):
        collect(read_scores(run.folder), other.cases, other.sha256)


def test_opens2v_own_result_files_are_brought_in(tmp_path):
    """Values by case; three files of Natural give their mean; an error message becomes null."""
    run = write_run(tmp_path)
    files = []
    for number, scores in enumerate(({"solo-1": 4, "solo-2": "error"}, {"solo-1": 3}, {"x": 1})):
        files.append(tmp_path / f"naturalscore_{number}.json")
        files[-1].write_text(json.dumps(scores))
    files.append(tmp_path / "facesim.json")
    files[-1].write_text(json.dumps({"solo-1": {"cur_score": 0.5, "arc_score": 0.9}}))
    told = import_scores(run, METHODS[0], files)
    assert told.counts == {"opens2v_facesim_cur": 1, "opens2v_natural": 1}
    assert (told.unknown, len(told.unusable)) == (["x"], 1)
    results = collect(read_scores(run.folder), run.suite.cases, run.suite.sha256)
    assert results.sums("ours", "opens2v_natural").mean() == 3.5
    assert results.sums("ours", "opens2v_facesim_cur").mean() == 0.5
