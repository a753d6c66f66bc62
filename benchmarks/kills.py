"""Drivers, workers and nodes killed at random, some hundred times: the result must not show it.

`python -m benchmarks.kills` runs a line of quick stages (`tests/datapipe/fast_line.py`: the real
store, ledger, lock, executor and driver) over and over, kills a process of it with SIGKILL every
second or so, starts it again, and compares what is there in the end with an uninterrupted run:
every candidate byte for byte, every row of the tables. Then it counts how often the engine was
asked for a candidate that was stored already: never. From the repository's root.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from datapipe.files import Folder
from datapipe.run.tables import Ledger
from tests.datapipe.fast_line import calls, contents, session_workers, work

SPAWN = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class KillsBenchmark:
    """How many processes are killed, of each kind."""

    drivers: int = 120
    """Kills of a driver that runs the line in one process."""
    ray_drivers: int = 10
    """Kills of a driver that runs the line on Ray."""
    workers: int = 60
    nodes: int = 20
    samples: int = 300
    """Samples of a run; when it is done, the next begins in an empty folder."""
    seed: int = 0


@dataclass
class Tally:
    """What happened."""

    kills: int = 0
    runs: int = 0
    calls: int = 0
    again: int = 0
    errors: int = 0
    """Samples that lost their worker three times by chance; they are done again at the end."""


def local_driver(run: Path, samples: int) -> None:
    """The line in one process, with small ledger segments so that kills fall between them."""
    from datapipe.line import drive

    drive.SEGMENT_ROWS = 7
    work(run, samples, run.with_name("calls"), ray=False)


def ray_driver(run: Path, samples: int) -> None:
    """The line on a Ray of its own, in a session of its own."""
    from datapipe.line import drive

    os.setsid()
    drive.SEGMENT_ROWS = 20
    work(run, samples, run.with_name("calls"), ray=True)


def cluster_driver(run: Path, samples: int, nodes: int, seed: int) -> None:
    """The line on a cluster that loses one node after the other and gets new ones."""
    import ray
    from ray.cluster_utils import Cluster

    os.setsid()
    log, draw = run.with_name("calls"), random.Random(seed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    doomed = [cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    # the work in the thread: only the main thread may start nodes
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work, run, samples, log, ray=True, address=cluster.address)
        for _ in range(nodes):
            due = _lines(log) + draw.randint(3, 30)
            while _lines(log) < due and not working.done():
                time.sleep(0.05)
            if working.done():
                break
            cluster.remove_node(doomed.pop(), allow_graceful=False)
            with run.with_name("kills").open("a") as file:
                file.write("node\n")
            doomed.append(cluster.add_node(num_cpus=1, wait=False))
        working.result()
    ray.shutdown()
    cluster.shutdown()


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


class Campaign:
    """Runs that are killed until there were enough kills; each is compared when it is done."""

    def __init__(self, root: Path, settings: KillsBenchmark) -> None:
        self.settings = settings
        self.root = root
        self.draw = random.Random(settings.seed)
        SPAWN.set_forkserver_preload([__name__])  # so that few kills fall into imports
        oracle = SPAWN.Process(
            target=local_driver, args=(root / "oracle" / "run", settings.samples)
        )
        oracle.start()
        oracle.join()
        self.wanted = contents(root / "oracle" / "run")

    def until(self, kills: int, attempt: Callable[[Path, int], tuple[int, bool]]) -> Tally:
        """Make attempts until there were enough kills.

        `attempt` gets the run and the kills left, and returns how many it made and whether the run
        is done.
        """
        tally = Tally()
        while tally.kills < kills:
            with tempfile.TemporaryDirectory(dir=self.root) as folder:
                run, done = Path(folder) / "run", False
                while not done:
                    made, done = attempt(run, kills - tally.kills)
                    tally.kills += made
                    if done and (lost := Ledger(Folder(run)).drop_errors()):
                        tally.errors += lost
                        done = False
                self._compare(run, tally)
        return tally

    def _compare(self, run: Path, tally: Tally) -> None:
        if contents(run) != self.wanted:
            raise SystemExit(f"after {tally.kills} kills the run is not the uninterrupted one")
        asked = Counter(kind for _, kind in calls(run.with_name("calls")))
        tally.runs += 1
        tally.calls += asked.total()
        tally.again += asked["again"]

    def drivers(self, run: Path, left: int, ray: bool = False) -> tuple[int, bool]:
        """One driver, killed after a random time unless it is done by then."""
        target = ray_driver if ray else local_driver
        driver = SPAWN.Process(target=target, args=(run, self.settings.samples), daemon=True)
        driver.start()
        patience = self.draw.uniform(3, 25) if ray else self.draw.uniform(0.02, 2)
        driver.join(patience if left else None)
        if driver.exitcode is None:
            driver.kill()
            driver.join()
            _end_session(driver.pid)
            return 1, False
        return 0, _done(driver.exitcode)

    def workers(self, run: Path, left: int) -> tuple[int, bool]:
        """One driver on Ray whose workers are killed while it works."""
        driver = SPAWN.Process(target=ray_driver, args=(run, self.settings.samples), daemon=True)
        driver.start()
        killed, log, seen = 0, run.with_name("calls"), 0
        while driver.is_alive():
            driver.join(self.draw.uniform(0.1, 1.0))
            # only when work went on since the last: else none would ever come to work
            if killed < left and _lines(log) > seen and (found := session_workers(driver.pid)):
                seen = _lines(log)
                try:
                    os.kill(self.draw.choice(found), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
        return killed, _done(driver.exitcode)

    def nodes(self, run: Path, left: int) -> tuple[int, bool]:
        """One driver on a cluster that loses nodes."""
        before = _lines(run.with_name("kills"))
        args = (run, self.settings.samples, left, self.draw.getrandbits(32))
        driver = SPAWN.Process(target=cluster_driver, args=args, daemon=True)
        driver.start()
        driver.join()
        return _lines(run.with_name("kills")) - before, _done(driver.exitcode)


def _done(status: int | None) -> bool:
    if status:
        raise SystemExit(f"the line ended with status {status}")
    return True


def _end_session(session: int | None) -> None:
    """End what a killed driver's Ray has not ended yet; all of it was started by that driver."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            if found == session:
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def main(settings: KillsBenchmark) -> None:
    """Kill every kind in turn, and print a line of figures for each. Raises SystemExit where a run
    differs.
    """
    with tempfile.TemporaryDirectory(prefix="harmoview-kills-") as folder:
        campaign = Campaign(Path(folder), settings)
        kinds: list[tuple[str, int, Callable[[Path, int], tuple[int, bool]]]] = [
            ("drivers", settings.drivers, campaign.drivers),
            ("workers", settings.workers, campaign.workers),
            ("nodes", settings.nodes, campaign.nodes),
            ("drivers on Ray", settings.ray_drivers, lambda r, n: campaign.drivers(r, n, ray=True)),
        ]
        total = Tally()
        for name, kills, attempt in kinds:
            if not kills:
                continue
            begin = time.monotonic()
            one = campaign.until(kills, attempt)
            print(
                f"{name:<15}{one.kills:>4} killed in {one.runs} runs, each as the uninterrupted "
                f"one; {one.calls} syntheses of {one.runs * settings.samples} samples, {one.again} "
                f"of them stored already; {one.errors} samples lost three workers by chance; "
                f"{time.monotonic() - begin:.0f} s",
                flush=True,
            )
            total.kills += one.kills
            total.again += one.again
        print(f"{total.kills} kills; {total.again} syntheses of stored candidates")
        if total.again:
            raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(KillsBenchmark))
