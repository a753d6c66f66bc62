"""A plugin: CPU seconds of every test, its processes included; the slowest stand at the run's end.

CPU time rather than the clock, so that a busy machine changes no figure. What fixtures of a wider
scope than a test cost is not the test's that happens to come first: it is told apart.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

LIMIT = 5.0
"""CPU seconds that a test may take without the mark `slow` or `proof`."""
SHOWN = 10
_TICKS = os.sysconf("SC_CLK_TCK")


def tree_seconds() -> float:
    """What this process and all below it have spent, with those that ended and were waited for."""
    below: dict[int, list[int]] = defaultdict(list)
    spent = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        pid = int(stat.parent.name)
        below[int(fields[1])].append(pid)
        spent[pid] = sum(map(int, fields[11:15])) / _TICKS
    found = [os.getpid()]
    for pid in found:
        found.extend(below[pid])
    return sum(spent[pid] for pid in found)


class CpuTime:
    """Measures where tests run; with xdist the reports carry it to the controller, which prints."""

    def __init__(self) -> None:
        self.mark = tree_seconds()
        self.shared: dict[str, float] = {}
        self.depth = 0
        self.reports: list[pytest.TestReport] = []

    def pytest_collection_finish(self):
        self.mark = tree_seconds()  # what importing cost is no test's

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function" or self.depth:
            return (yield)
        self.depth += 1
        before = tree_seconds()
        try:
            return (yield)
        finally:
            self.depth -= 1
            self.shared[f"{fixturedef.baseid}::{fixturedef.argname}"] = tree_seconds() - before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        if call.when == "teardown":
            now = tree_seconds()
            # negative where a Ray worker ended, whose time its raylet keeps to itself
            spent = max(now - self.mark - sum(self.shared.values()), 0.0)
            item.user_properties += [("cpu", spent), ("shared cpu", self.shared)]
            self.mark, self.shared = now, {}
        return (yield)

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            self.reports.append(report)

    def pytest_terminal_summary(self, terminalreporter):
        tests, folders, fixtures = {}, defaultdict(float), {}
        for report in self.reports:
            found = dict(report.user_properties)
            if not {"slow", "proof"} & set(report.keywords):
                tests[report.nodeid] = found["cpu"]
            folders["/".join(report.nodeid.split("/")[:2])] += found["cpu"]
            for name, seconds in found["shared cpu"].items():
                fixtures[name] = fixtures.get(name, 0.0) + seconds
                folders[f"fixtures of {'/'.join(name.split('/')[:2])}"] += seconds
        for title, rows in (
            ("CPU seconds of folders", folders),
            ("slowest shared fixtures, CPU seconds", fixtures),
            ("slowest tests without a mark, CPU seconds", tests),
        ):
            if rows:
                terminalreporter.section(title)
            for name, seconds in sorted(rows.items(), key=lambda row: -row[1])[:SHOWN]:
                over = (
                    f"  over {LIMIT:g}: mark it slow" if rows is tests and seconds > LIMIT else ""
                )
                terminalreporter.line(f"{seconds:8.2f}  {name}{over}")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CpuTime(), "cpu time")
