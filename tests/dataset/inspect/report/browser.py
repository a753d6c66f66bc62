"""A headless browser that looks at a report, and what it saw."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Page:
    """An opened report."""

    def __init__(self, driver):
        self.driver = driver
        self.wait(lambda: self.drawn > 0)

    def wait(self, holds):
        WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: holds())

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    @property
    def drawn(self):
        return int(self.run("return document.body.dataset.drawn || 0"))

    def changes(self, script, *arguments):
        """Do something to a slider, and wait until the page has followed."""
        before = self.drawn
        self.run(script, *arguments)
        self.wait(lambda: self.drawn > before)

    def move(self, slider, to):
        """Set a slider, named by its place on the page, to a stop (cut to its range)."""
        self.changes(
            "const all = document.querySelectorAll('#sliders input[type=range]');"
            "all[arguments[0]].value = arguments[1];"
            "all[arguments[0]].dispatchEvent(new Event('input'));",
            slider,
            to,
        )

    def sliders(self):
        """How many stops each slider has after its first."""
        script = (
            "return [...document.querySelectorAll('#sliders input[type=range]')].map(s => +s.max)"
        )
        return self.run(script)

    @property
    def toml(self):
        return self.run("return document.getElementById('toml').value")

    def passed(self):
        """Passing views by yaw."""
        script = (
            "return [...document.querySelectorAll('.yield')].map(row => [+row.dataset.yaw,"
            "+row.querySelector('[data-passed]').dataset.passed])"
        )
        return dict(map(tuple, self.run(script)))

    def reasons(self, yaw):
        """The tooltips of the parts of a yaw's bar: counts by reason."""
        script = (
            f"return [...document.querySelectorAll('.yield[data-yaw=\"{yaw}\"] .stack i')]"
            ".map(part => part.dataset.tip)"
        )
        found = {}
        for tip in self.run(script):
            name, _, rest = tip.partition(": ")
            found["_".join(name.split(" ")[1:])] = int(rest.split(" ")[0].replace(",", ""))
        found.pop("passed", None)
        return found

    def total(self, title):
        """A number of the panel as it is written."""
        return self.run(f"return document.querySelector('[data-total=\"{title}\"]').textContent")

    def window(self, name):
        """A number about windows."""
        script = 'return document.querySelector(`[data-window="${arguments[0]}"]`).textContent'
        return int(self.run(script, name).replace(",", ""))

    def complaints(self):
        """Errors and warnings of the console."""
        return self.driver.get_log("browser")

    def requests(self):
        """Addresses that the page asked for, beyond itself and what it holds."""
        entries = (
            json.loads(row["message"])["message"] for row in self.driver.get_log("performance")
        )
        asked = [
            entry["params"]["request"]["url"]
            for entry in entries
            if entry["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith("data:")]


@contextmanager
def opened(report: Path, width=1280, height=900, dark=False):
    """The report in a headless browser."""
    with browsing(report, width, height, dark) as driver:
        yield Page(driver)


@contextmanager
def browsing(page: Path, width=1280, height=900, dark=False, downloads=None):
    """A headless browser at a page on disk; `downloads` is a folder for what the page saves.

    Skips the test where the browser or its driver is missing. The driver is never fetched: what
    that finds depends on the network.
    """
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver_binary = shutil.which("chromedriver")
    if binary is None:
        pytest.skip("no Chromium or Chrome on this machine (apt install chromium)")
    if driver_binary is None:
        pytest.skip("no chromedriver on this machine (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver_binary)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if downloads is not None:
            there = {"behavior": "allow", "downloadPath": str(downloads)}
            driver.execute_cdp_cmd("Browser.setDownloadBehavior", there)
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()
