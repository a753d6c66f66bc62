"""Laws of the virtual suite: methods with a known defect show it in the columns made for it."""

import numpy as np
import pytest

from datapipe.faces.light import LightFaces
from datapipe.files import Folder
from harmoview.bench.check import check
from harmoview.bench.generate import missing_videos, render_videos
from harmoview.bench.results import collect
from harmoview.bench.run import open_bench
from harmoview.bench.score import measure, outdated
from harmoview.bench.scorers import FaceScorer
from harmoview.bench.store import read_scores
from harmoview.bench.virtual.make import VirtualSuite, make_virtual

pytestmark = [pytest.mark.weights, pytest.mark.slow]
EVERYWHERE, IN_PAIRS = ("truth", "cardboard"), ("blend50", "swap")
"""Methods whose defect shows in every case, and those that need two people."""
PAIR = "pair-003"
WANTED = VirtualSuite(cases=3, people=3, frames=9, height=256, side=256)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A suite of two solo cases and a pair, videos by four methods, their faces measured."""
    root = tmp_path_factory.mktemp("virtual")
    faces = LightFaces()
    faces.setup()
    make_virtual(Folder(root / "suite"), WANTED, faces)
    run = open_bench(str(root / "run"), str(root / "suite"))
    keys = [key for method in EVERYWHERE for key in missing_videos(run, method, [0])]
    keys += [key for name in IN_PAIRS for key in missing_videos(run, name, [0]) if key.case == PAIR]
    assert sorted(render_videos(run, keys, workers=1)) == run.videos()
    scorer = FaceScorer()
    scorer.setup()
    scorer.prepare(run)
    for task in outdated(run, [scorer]):
        measure(run, task)
    return run, collect(read_scores(run.folder), run.suite.cases, run.suite.sha256), faces


def mean(results, method, column):
    return results.sums(method, column).mean()


def test_each_defect_shows_where_it_should(made):
    """Crosstalk reads the share of a blend; the frontal cosine prefers cardboard, the view match
    does not; exchanged people are swapped in every placed case."""
    _, results, _ = made
    assert mean(results, "truth", "hv_crosstalk") < 0.10
    assert 0.35 <= mean(results, "blend50", "hv_crosstalk") <= 0.55
    front = [mean(results, name, "hv_face_front") for name in ("cardboard", "truth")]
    assert front[0] > front[1]
    for part in ("15-45", "45-75"):
        assert mean(results, "truth", f"hv_view_match_true[{part}]") > 0.4
        assert mean(results, "cardboard", f"hv_view_match_true[{part}]") < 0
    assert mean(results, "swap", "hv_swapped") == 1
    assert mean(results, "truth", "hv_swapped") == 0
    assert (
        mean(results, "cardboard", "hv_yaw_reached")
        < 0.3
        < mean(results, "truth", "hv_yaw_reached")
    )
    assert mean(results, "truth", "hv_rank1") > 0.9
    assert mean(results, "blend50", "hv_missing") == 0  # alike as they are, they are two


def test_people_of_a_suite_can_be_told_apart(made):
    """No two frontal references have a cosine over .5, and check finds no error."""
    run, _, faces = made
    vectors = []
    for name in run.suite.identities:
        picture = run.suite.view(name, None)
        vectors.append(faces.embed(picture, faces.find([picture])[0][:1])[0])
    cosines = np.stack(vectors) @ np.stack(vectors).T
    assert cosines[np.triu_indices(len(vectors), 1)].max() <= 0.52  # JPEG moves them a little
    assert [one for one in check(run.suite.folder, faces) if one.level == "error"] == []


def test_a_video_made_again_has_the_same_bytes(made, monkeypatch):
    """After a stop between a video's two files the rest is made; what is there is left alone."""
    run, *_ = made
    names = [f"videos/truth/solo-001.s0.{kind}" for kind in ("json", "mp4")]
    before = [run.folder.read(name) for name in names]
    for name in names:
        run.folder.delete(name)
    put = Folder.put

    def stops(folder, name, data):
        if name.endswith(".mp4"):
            raise KeyboardInterrupt
        put(folder, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "put", stops)
        with pytest.raises(KeyboardInterrupt):
            list(render_videos(run, missing_videos(run, "truth", [0]), workers=1))
    todo = missing_videos(run, "truth", [0])
    assert [key.case for key in todo] == ["solo-001"]
    list(render_videos(run, todo, workers=1))
    assert [run.folder.read(name) for name in names] == before
