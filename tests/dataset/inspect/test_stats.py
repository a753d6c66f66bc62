"""The statistics are the counts one would make by hand."""

import json
from dataclasses import replace

import duckdb
import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from datapipe.run.info import load_info, save_info
from dataset.inspect.ledger_stats import OutcomeStats
from dataset.inspect.stats import run_stats
from dataset.pack.pack import ShardLimits, pack
from filters.judge import Judge
from tests.datapipe.runs import REFERENCE_SCORES, RULES, TinyRun, good

BAD = {yaw: good(yaw, detected=False) for yaw in YAWS}


@pytest.fixture
def run(tmp_path):
    """Two good people, one with two bad views, one wholly bad, one with a blurred reference."""
    tiny = TinyRun(tmp_path)
    tiny.add("b", [{-90: good(-90, sharpness=0.0), 90: good(90, detected=False)}])
    tiny.add("a", [{}, BAD])
    tiny.add("c", [{"reference": replace(REFERENCE_SCORES, sharpness=None)}])
    for index in range(5):
        tiny.reject(f"noface{index}")
    tiny.reject("broken", "error", "exception")
    return tiny.save()


def test_a_runs_name_is_no_pattern(tmp_path):
    """Beside a run that the name would match if it were one."""
    for name, key in (("run1", "other"), ("run[1]", "own")):
        tiny = TinyRun(tmp_path, name)
        tiny.add(key)
        tiny.save()
    assert run_stats(tiny.folder, RULES).outcomes[0].examples == ["own"]


def test_the_funnel_narrows_as_counted_by_hand(run):
    """9 videos, 3 candidates, 4 identities, 28 views; 2 samples of 2 identities and 12 views."""
    funnel = run_stats(run, RULES).as_dict()["funnel"]
    assert funnel == {
        "videos": 9,
        "prepared": 3,
        "candidates": 3,
        "identities": 4,
        "views_made": 28,
        "views_detected": 20,
        "views_passed": 19,
        "views_kept": 12,
        "identities_kept": 2,
        "samples_kept": 2,
        "samples_packed": None,
    }


def test_every_yaw_accounts_for_all_its_views(run):
    """Made = passed + the views that some rule rejects, each under its first reason."""
    stats = run_stats(run, RULES)
    assert list(stats.yaws) == list(YAWS)
    for yaw in stats.yaws.values():
        assert yaw.made == yaw.passed + yaw.reasons.total() == 4
    assert stats.yaws[-90].reasons == {"blurred": 1, "not_detected": 1}
    assert (stats.yaws[-90].detected, stats.yaws[-90].passed, stats.yaws[-90].kept) == (3, 2, 1)
    reasons = [(found.of, found.reason, found.count, found.examples) for found in stats.reasons]
    assert reasons == [
        ("identity", "reference_blurred", 1, ["c"]),
        ("identity", "too_few_views", 1, ["a"]),
        ("view", "not_detected", 8, ["a", "b"]),
        ("view", "blurred", 1, ["b"]),
    ]


def test_outcomes_come_with_the_first_three_keys(run):
    """Every reason has a count and keys to look at."""
    assert run_stats(run, RULES).outcomes == [
        OutcomeStats("candidate", None, 3, ["a", "b", "c"]),
        OutcomeStats("error", "exception", 1, ["broken"]),
        OutcomeStats("rejected", "no_face", 5, ["noface0", "noface1", "noface2"]),
    ]


def test_seconds_cover_the_stages_that_were_timed(run):
    """Only samples that went through a stage count for it."""
    (stage,) = run_stats(run, RULES).seconds
    assert (stage.stage, stage.videos, stage.total, stage.median) == ("synthesize", 3, 6.0, 2.0)


def test_what_is_kept_is_what_is_packed(run):
    """Counting and packing come to the same numbers, and say whether the rules were the same."""
    before = run_stats(run, RULES)
    assert (before.packed, before.packed_with_these_rules) == (None, None)
    pack(run, run.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    stats = run_stats(run, RULES)
    assert stats.packed is not None
    assert stats.packed.samples == stats.samples_kept
    assert stats.packed.identities == stats.identities_kept
    assert stats.packed.views == {str(yaw): found.kept for yaw, found in stats.yaws.items()}
    assert stats.packed_with_these_rules is True
    assert run_stats(run, replace(RULES, minimum_views=1)).packed_with_these_rules is False


def test_counts_agree_with_the_judge_of_rows(run):
    """Vectorised counting and the judge that explains single samples tell the same story."""
    passed = 0
    for key in ("a", "b", "c"):
        of = f"WHERE key = '{key}' ORDER BY identity"
        tables = (
            duckdb.sql(f"FROM read_parquet('{run.local}/{name}/*') {of}").to_arrow_table()
            for name in ("references", "views")
        )
        verdict = Judge(RULES).rows(*(table.to_pylist() for table in tables))
        for identity in verdict.identities:
            passed += sum(view.passed for view in identity.views.values())
    assert run_stats(run, RULES).views("passed") == passed


def test_an_empty_run_has_statistics(tmp_path):
    """No rows at all is no error, and the JSON is JSON."""
    stats = run_stats(TinyRun(tmp_path).folder, RULES)
    assert stats.videos == 0
    assert json.loads(json.dumps(stats.as_dict()))["yaws"] == []


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """The message says what makes one."""
    with pytest.raises(UserError, match=r"no run\.json"):
        run_stats(Folder(tmp_path), RULES)


def test_accepted_views_are_counted_against_the_seconds_that_made_them(run):
    """Passing views over the seconds of `synthesize`, of GPUs where its workers hold some."""
    rate = run_stats(run, RULES).accepted
    assert (rate.views, rate.seconds, rate.unit) == (5 + 7 + 7, 3 * 2.0, "cpu")
    save_info(run, replace(load_info(run), gpus={"synthesize": 0.5}))
    rate = run_stats(run, RULES).accepted
    assert (rate.per_second, rate.unit) == (19 / 3.0, "gpu")
    save_info(run, replace(load_info(run), settings={"engine": {"engine": "none"}}))
    assert run_stats(run, RULES).accepted is None
