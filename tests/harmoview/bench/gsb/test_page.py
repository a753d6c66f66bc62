"""A rater's page in a real browser, opened from disk."""

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from datapipe.files import Folder
from harmoview.bench.gsb.answers import import_answers
from harmoview.bench.gsb.study import study_results
from tests.dataset.inspect.report.browser import browsing
from tests.harmoview.bench.gsb.studies import page_data, write_run, write_study

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), frames=8)


class Rater:
    """Somebody at the page."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self, holds):
        WebDriverWait(self.driver, 60, poll_frequency=0.03).until(lambda _: holds())

    def see(self, name):
        return self.driver.find_element(By.ID, name)

    def start(self, name):
        self.see("rater").send_keys(name, Keys.ENTER)
        self.wait(lambda: self.see("study").is_displayed())

    @property
    def given(self):
        return int(self.driver.execute_script("return document.body.dataset.answers"))

    @property
    def open(self):
        return self.driver.find_element(By.CSS_SELECTOR, "#votes button").is_enabled()

    def press(self, key):
        self.driver.find_element(By.TAG_NAME, "body").send_keys(key)

    def vote(self, key):
        """As soon as both videos were seen."""
        self.wait(lambda: self.open)
        before = self.given
        self.press(key)
        self.wait(lambda: self.given == before + 1)


def test_a_session_from_the_first_video_to_the_organisers_table(run, tmp_path):
    """Votes open when both were seen; keys, taking back, going on after a reload, the file."""
    study = write_study(run, tmp_path / "study", raters=1, session=6, opponents=("theirs",))
    package = study / "package-1-01"
    items = page_data(package)["items"]
    key = json.loads((study / "key.json").read_text())["packages"][package.name]
    good = {one["id"]: "3" if key[one["id"]]["right"] == "ours" else "1" for one in items}
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browsing(package / "index.html", downloads=downloads) as driver:
        rater = Rater(driver)
        rater.start("Ada")
        assert not rater.open
        rater.press("1")
        assert rater.given == 0  # nothing was seen yet
        rater.vote("2")
        rater.press(Keys.BACKSPACE)
        rater.wait(lambda: rater.given == 0)
        rater.vote(good[items[0]["id"]])
        rater.press(" ")
        rater.wait(lambda: rater.see("pause").text == "Go on")
        assert not rater.open
        driver.refresh()
        rater.start("Ada")
        assert rater.given == 1  # the browser kept it
        for item in items[1:]:
            same = key[item["id"]]["kind"] == "identical"
            rater.vote("2" if same else good[item["id"]])
        assert rater.see("end").is_displayed()
        rater.wait(lambda: list(downloads.glob("*.json")))
        assert [row for row in driver.get_log("browser") if row["level"] == "SEVERE"] == []
        (file,) = downloads.glob("*.json")
        record = json.loads(file.read_text())
        assert all(one["plays"] >= 1 and one["ms"] > 0 for one in record["answers"])
    import_answers(Folder(study), [file])
    found = study_results(Folder(study))
    assert found["axes"]["overall"]["all"]["opponents"]["theirs"]["good"] == len(
        [one for one in items if key[one["id"]]["kind"] == "pair"]
    )
    assert not found["raters"][0]["excluded"]


def test_a_session_goes_on_from_a_downloaded_file_on_another_machine(run, tmp_path):
    """Of VP9 videos, on a phone's screen, with two questions about each pair."""
    study = write_study(
        run, tmp_path / "study", raters=1, opponents=("third",), codec="vp9",
        axes=("overall", "identity"),
    )  # fmt: skip
    package = study / "package-1-01"
    items = page_data(package)["items"]
    answers = [
        {"item": items[0]["id"], "axis": axis, "vote": "left", "ms": 1, "plays": 1, "at": ""}
        for axis in ("overall", "identity")
    ]
    file = tmp_path / "before.json"
    record = {"format": 1, "package": page_data(package)["package"], "rater": "Bob"}
    file.write_text(json.dumps({**record, "answers": answers}))
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps({**record, "package": "0", "answers": answers}))
    with browsing(package / "index.html", width=390, height=780) as driver:
        rater = Rater(driver)
        rater.see("import").send_keys(str(foreign))
        rater.wait(lambda: rater.see("trouble").is_displayed())
        rater.see("import").send_keys(str(file))
        rater.wait(lambda: rater.see("study").is_displayed())
        assert rater.given == 2
        assert rater.see("place").text == f"2 of {len(items)}"
        rater.vote("3")
        assert rater.open  # the second question is about the same videos
        rater.vote("1")
        assert driver.get_log("browser") == []
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390
