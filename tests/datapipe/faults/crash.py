"""Jobs that die at one durable effect, by SIGKILL in a process of their own.

On a disk every durable effect is a `Folder.create` (also by way of `put`) or a `Folder.delete`.
"""

import os
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path

from datapipe.claim import locked
from datapipe.files import Folder
from datapipe.line import drive, rescore
from datapipe.line.line import LocalLine
from datapipe.run.info import Scoring, load_info
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from dataset.pack.pack import ShardLimits, pack
from tests.datapipe.fast_line import Flat, work
from tests.datapipe.runs import RULES
from tests.processes import forked

SAMPLES = 4
OTHER = {"aesthetic_scorer": "other", "recogniser": "none", "pose_estimator": "none"}


def synthesize(root):
    """The line over four videos, two to a segment."""
    drive.SEGMENT_ROWS = 2
    work(root / "run", SAMPLES, root / "calls", ray=False)


def retry_errors(root):
    """`synthesize --retry-errors`."""
    drive.SEGMENT_ROWS = 2
    with locked(run := Folder(root / "run")):
        Ledger(run).drop_errors()
    synthesize(root)


def score(root):
    """All candidates anew, two to a segment."""
    rescore.SEGMENT_ROWS = 2
    run = Folder(root / "run")
    with locked(run):
        info = load_info(run)
        if info.scoring.labels == OTHER:
            return
        line = LocalLine([Flat(CandidateStore(run, info.settings_hash))])
        begun = rescore.begin_scoring(run, info, Scoring(0, {"n": 1}, OTHER))
        rescore.rescore(run, begun, line, lambda _: None)


def pack_one_each(root):
    """One sample a shard."""
    run = Folder(root / "run")
    pack(run, run.folder("shards"), RULES, ShardLimits(samples=1), lambda *_: None)


def effects(job, root):
    """Run a job to its end in a process of its own; what it put and deleted, in order."""
    log = root / "effects"
    log.unlink(missing_ok=True)
    assert _run(job, root, None, "", log) == 0
    return log.read_text().splitlines()


def die(job, root, number, how):
    """Run a job that dies just `before` its durable effect of that number, or just `after` it.

    Before a file appears, that is with its content written under a temporary name.
    """
    assert _run(job, root, number, how, root / "effects") == -signal.SIGKILL


def _run(job, root, number, how, log):
    process = forked().Process(target=_child, args=(job, root, number, how, log))
    process.start()
    process.join()
    return process.exitcode


def _child(job, root, number, how, log):
    create, delete, done = Folder.create, Folder.delete, []

    @contextmanager
    def at(name):
        here = len(done) == number
        if here and how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(name)
        with Path(log).open("a") as file:
            file.write(f"{name}\n")
        yield
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def dying_create(self, name):
        with ExitStack() as stack, create(self, name) as file:
            yield file
            file.flush()
            stack.enter_context(at(name))

    def dying_delete(self, name):
        if self.exists(name):
            with at(f"-{name}"):
                delete(self, name)

    Folder.create, Folder.delete = dying_create, dying_delete
    job(root)
