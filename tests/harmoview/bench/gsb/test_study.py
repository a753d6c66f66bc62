"""Laws of a blind study: what packages give away, which answers are taken, what they say."""

import json
from collections import Counter

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from harmoview.bench.gsb.answers import import_answers
from harmoview.bench.gsb.plan import plan
from harmoview.bench.gsb.study import study_results
from harmoview.bench.run import VideoKey
from tests.harmoview.bench.gsb.studies import (
    METHODS,
    answer,
    page_data,
    write_run,
    write_study,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def study(run, tmp_path):
    return write_study(run, tmp_path / "study")


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def packages(study):
    return sorted(path for path in study.iterdir() if path.is_dir())


@settings(max_examples=40, deadline=None)
@given(
    cases=st.integers(1, 40),
    opponents=st.integers(1, 4),
    rounds=st.integers(1, 3),
    session=st.integers(5, 60),
    seed=st.integers(0, 9),
)
def test_every_pair_is_judged_once_a_round_on_balanced_sides(
    cases, opponents, rounds, session, seed
):
    """Sessions are short enough, one item in ten or more is a check, repeats follow their pair."""
    keys = [VideoKey("ours", f"c{k}", 0) for k in range(cases)]
    pairs = {f"m{k}": keys for k in range(opponents)}
    made = plan("ours", pairs, rounds=rounds, session=session, axes=("overall",), seed=seed)
    for number in range(1, rounds + 1):
        mine = [package.items for package in made.packages if package.round == number]
        real = [item for items in mine for item in items if item.kind == "pair"]
        assert Counter((i.opponent, i.case) for i in real) == {
            (name, key.case): 1 for name in pairs for key in keys
        }
        for name in pairs:
            left = sum(item.left == "ours" for item in real if item.opponent == name)
            assert abs(2 * left - cases) <= 1
    for package in made.packages:
        assert len(package.items) <= session
        checks = [item for item in package.items if item.kind != "pair"]
        assert len(checks) >= 0.1 * len(package.items)
        place = {item.id: k for k, item in enumerate(package.items)}
        assert len(place) == len(package.items)
        for item in checks:
            if item.kind == "repeat":
                before = package.items[place[item.repeats]]
                assert place[item.repeats] < place[item.id]
                assert (before.left, before.right) == (item.right, item.left)


def test_nothing_in_a_package_tells_whose_a_video_is(study):
    """No method is named, no file by its case; all are of one size and rate, without sound."""
    told = [*METHODS, "blurred", "bench", "HarmoView"]
    for package in packages(study):
        page = (package / "index.html").read_text()
        names = [path.name for path in package.rglob("*")]
        data = json.dumps(page_data(package))
        assert not [word for word in told if word in data or any(word in n for n in names)]
        assert not [name for name in names if "solo" in name or "anna" in name]
        assert str(study) not in page
        for path in (package / "media").iterdir():
            with av.open(str(path)) as video:
                assert [stream.type for stream in video.streams] == ["video"]
                stream = video.streams.video[0]
                assert (stream.width, stream.height) == (480, 480)
                assert float(stream.average_rate) == 16
                marks = {*video.metadata, *stream.metadata}
                assert marks <= {"major_brand", "minor_version", "compatible_brands", "language",
                                 "handler_name", "vendor_id", "encoder"}  # fmt: skip
                assert "x264" not in stream.metadata.get("encoder", "")
    assert {path.name for path in study.iterdir() if path.is_file()} == {"key.json", "plan.json"}


def test_native_copies_keep_size_and_pictures_and_nothing_else(run, tmp_path):
    """The bytes of the pictures are the run's own; the plan records it."""
    study = write_study(run, tmp_path / "study", raters=1, keep_native=True, opponents=("theirs",))
    sizes = set()
    for path in (packages(study)[0] / "media").iterdir():
        with av.open(str(path)) as video:
            sizes.add((video.streams.video[0].width, video.streams.video[0].height))
    assert {(128, 128), (160, 128)} <= sizes <= {(128, 128), (160, 128), (480, 480)}
    assert json.loads((study / "plan.json").read_text())["settings"]["keep_native"] is True


def test_the_same_run_and_seed_give_the_same_study(run, study, tmp_path):
    """Byte by byte; another seed gives other names and packages."""
    assert files(write_study(run, tmp_path / "again")) == files(study)
    other = files(write_study(run, tmp_path / "other", seed=1))
    assert not {n for n in other if "media" in n} & {n for n in files(study) if "media" in n}


def test_a_folder_with_a_study_is_left_alone(run, study):
    """Its key would no longer fit the packages that raters have."""
    with pytest.raises(UserError, match="holds a study already"):
        write_study(run, study)


def test_methods_that_cannot_be_compared_are_told(run, tmp_path):
    """One without videos, and the base against itself."""
    with pytest.raises(UserError, match="no videos of 'nobody'"):
        write_study(run, tmp_path / "s", base="nobody")
    with pytest.raises(UserError, match="needs other methods"):
        write_study(run, tmp_path / "s", opponents=("ours",))


def chooser(study, package, prefer):
    """Votes by the key: `prefer` gets an item of it and says a method or None for the same."""
    items = json.loads((study / "key.json").read_text())["packages"][package.name]

    def choose(name, axis):
        wanted = prefer(items[name])
        sides = {items[name][side]: side for side in ("left", "right")}
        return sides.get(wanted, "same")

    return choose


def honest(item):
    """Sees the blur, sees that a video equals itself, likes ours better than theirs."""
    if item["kind"] == "identical":
        return None
    return "ours" if item["opponent"] == "theirs" or item["kind"] == "gold" else None


def test_answers_come_back_as_the_votes_that_were_given(study):
    """Ours is better than theirs in each of four cases, and the same as the third in three."""
    for package in packages(study):
        rater = "Ada" if package.name.startswith("package-1") else "Bob"
        file = answer(package, rater, chooser(study, package, honest))
        import_answers(Folder(study), [file])
    found = study_results(Folder(study))
    one = found["axes"]["overall"]["all"]["opponents"]
    assert [one["theirs"][grade] for grade in ("good", "same", "bad")] == [4, 0, 0]
    assert [one["third"][grade] for grade in ("good", "same", "bad")] == [0, 3, 0]
    assert one["theirs"]["net_interval"] == [1.0, 1.0]
    assert one["theirs"]["p_holm"] == pytest.approx(2 * one["theirs"]["p"])
    assert one["theirs"]["agreement"] == 1
    strengths = found["axes"]["overall"]["all"]["strengths"]
    assert strengths["ours"]["elo"] == 0 > strengths["theirs"]["elo"]
    assert [rater["name"] for rater in found["raters"]] == ["ada", "bob"]
    assert not any(rater["excluded"] for rater in found["raters"])
    assert found["packages"]["answered"] == found["packages"]["of"]


def test_who_fails_the_checks_is_left_out_beside_the_whole(run, tmp_path):
    """A rater who always says left is told, and counts only in the table of all."""
    study = write_study(run, tmp_path / "study", session=60, raters=2)
    key = json.loads((study / "key.json").read_text())
    for package in packages(study):  # make every check of the second round a gold item
        if package.name.startswith("package-2"):
            for item in key["packages"][package.name].values():
                if item["kind"] in ("identical", "repeat"):
                    item |= {"kind": "gold", "left": "blurred", "right": "ours", "repeats": ""}
        (study / "key.json").write_text(json.dumps(key))
    plan_ = json.loads((study / "plan.json").read_text())
    plan_["exclusion"]["wrong_gold"] = 0
    (study / "plan.json").write_text(json.dumps(plan_))
    first, second = packages(study)
    import_answers(Folder(study), [answer(first, "Ada", chooser(study, first, honest))])
    import_answers(Folder(study), [answer(second, "Lefty", lambda item, axis: "left")])
    found = study_results(Folder(study))
    by_name = {rater["name"]: rater for rater in found["raters"]}
    assert by_name["lefty"]["excluded"]
    assert not by_name["ada"]["excluded"]
    overall = found["axes"]["overall"]
    assert overall["without_excluded"]["opponents"]["theirs"]["good"] == 4
    assert overall["all"]["opponents"]["theirs"]["alpha_ordinal"] is not None
    assert overall["without_excluded"]["opponents"]["theirs"]["alpha_ordinal"] is None


def spoilt(change):
    def write(file):
        data = json.loads(file.read_text())
        change(data)
        file.write_text(json.dumps(data))

    return write


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoilt(lambda d: d.update(package="0" * 64)), "not of this study"),
        (spoilt(lambda d: d["answers"][0].update(item="nowhere")), "has no item"),
        (spoilt(lambda d: d["answers"][0].update(axis="taste")), "nobody was asked"),
        (spoilt(lambda d: d["answers"][0].update(vote="G")), "is no vote"),
        (spoilt(lambda d: d["answers"].append(d["answers"][0])), "two votes"),
        (spoilt(lambda d: d.update(rater=" ")), "names no rater"),
        (spoilt(lambda d: d.update(answers=[])), "holds no answers"),
        (lambda file: file.write_text("{"), "cannot be read"),
    ],
)
def test_wrong_answers_are_refused_and_nothing_is_kept(study, spoil, told):
    """Foreign packages, unknown items, doubled votes, no rater: one sentence names the file."""
    first, second = packages(study)[:2]
    good = answer(first, "Ada", lambda item, axis: "same")
    bad = answer(second, "Ada", lambda item, axis: "same")
    spoil(bad)
    with pytest.raises(UserError, match=told):
        import_answers(Folder(study), [good, bad])
    assert not (study / "answers").exists()


def test_nobody_votes_twice(study):
    """A package is answered once, and one person answers packages of one round."""
    same = {p: answer(p, "Ada", lambda item, axis: "same") for p in packages(study)}
    first, last = packages(study)[0], packages(study)[-1]
    import_answers(Folder(study), [same[first]])
    with pytest.raises(UserError, match="answered already"):
        import_answers(Folder(study), [same[first]])
    with pytest.raises(UserError, match="of rounds 1 and 2"):
        import_answers(Folder(study), [same[last]])
