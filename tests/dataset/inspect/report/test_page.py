"""The report in a real browser: what it shows, and what cannot happen in it."""

import json
import random

import pytest

from dataset.inspect.report.report import SAMPLES_HELD, report
from dataset.inspect.stats import stats_of
from dataset.judged import judged_run
from dataset.run import run_rules
from jobs import stats
from tests.datapipe.runs import TinyRun
from tests.dataset.inspect.report.browser import opened
from tests.dataset.inspect.report.rows import add_made_up

pytestmark = pytest.mark.browser
RUNS = "document.title='owned'"
HOSTILE = f'</script><script>{RUNS}</script><img src=x onerror="{RUNS}">'
HOSTILE_KEY = "<img src=x onerror=document·title='owned'> {{script}} \u2028 &lt;"

ALL_LOADED = "return [...document.querySelectorAll('#cards img')].every(i => i.naturalWidth > 0)"


def write(run, path, hold=SAMPLES_HELD):
    with judged_run(run, run_rules(run, None)) as judged:
        path.write_bytes(report(judged, stats_of(judged), hold))
    return path


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    root = tmp_path_factory.mktemp("made-up")
    tiny = TinyRun(root)
    add_made_up(tiny, 5, 60)
    tiny.reject("noface")
    return tiny.save(per_segment=7), root


def stats_by(run, toml, folder, capsys):
    """`harmoview stats --rules … --json` with the text that the page gave."""
    (folder / "copied.toml").write_text(toml)
    capsys.readouterr()
    assert stats.main([run.url, "--rules", str(folder / "copied.toml"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_moving_thresholds_shows_what_those_rules_give(made_up, tmp_path, capsys):
    """The page's numbers, at random stops of all sliders, are those of `stats --rules`."""
    run, _ = made_up
    draw = random.Random(7)
    with opened(write(run, tmp_path / "report.html")) as page:
        for setting in range(5):
            for slider, last in enumerate(page.sliders()):
                if setting:
                    page.move(slider, round(last * draw.triangular(0, 1, 0.3)))
            if setting == 3:
                page.changes("document.getElementById('reference-must-pass').click()")
            found = stats_by(run, page.toml, tmp_path, capsys)
            by_yaw = {row["yaw"]: row for row in found["yaws"]}
            assert page.passed() == {yaw: row["passed"] for yaw, row in by_yaw.items()}
            for yaw, row in by_yaw.items():
                assert page.reasons(yaw) == row["reasons"]
            funnel = found["funnel"]
            assert page.total("views pass") == str(funnel["views_passed"])
            assert page.total("identities kept") == str(funnel["identities_kept"])
            assert page.total("samples kept") == str(funnel["samples_kept"])
        page.changes("document.getElementById('reset').click()")
        start = stats_by(run, page.toml, tmp_path, capsys)
        windows = start["windows"]
        assert page.window("Windows: found") == windows["windows"] > windows["passed"] > 0
        assert page.window("Windows: short") == windows["reasons"]["short"]
        assert page.window("By length: 1–2 s") == windows["lengths"]["1"]
        assert page.window("By yaw span: 80° and more") == windows["spans"]["80"]
        assert page.window("Identities kept: with a window") == windows["identities"]
        assert page.total("samples kept") == str(start["funnel"]["samples_kept"])
        button = page.driver.find_element("id", "copy")
        button.click()
        page.wait(lambda: button.text == "Copied")
        assert page.complaints() == []


def test_a_sample_of_the_samples_gives_an_interval(made_up, tmp_path, capsys):
    """Views stay exact; identities are estimated, and say so, where not all are in the report."""
    run, _ = made_up
    with opened(write(run, tmp_path / "report.html", hold=25)) as page:
        start = stats_by(run, page.toml, tmp_path, capsys)["funnel"]
        assert page.total("identities kept") == str(start["identities_kept"])
        page.move(len(page.sliders()) - 1, 6)
        found = stats_by(run, page.toml, tmp_path, capsys)["funnel"]
        assert page.total("views pass") == str(found["views_passed"])
        text = page.total("identities kept").replace(",", "")
        estimate, margin = map(int, text.removeprefix("≈ ").split(" ± "))
        assert abs(estimate - found["identities_kept"]) <= 2 * margin


def test_hostile_text_stays_text(tmp_path):
    """Keys, captions, paths, reasons and settings of a corpus run nothing and load nothing."""
    tiny = TinyRun(tmp_path, run="<b>run & co")
    tiny.add(HOSTILE_KEY, caption=HOSTILE)
    tiny.reject("noface", reason=HOSTILE)
    run = tiny.save()
    with opened(write(run, tmp_path / "report.html")) as page:
        assert page.run("return document.title") == "<b>run & co · HarmoView report"
        text = page.run("return document.body.innerText")
        assert HOSTILE in text
        assert HOSTILE_KEY.replace("\u2028", "") in text.replace("\u2028", "")
        assert (
            page.run("return document.querySelectorAll('[onerror], main script, b b').length") == 0
        )
        assert page.complaints() == []
        assert page.requests() == [(tmp_path / "report.html").as_uri()]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_it_fits_its_screen_and_asks_for_nothing(made_up, tmp_path, width, dark):
    """No sideways scrolling on a phone, dark where that is wanted, no request, no complaint."""
    run, _ = made_up
    path = write(run, tmp_path / "report.html")
    with opened(path, width=width, height=740, dark=dark) as page:
        sizes = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        whole, visible = page.run(sizes)
        assert width - 20 <= whole <= visible
        paper = page.run("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, paper[4:-1].split(","))) < 60) == dark
        for tab in range(page.run("return document.querySelectorAll('#fates button').length")):
            page.run("document.querySelectorAll('#fates button')[arguments[0]].click()", tab)
            assert page.run("return document.querySelectorAll('#cards article').length") > 0
            page.wait(lambda: page.run(ALL_LOADED))
        assert page.requests() == [path.as_uri()]
        assert page.complaints() == []
        page.run("fetch('https://example.org/').catch(() => {})")
        page.wait(lambda: any("connect" in row["message"] for row in page.complaints()))
