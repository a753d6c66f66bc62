"""The benchmark's report in a real browser, opened from disk."""

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from harmoview.bench.published import DEFAULT_WEIGHTS
from harmoview.bench.report.report import write_report
from harmoview.bench.results import collect
from harmoview.bench.run import VideoKey
from harmoview.bench.scores import VideoScore
from harmoview.bench.store import Provenance, put_scores, read_scores
from harmoview.bench.table import Resampling, table
from tests.dataset.inspect.report.browser import browsing
from tests.harmoview.bench.gsb.studies import write_run

pytestmark = pytest.mark.browser
VALUES = {"ours": (0.9, 0.5, 0.7, 0.6), "theirs": (0.4, 0.8, 0.6, 0.6)}
"""Of hv_flow in the cases of the suite, in its order."""
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of three methods, one of them without scores, one video broken."""
    root = tmp_path_factory.mktemp("report")
    run = write_run(root, frames=8)
    (root / "run" / "methods.toml").write_text(f"[ours]\nlabel = {json.dumps(HOSTILE)}\n")
    for method, values in VALUES.items():
        for case, value in zip(run.suite.cases, values, strict=True):
            broken = method == "ours" and case.id == "pair-1"
            one = (
                VideoScore("hv_flow", None, status="failed", reason="unreadable: no picture")
                if broken
                else VideoScore("hv_flow", value, 8, 8)
            )
            key = VideoKey(method, case.id, 0)
            put_scores(
                run.folder, run.suite.sha256, key, Provenance("motion", 1, "", "x"), [one], 0, {}
            )
    results = collect(read_scores(run.folder), run.suite.cases, run.suite.sha256)
    rows = table(results, resampling=Resampling(resamples=50))
    return write_report(run, results, rows, DEFAULT_WEIGHTS, root / "out")


def cases(driver):
    return [node.get_attribute("data-case") for node in driver.find_elements(By.CLASS_NAME, "case")]


def wait(driver, holds):
    WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda _: holds())


def test_cases_are_sorted_by_difference_and_filtered_by_tag(page):
    """B less A, both ways; what neither has comes last. Broken videos say why."""
    with browsing(page) as driver:
        assert cases(driver) == ["solo-1", "solo-2", "solo-3", "pair-1"]
        Select(driver.find_element(By.ID, "a")).select_by_value("ours")
        Select(driver.find_element(By.ID, "b")).select_by_value("theirs")
        Select(driver.find_element(By.ID, "order")).select_by_value("down")
        assert cases(driver) == ["solo-2", "solo-3", "solo-1", "pair-1"]
        Select(driver.find_element(By.ID, "order")).select_by_value("up")
        assert cases(driver) == ["solo-1", "solo-3", "solo-2", "pair-1"]
        first = driver.find_element(By.CLASS_NAME, "case")
        assert float(first.get_attribute("data-delta")) == pytest.approx(-0.5)
        (failed,) = driver.find_elements(By.CLASS_NAME, "failed")
        assert failed.text == "unreadable: no picture"
        chips = driver.find_elements(By.CSS_SELECTOR, "#methods button")
        assert [chip.text for chip in chips] == [HOSTILE, "theirs", "third"]
        before = len(first.find_elements(By.TAG_NAME, "video"))
        chips[2].click()
        after = driver.find_element(By.CLASS_NAME, "case").find_elements(By.TAG_NAME, "video")
        assert len(after) == before - 1
        assert driver.title == "HarmoView-Bench"
        assert driver.get_log("browser") == []


def test_videos_of_a_case_play_in_step(page):
    """Those on the screen play together, again and again, until they are all paused."""
    with browsing(page) as driver:
        script = (
            "return [...document.querySelector('.case').querySelectorAll('video')]"
            ".map(video => [video.readyState, video.currentTime, video.paused])"
        )
        driver.execute_script("document.querySelector('.case').scrollIntoView()")
        wait(driver, lambda: all(state >= 3 for state, _, _ in driver.execute_script(script)))
        wait(driver, lambda: all(not paused for *_, paused in driver.execute_script(script)))
        times = [time for _, time, _ in driver.execute_script(script)]
        assert max(times) - min(times) < 0.25
        driver.find_element(By.ID, "play").click()
        wait(driver, lambda: all(paused for *_, paused in driver.execute_script(script)))


def test_the_page_fits_a_phone(page):
    """Only tables scroll sideways; every picture is found beside the page."""
    with browsing(page, width=390, height=780, dark=True) as driver:
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        driver.execute_script(
            "document.querySelectorAll('img').forEach(one => { one.loading = 'eager'; })"
        )
        loaded = "return [...document.querySelectorAll('.people img')].every(i => i.naturalWidth)"
        wait(driver, lambda: driver.execute_script(loaded))
        assert driver.get_log("browser") == []
