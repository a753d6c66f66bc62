"""What a listing shows is told while the work begins, and kept with the run."""

import json
import subprocess
import sys
import time

import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line import drive
from datapipe.line.drive import Remaining
from datapipe.record import Sample, Source
from datapipe.run.info import LISTING, load_passed_over
from datapipe.run.tables import Ledger
from jobs import synthesize
from tests.datapipe.runs import LABELS


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.mp4").touch()
    return folder


def remaining(folder, run, **more):
    return Remaining(str(folder), str(run), Ledger(Folder(run)).segments, **more)


def wait_for(total):
    while total() is None:
        time.sleep(0.01)
    return total()


def test_the_total_is_what_is_left_and_is_told_when_it_is_known(clips, tmp_path):
    run = Folder(tmp_path / "run")
    done = [Sample(f"{n}", Source(f"{n}.mp4", ".mp4")).stop("rejected", "x", "") for n in range(3)]
    Ledger(run).append(done, LABELS, 0)
    with synthesize.surveyed(remaining(clips, tmp_path / "run"), run) as total:
        assert wait_for(total) == 4
    with synthesize.surveyed(remaining(clips, tmp_path / "run", limit=5), run) as total:
        assert wait_for(total) == 2


def test_what_is_passed_over_is_told_and_kept(clips, tmp_path, capsys):
    for name in ("a.gif", "b.gif", "notes.pdf"):
        (clips / name).touch()
    run = Folder(tmp_path / "run")
    assert load_passed_over(run) is None
    with synthesize.surveyed(remaining(clips, tmp_path / "run"), run):
        assert "passed over: 2 .gif, 1 .pdf" in capsys.readouterr().err
    assert load_passed_over(run) == {".gif": 2, ".pdf": 1}
    assert json.loads(run.read(LISTING))["videos"] == 7
    assert capsys.readouterr().err == ""  # once


def test_a_long_listing_is_told_as_far_as_it_has_come_and_again_at_its_end(
    clips, tmp_path, capsys, monkeypatch
):
    (clips / "a.gif").touch()
    (clips / "z").mkdir()
    (clips / "z/b.gif").touch()
    for module in (drive, synthesize):
        monkeypatch.setattr(module, "FIRST", 3)
    go_on = synthesize.threading.Event()
    every = Remaining.surveyed

    def slowly(self, found):
        for number, is_left in enumerate(every(self, found)):
            yield is_left
            if number == 3:
                go_on.wait(30)

    monkeypatch.setattr(Remaining, "surveyed", slowly)
    with synthesize.surveyed(remaining(clips, tmp_path / "run"), Folder(tmp_path / "run")) as total:
        assert total() is None
        assert "passed over so far: 1 .gif" in capsys.readouterr().err
        go_on.set()
    assert "passed over: 2 .gif" in capsys.readouterr().err


@pytest.mark.parametrize(("captioned", "told"), [(3, True), (4, False)])
def test_captions_that_most_videos_lack_are_told_at_the_start(
    clips, tmp_path, capsys, captioned, told
):
    for number in range(captioned):
        (clips / f"{number}.txt").write_text("a caption")
    (clips / "6.txt").write_bytes(b"caf\xe9")
    with synthesize.surveyed(remaining(clips, tmp_path / "run"), Folder(tmp_path / "run")):
        said = capsys.readouterr().err
    assert ("of the first 7 videos" in said) == told
    assert ("6.txt is not UTF-8" in said) == told


def test_captions_are_looked_at_of_the_first_videos_only(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(drive, "FIRST", 3)
    found = drive.Survey()
    assert list(remaining(clips, tmp_path / "run").surveyed(found)) == [True] * 7
    assert (found.videos, found.looked_at, found.empty) == (7, 3, 3)


@pytest.mark.parametrize("form", ["tar", "csv"])
def test_captions_that_come_with_the_listing_are_looked_at_too(tmp_path, form):
    if form == "csv":
        (tmp_path / "m.csv").write_text("path,caption\na.mp4,x\nb.mp4,\nc.gif,\n")
        url = tmp_path / "m.csv"
    else:
        subprocess.run(["touch", "a.mp4", "b.mp4"], cwd=tmp_path, check=True)
        (tmp_path / "a.txt").write_text("x")
        names = ["a.mp4", "b.mp4", "a.txt"]
        subprocess.run(["tar", "-cf", "t.tar", *names], cwd=tmp_path, check=True)
        url = tmp_path / "t.tar"
    found = drive.Survey()
    list(remaining(url, tmp_path / "run").surveyed(found))
    assert (found.looked_at, found.empty) == (2, 1)


@pytest.mark.parametrize("content", ["", "notes"])
def test_a_corpus_without_a_video_is_told_before_the_block(tmp_path, content):
    (tmp_path / "clips").mkdir()
    if content:
        (tmp_path / "clips" / content).touch()
    with (
        pytest.raises(UserError, match="no video in it"),
        synthesize.surveyed(
            remaining(tmp_path / "clips", tmp_path / "run"), Folder(tmp_path / "run")
        ),
    ):
        pytest.fail("the block began")
    assert not (tmp_path / "run" / LISTING).exists()


END_WHILE_LISTING = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from datapipe.files import Folder
from jobs.synthesize import surveyed

class Endless:
    def surveyed(self, survey):
        pool = ThreadPoolExecutor(1)
        while True:
            pool.submit(time.sleep, 0.01).result()
            survey.videos += 1000
            yield from [True] * int(sys.argv[1])

with surveyed(Endless(), Folder(sys.argv[2])):
    time.sleep(0.1)
    sys.exit("the user's mistake")
"""


def test_a_command_that_ends_while_its_corpus_is_listed_says_no_more_than_why(tmp_path):
    """Python takes the threads of the listing away under it."""
    command = [sys.executable, "-c", END_WHILE_LISTING, "1", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "the user's mistake\n")
