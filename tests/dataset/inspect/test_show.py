"""The story of a sample is what the run's files hold of it."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from datapipe.run.info import save_info
from datapipe.run.tables import put_scores
from dataset.inspect.show import shard_of, tell
from dataset.pack.pack import ShardLimits, pack
from tests.datapipe.runs import LABELS, REFERENCE, RULES, TinyRun, good

BAD = {yaw: good(yaw, detected=False) for yaw in YAWS}
KEYS = [f"walk-{letter}" for letter in "gbfdaec"]


def told(run, key, **options):
    return tell(run, key, RULES, options.get("packed"))


def packed(run, **options):
    manifest = pack(
        run, run.folder("shards"), RULES, ShardLimits(samples=2), lambda *_: None, **options
    )
    return manifest, RULES


@pytest.fixture
def tiny(tmp_path):
    """Seven candidates out of order, of which one is left out, and two others."""
    run = TinyRun(tmp_path)
    for key in KEYS:
        run.add(key, [BAD] if key == "walk-d" else [{}, {30: good(30, measured_yaw=55.0)}])
    run.reject("noface")
    run.reject("broken", "error", "exception")
    run.save()
    return run


def test_a_candidate_is_told_whole(tiny):
    """Where the reference was cut, what was measured, what is decided, and by how much."""
    story = told(tiny.folder, "walk-a").as_dict()
    assert json.loads(json.dumps(story)) == story
    assert story["outcome"] == "candidate"
    assert story["provenance"] == {"engine": "noise"}
    first, second = story["identities"]
    assert first["reference"]["box"] == list(REFERENCE.box)
    assert first["reference"]["pose"] == {"yaw": -3.0, "pitch": 2.0, "roll": 0.5}
    assert [view["yaw"] for view in second["views"]] == list(YAWS)
    (failed,) = [view for view in second["views"] if not view["decision"]["passed"]]
    assert (failed["yaw"], failed["seed"], failed["scores"]["measured_yaw"]) == (30, 1030, 55.0)
    assert failed["decision"]["reason"] == "pose"
    assert "+55.00° measured, +20° to +40° is needed" in failed["decision"]["detail"]


@pytest.mark.parametrize(("key", "outcome"), [("noface", "rejected"), ("broken", "error")])
def test_what_never_became_a_candidate_says_why(tiny, key, outcome):
    """The reason and the detail of the ledger, and a picture of them."""
    story = told(tiny.folder, key)
    assert story.as_dict()["outcome"] == outcome
    assert story.as_dict()["detail"] == f"about {key}"
    assert story.as_dict()["identities"] == []
    assert Image.open(io.BytesIO(story.picture())).format == "JPEG"


def test_the_picture_shows_every_identity(tiny):
    """A row of pictures for each of them."""
    one, two = (
        np.asarray(Image.open(io.BytesIO(told(tiny.folder, key).picture())))
        for key in ("walk-d", "walk-a")
    )
    assert two.shape[0] > one.shape[0] + 176


def test_every_shard_named_holds_the_sample(tiny):
    """As the members of the shards say; what is in none is said to be left out."""
    pack_and_rules = packed(tiny.folder)
    where = {}
    for name in tiny.folder.names("shards/*.tar"):
        with tarfile.open(fileobj=io.BytesIO(tiny.folder.read(name))) as tar:
            where |= {member.name.split(".")[0]: name for member in tar}
    assert len(where) == len(KEYS) - 1
    for key in KEYS:
        found = told(tiny.folder, key, packed=pack_and_rules).packed
        assert f"shards/{found.shard}" == where.get(key, "shards/None")
        assert ("too_few_views" in (found.why_not or "")) == (key == "walk-d")


def test_a_sample_that_pack_skipped_is_in_no_shard(tiny):
    """Passing the rules is not enough when the candidate was damaged."""
    name = tiny.store.name("walk-b")
    stored = tiny.folder.read(name)
    tiny.folder.put(name, b"damaged")
    pack_and_rules = packed(tiny.folder, skip_damaged=True)
    tiny.folder.put(name, stored)
    assert "skipped" in told(tiny.folder, "walk-b", packed=pack_and_rules).packed.why_not
    assert told(tiny.folder, "walk-c", packed=pack_and_rules).packed.shard == "000000.tar"


def test_a_key_before_all_shards_is_in_none(tiny):
    """The search ends also there."""
    manifest, _ = packed(tiny.folder)
    assert shard_of(tiny.folder.folder("shards"), manifest, "a") is None


def test_a_damaged_shard_is_named(tiny):
    """With what to do about it."""
    pack_and_rules = packed(tiny.folder)
    for name in tiny.folder.names("shards/*.tar"):
        tiny.folder.put(name, b"x" * 1000)
    with pytest.raises(UserError, match=r"\.tar cannot be read.*harmoview verify"):
        told(tiny.folder, "walk-b", packed=pack_and_rules)


def test_scores_measured_again_are_those_shown(tmp_path):
    """The current generation counts, in whatever segment it holds the sample."""
    run = TinyRun(tmp_path)
    for key in ("a", "b"):
        run.add(key)
    first, second = run.samples
    run.save()
    identity = second.identities[0]
    views = tuple(replace(view, scores=good(view.yaw, sharpness=0.5)) for view in identity.views)
    again = replace(second, identities=(replace(identity, views=views),))
    put_scores(run.folder, [first], LABELS, "g0001-r000000.parquet")
    put_scores(run.folder, [again], LABELS, "g0001-r000001.parquet")
    save_info(run.folder, replace(run.info, scoring=replace(run.info.scoring, generation=1)))
    (shown,) = told(run.folder, "b").as_dict()["identities"]
    assert {view["scores"]["sharpness"] for view in shown["views"]} == {0.5}


def test_a_lost_candidate_leaves_its_numbers(tiny):
    """The tables still tell what was decided; the problem is named."""
    tiny.folder.delete(tiny.store.name("walk-a"))
    story = told(tiny.folder, "walk-a")
    assert "is missing" in story.problem
    assert len(story.as_dict()["identities"]) == 2
    assert story.as_dict()["identities"][0]["reference"]["box"] is None
    assert story.picture()


def test_incomplete_scores_are_a_problem_and_no_verdict(tiny):
    """Nothing is decided on half of the views."""
    for name in tiny.folder.names("views/*"):
        tiny.folder.delete(name)
    for name in tiny.folder.names("references/*"):
        tiny.folder.delete(name)
    story = told(tiny.folder, "walk-a")
    assert "no complete scores" in story.problem
    assert story.verdicts == ()
    assert story.picture()


def test_the_clip_is_looked_at(tmp_path):
    """Gone, changed or there, as it is now; one on another storage is not asked for."""
    run = TinyRun(tmp_path)
    there, _, gone = run.add("there"), run.add("changed", size=7), run.add("gone")
    run.save()
    gone.unlink()
    assert told(run.folder, "there").clip.bytes == there.stat().st_size
    assert "and had 7 when it was prepared" in told(run.folder, "changed").clip.problem
    assert "No such file" in told(run.folder, "gone").clip.problem


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("walk-z", "the nearest keys are walk-"),
        ("clips/walk-b.mp4", "that is a path, and its key is walk-b"),
        ("../../etc/passwd", "keys have no dots and slashes"),
        ("", "the nearest keys are"),
    ],
)
def test_an_unknown_key_is_answered_with_near_ones(tiny, key, says):
    """And no file outside the run is looked for."""
    with pytest.raises(UserError, match=says):
        told(tiny.folder, key)


def test_a_candidate_that_is_not_in_the_ledger_yet_is_said_to_be_so(tiny):
    """As a driver leaves it that was killed."""
    tiny.add("late")
    with pytest.raises(UserError, match="a candidate of it is stored"):
        told(tiny.folder, "late")


def test_a_run_on_an_object_store_is_told_alike(tmp_path, s3_bucket):
    """The same story, shard and picture as from a disk."""
    stories = []
    for where in (str(tmp_path / "run"), f"{s3_bucket}/show"):
        run = TinyRun(tmp_path, where if "://" in where else "run")
        run.add("one", [{30: good(30, measured_yaw=55.0)}])
        run.add("two")
        run.save()
        story = told(Folder(where), "one", packed=packed(run.folder))
        stories.append((story.as_dict(), story.picture()))
    assert stories[0] == stories[1]
