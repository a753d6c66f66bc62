"""Real views beside synthesised ones: what is packed, counted, shown and judged of them."""

import io
import json
import tarfile
from dataclasses import replace

import pytest
from PIL import Image

from datapipe.record import YAWS
from datapipe.run.store import CandidateStore
from dataset.inspect.contact import TILE
from dataset.inspect.diff import rules_diff
from dataset.inspect.show import tell
from dataset.inspect.stats import run_stats
from dataset.pack.pack import ShardLimits, pack
from dataset.run import Run
from tests.datapipe.runs import RULES, TinyRun, good, picture

PREFER = replace(RULES, prefer_real=True, real=replace(RULES.real, tolerance=7.5))
REAL = {
    30: good(30, sharpness=0.5, measured_yaw=33.0),
    60: good(60, sharpness=0.1),  # under the rules for all views
    -30: good(-30, measured_yaw=-38.0),  # within those, not within those for real views
    90: good(90, sharpness=0.4),
}
PREFERRED = [30, 90]


@pytest.fixture
def run(tmp_path):
    """One whose only person turns to four yaws, and one with nothing real; both are kept."""
    tiny = TinyRun(tmp_path, real_views="keep")
    tiny.add("turns", [{90: good(90, detected=False)}], real=REAL)
    tiny.add("still")
    return tiny.save()


def members(run, rules):
    pack(run, run.folder("shards"), rules, ShardLimits(), lambda *_: None)
    with tarfile.open(fileobj=io.BytesIO(run.folder("shards").read("000000.tar"))) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


@pytest.mark.parametrize("rules", [RULES, PREFER], ids=["synthesised", "real"])
def test_a_shard_has_the_views_that_the_rules_choose_under_one_name(run, rules):
    """A real view where it is preferred and passes both the rules for real and those for all views;
    each is named by its yaw, and the description says where it is from and its moment."""
    found = members(run, rules)
    described = json.loads(found["turns.json"])["identities"][0]["views"]
    real = PREFERRED if rules.prefer_real else []
    for yaw in YAWS:
        name = f"turns.id0.yaw{yaw:+03d}.jpg"
        if yaw == 90 and not real:
            assert name not in found
            continue
        made = yaw not in real
        assert found[name] == picture(yaw + (200 if made else 500))
        view = described[str(yaw)]
        assert view["source"] == ("synthesised" if made else "real")
        assert view["timestamp"] == (None if made else 0.5 + yaw / 100)
    assert not any("real" in name for name in found)


def test_both_kinds_are_in_the_candidate_whatever_is_packed(run):
    """Rules change what is taken, never what is stored."""
    before = run.read(CandidateStore.name("turns"))
    for rules in (PREFER, RULES):
        members(run, rules)
    assert run.read(CandidateStore.name("turns")) == before
    with tarfile.open(fileobj=io.BytesIO(before)) as tar:
        names = {name for name in tar.getnames() if "real" in name}
    assert names == {f"turns.id0.real{yaw:+03d}.jpg" for yaw in REAL}


@pytest.mark.parametrize("rules", [RULES, PREFER], ids=["synthesised", "real"])
def test_statistics_count_whom_the_corpus_shows(run, rules):
    """By yaw but 0: everyone, those with a real view, what is kept of them; then the engine against
    what is real, at the yaws that have both."""
    stats = run_stats(run, rules)
    assert stats.real is not None
    coverage = {one.yaw: (one.identities, one.real) for one in stats.real.coverage}
    assert coverage == {yaw: (2, int(yaw in REAL)) for yaw in YAWS if yaw}
    kept = {one.yaw for one in stats.real.coverage if one.kept}
    assert kept == ({*PREFERRED} if rules.prefer_real else set())
    assert all(0 <= one.low <= one.share <= one.high <= 1 for one in stats.real.coverage)
    engine = {one.yaw: one for one in stats.real.engine}
    assert set(engine) == set(REAL)
    assert engine[30].pairs == 1
    assert engine[30].cosine.mean == pytest.approx(0.6)
    assert engine[30].turn.mean == pytest.approx(3.0)
    assert engine[30].sharpness.mean == pytest.approx(1800.0)
    assert stats.real.spared == len(REAL) / (2 * len(YAWS))
    json.dumps(stats.as_dict())


def test_an_interval_holds_no_value_that_the_mean_cannot_have(tmp_path):
    """Degrees between two yaws and a ratio are no less than 0, also where two pairs differ widely;
    at the other end the interval is as wide as ever."""
    tiny = TinyRun(tmp_path, real_views="keep")
    for key, apart in (("one", 0.0), ("two", 25.0)):
        made = good(30, sharpness=1800.0 * (1 + apart))
        tiny.add(key, [{30: made}], real={30: good(30, measured_yaw=30 + apart)})
    (engine,) = run_stats(tiny.save(), RULES).real.engine
    for found in (engine.turn, engine.sharpness):
        assert found.count == 2
        assert found.low == 0
        assert found.high > 2 * found.mean


def test_another_picture_of_a_yaw_is_a_change_of_the_sample(tmp_path):
    """Rules that take the real view where both pass change what is packed, and nothing is lost."""
    tiny = TinyRun(tmp_path, real_views="keep")
    tiny.add("turns", real={30: REAL[30]})
    tiny.add("still")
    run = tiny.save()
    assert rules_diff(run, RULES, PREFER, 0).changed_samples == 1
    assert rules_diff(run, RULES, RULES, 0).changed_samples == 0


def test_every_yaw_is_counted_once(run):
    """Two pictures at a yaw are one view of the funnel, also where both are kept in the run."""
    for rules in (RULES, PREFER):
        stats = run_stats(run, rules)
        assert all(yaw.made == 2 for yaw in stats.yaws.values())
    assert stats.identities_kept == 2
    assert stats.yaws[90].passed == 2


def test_a_table_of_verdicts_has_one_view_at_a_yaw(run):
    """The one that counts, with its own scores."""
    for rules in (RULES, PREFER):
        rows = [row for row in Run(run.url).views(rules).to_pylist() if row["key"] == "turns"]
        assert [row["yaw"] for row in rows] == list(YAWS)
        real = [row["yaw"] for row in rows if row["source"] == "real"]
        assert real == (PREFERRED if rules.prefer_real else [])


def test_the_story_of_a_sample_has_the_view_taken_and_the_one_passed_over(run):
    """Each with its scores."""
    for rules in (RULES, PREFER):
        (identity,) = tell(run, "turns", rules, None).as_dict()["identities"]
        taken = {view["yaw"]: view["source"] for view in identity["views"]}
        other = {view["yaw"]: view["source"] for view in identity["passed_over"]}
        assert set(taken) == set(YAWS)
        assert set(other) == set(REAL)
        assert all(taken[yaw] != other[yaw] for yaw in other)
        assert [yaw for yaw in YAWS if taken[yaw] == "real"] == (
            PREFERRED if rules.prefer_real else []
        )


def test_the_picture_of_a_sample_shows_both_kinds(run):
    """In a row below, where a yaw has both; a sample with one kind has no such row."""
    sizes = {}
    for key in ("turns", "still"):
        with Image.open(io.BytesIO(tell(run, key, RULES, None).picture())) as picture:
            sizes[key] = picture.size
    assert sizes["turns"][1] - sizes["still"][1] > TILE


def test_a_run_that_looked_for_none_has_no_table(tmp_path):
    """Nothing is said of what was not measured."""
    tiny = TinyRun(tmp_path)
    tiny.add("still")
    assert run_stats(tiny.save(), RULES).real is None
