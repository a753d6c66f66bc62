"""The report as a file: what it holds, what it leaves out, and that it is the same each time."""

import base64
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from dataset.inspect.page import as_json
from dataset.inspect.report.counts import count
from dataset.inspect.report.report import fitted, report
from dataset.inspect.stats import stats_of
from dataset.judged import judged_run
from jobs.stats import write_report
from tests.datapipe.runs import RULES, TinyRun, good
from tests.dataset.inspect.report.rows import add_made_up


@pytest.fixture
def tiny(tmp_path):
    run = TinyRun(tmp_path)
    run.add("a", [{30: good(30, sharpness=0.1)}, {}])
    run.add("b", [{yaw: good(yaw, detected=False) for yaw in YAWS[:4]}], caption="of b")
    run.add("c", [{90: good(90, measured_yaw=70.0), "reference": good(0, aesthetic=1.0)}])
    run.reject("noface")
    run.save(per_segment=2)
    return run


def page_of(folder):
    with judged_run(folder, RULES) as judged:
        return report(judged, stats_of(judged))


def data_of(page):
    text = re.search(r'id="data">(.*?)</script>', page.decode(), re.DOTALL)[1]
    return json.loads(text)


@given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5))
def test_no_text_ends_its_element(value):
    """JSON reads back as it was and has none of the signs that markup or script is made of."""
    text = as_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_the_same_run_gives_the_same_bytes(tiny):
    """Nothing in it depends on the time, the process or the order of things."""
    assert page_of(tiny.folder) == page_of(tiny.folder)


def test_every_fate_is_shown_with_its_reason_in_words(tiny):
    """Accepted and rejected views and identities, with key, picture, scores and sentence."""
    data = data_of(page_of(tiny.folder))
    fates = {(card["fate"], card["key"], card["yaw"]) for card in data["cards"]}
    assert {
        ("blurred", "a", 30),
        ("not_detected", "b", -90),
        ("pose", "c", 90),
        ("too_few_views", "b", None),
        ("reference_aesthetic", "c", None),
    } <= fates
    (blurred,) = [card for card in data["cards"] if card["fate"] == "blurred"]
    assert blurred["detail"] == "sharpness 0.1 is under 0.18"
    assert blurred["scores"]["sharpness"] == 0.1
    for card in data["cards"]:
        assert card["picture"] != card["reference"]
        assert data["thumbnails"][card["reference"]].startswith("data:image/webp;base64,")
    (first, *_) = [card for card in data["cards"] if card["key"] == "b"]
    assert first["caption"] == "of b"


def test_a_lost_candidate_costs_its_pictures_only(tiny):
    """The scores are in the tables; the card says that there is no picture."""
    for path in tiny.root.glob("run/candidates/*/b.tar"):
        path.unlink()
    for path in tiny.root.glob("run/candidates/*/c.tar"):
        path.write_bytes(path.read_bytes()[:700])
    cards = data_of(page_of(tiny.folder))["cards"]
    assert {card["key"] for card in cards} == {"a", "b", "c"}
    for card in cards:
        assert (card["reference"] is None) == (card["key"] in "bc")


def test_what_a_killed_driver_left_is_not_counted(tiny):
    """Scores whose ledger segment was never written belong to nobody."""
    before = data_of(page_of(tiny.folder))
    tiny.add("late")
    tiny.save()
    (tiny.root / "run/ledger/000002.parquet").unlink()
    after = data_of(page_of(tiny.folder))
    assert after["arrays"] == before["arrays"]


def test_counts_are_cut_to_size_by_fewer_stops(tiny):
    """However large a run, its report is small; the rules' own thresholds stay."""
    add_made_up(tiny, 3, 30)
    run = tiny.save()
    with judged_run(run, RULES) as judged:
        counts = count(judged, 33, 33)
    stops, size = sum(map(len, counts.cells.stops)), len(fitted(counts, 10**9))
    assert sum(map(len, counts.cells.stops)) == stops
    assert len(fitted(counts, size - 1)) < size
    assert sum(map(len, counts.cells.stops)) < stops


def test_an_object_store_gives_the_same_report(tiny, s3_bucket):
    """But for the place of the run."""
    store = Folder(f"{s3_bucket}/report/run")
    for name in tiny.folder.names("**/*.*"):
        store.put(name, tiny.folder.read(name))
    here, there = (data_of(page_of(folder)) for folder in (tiny.folder, store))
    assert there.pop("run") != here.pop("run")
    assert there == here


def test_a_run_without_candidates_has_a_report_too(tmp_path):
    """Empty charts, and the reasons."""
    run = TinyRun(tmp_path)
    run.reject("noface")
    data = data_of(page_of(run.save()))
    assert data["cards"] == []
    assert [row["reason"] for row in data["stats"]["outcomes"]] == ["no_face"]
    assert gzip.decompress(base64.b64decode(data["arrays"])) == b""


def test_a_page_that_cannot_be_written_is_one_message(tiny, tmp_path):
    """As any user's mistake."""
    (tmp_path / "file").write_text("")
    with (
        judged_run(tiny.folder, RULES) as judged,
        pytest.raises(UserError, match="cannot write"),
    ):
        write_report(judged, stats_of(judged), tmp_path / "file" / "report.html")
