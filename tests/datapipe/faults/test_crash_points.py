"""At every crash point of docs/reliability.md: what is on the disk is sound, and a rerun ends as if
nothing had been."""

import shutil

import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line import drive, rescore
from datapipe.run.info import load_info
from datapipe.run.rows import SCORED
from datapipe.run.store import CandidateStore
from datapipe.run.tables import tables
from dataset.judged import RowColumns, candidate_rows
from dataset.pack.pack import ShardLimits, pack
from dataset.pack.verify import verify
from tests.datapipe.fast_line import calls, contents, work
from tests.datapipe.faults import crash
from tests.datapipe.runs import RULES, TinyRun

CANDIDATES = [CandidateStore.name(f"k{n:04d}") for n in range(crash.SAMPLES)]


def segment(number, generation=0, kind=""):
    return [f"{table}/g{generation:04d}-{kind}{number:06d}.parquet" for table in SCORED]


LINE = [
    "run.json",
    *CANDIDATES[:2],
    *segment(0),
    "ledger/000000.parquet",
    *CANDIDATES[2:],
    *segment(1),
    "ledger/000001.parquet",
]
SCORE = [
    "run.json",
    *segment(0, 1, "r"),
    *segment(1, 1, "r"),
    "run.json",
    *(f"-{table}/g0000-{n:06d}.parquet" for table in reversed(SCORED) for n in range(2)),
]
PACK = [
    "packing.json",
    "-manifest.json",
    "-000000.tar",
    "-README.md",
    "000000.tar",
    "packing.json",
    "000001.tar",
    "packing.json",
    "000002.tar",
    "README.md",
    "manifest.json",
    "-packing.json",
]


def points(effects):
    """Just before each effect, and just after the last.

    Just after any other is just before the next, which leaves a temporary file besides.
    """
    return [
        *(pytest.param(n, "before", id=f"before {n} {name}") for n, name in enumerate(effects)),
        pytest.param(len(effects) - 1, "after", id=f"after {effects[-1]}"),
    ]


def there(folder):
    """The files that readers see."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing befell."""
    root = tmp_path_factory.mktemp("whole")
    assert crash.effects(crash.synthesize, root) == LINE
    return root / "run"


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    """As in the processes that die."""
    monkeypatch.setattr(drive, "SEGMENT_ROWS", 2)
    monkeypatch.setattr(rescore, "SEGMENT_ROWS", 2)


@pytest.mark.parametrize(("number", "how"), points(LINE))
def test_synthesize_killed_at_any_effect_continues(tmp_path, whole, number, how):
    """Everything before the point is there and nothing else; the rerun ends as the whole run, and
    synthesises no stored candidate again."""
    crash.die(crash.synthesize, tmp_path, number, how)
    run = tmp_path / "run"
    assert there(run) == set(LINE[: number + (how == "after")])
    crash.synthesize(tmp_path)
    assert contents(run) == contents(whole)
    assert there(run) == there(whole)
    assert {kind for _, kind in calls(tmp_path / "calls")} == {"first"}


@pytest.mark.slow
def test_a_rerun_that_dies_too_continues(tmp_path, whole):
    """At any effect of its own, the deletion of half a segment among them."""
    number = LINE.index("ledger/000000.parquet")
    crash.die(crash.synthesize, tmp_path / "once", number, "before")
    shutil.copytree(tmp_path / "once", tmp_path / "end")
    rerun = crash.effects(crash.synthesize, tmp_path / "end")
    assert rerun[: len(SCORED)] == [f"-{name}" for name in segment(0)]
    for number in range(len(rerun)):
        root = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "once", root)
        crash.die(crash.synthesize, root, number, "before")
        crash.synthesize(root)
        assert contents(root / "run") == contents(whole)
        assert there(root / "run") == there(whole)
        assert {kind for _, kind in calls(root / "calls")} == {"first"}


@pytest.mark.parametrize("number", range(3))
def test_retry_errors_killed_at_any_effect_continues(tmp_path, whole, number):
    """Errors that were taken out of the ledger are samples that were not done yet."""
    run, log = tmp_path / "run", tmp_path / "calls"
    bad = {"k0001": "throw", "k0003": "throw"}
    assert work(run, crash.SAMPLES, log, ray=False, poison=bad)["error"] == 2
    crash.die(crash.retry_errors, tmp_path, number, "before")
    crash.retry_errors(tmp_path)
    assert contents(run) == contents(whole)


@pytest.fixture(scope="module")
def packable(tmp_path_factory):
    """Three candidates, packed into one shard."""
    root = tmp_path_factory.mktemp("packable")
    tiny = TinyRun(root)
    for key in "abc":
        tiny.add(key)
    run = tiny.save(per_segment=2)
    pack(run, run.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    return root


@pytest.fixture(scope="module")
def packed(packable, tmp_path_factory):
    """The shards of a pack, one sample each, that nothing befell."""
    root = tmp_path_factory.mktemp("packed") / "root"
    shutil.copytree(packable, root)
    crash.pack_one_each(root)
    return {name: (root / "run/shards" / name).read_bytes() for name in there(root / "run/shards")}


def aesthetics(run):
    """Of all views, as pack reads them."""
    with tables(run, load_info(run)) as connection:
        found = [row for batch in candidate_rows(connection, 9, RowColumns()) for row in
                 batch.views.to_pylist()]  # fmt: skip
    assert len(found) == len({(row["key"], row["yaw"]) for row in found}) == 3 * 7
    return {row["aesthetic"] for row in found}


def test_the_effects_of_score_and_pack_are_those_of_the_page(packable, tmp_path):
    """In this order."""
    for job, wanted in ((crash.score, SCORE), (crash.pack_one_each, PACK)):
        root = tmp_path / job.__name__
        shutil.copytree(packable, root)
        assert crash.effects(job, root) == wanted


@pytest.mark.parametrize(("number", "how"), points(SCORE))
def test_score_killed_at_any_effect_continues(tmp_path, packable, number, how):
    """A reader finds the old scores of all views until the switch, then the new ones of all; the
    rerun leaves the new ones. Old ones that the killed job did not come to delete stay until the
    next scoring, unread."""
    root = tmp_path / "root"
    shutil.copytree(packable, root)
    crash.die(crash.score, root, number, how)
    run = Folder(root / "run")
    past = number + (how == "after")
    switched = past > SCORE.index("run.json", 1)
    assert aesthetics(run) == ({7.0} if switched else {80.0})
    crash.score(root)
    assert aesthetics(run) == {7.0}
    stale = {name for name in there(root / "run") if "g0000" in name}
    assert stale == ({name[1:] for name in SCORE[past:]} if switched else set())


@pytest.mark.parametrize(("number", "how"), points(PACK))
def test_pack_killed_at_any_effect_continues(tmp_path, packable, packed, number, how):
    """No manifest names a shard that is not there whole; the rerun gives the bytes of a pack that
    was not interrupted."""
    root = tmp_path / "root"
    shutil.copytree(packable, root)
    shards = Folder(root / "run" / "shards")
    crash.die(crash.pack_one_each, root, number, how)
    if shards.exists("manifest.json"):
        assert list(verify(shards, lambda *_: None)) == []
    else:
        with pytest.raises(UserError, match="did not finish"):
            list(verify(shards, lambda *_: None))
    crash.pack_one_each(root)
    assert {name: shards.read(name) for name in there(shards.local)} == packed
