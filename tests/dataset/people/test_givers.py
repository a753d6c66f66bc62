"""References of other videos of the same person: whose they are, and that nobody leaks."""

import io
import json
import tarfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import YAWS
from dataset.pack.manifest import load_packed
from dataset.pack.pack import ShardLimits, pack, pack_chosen
from dataset.pack.verify import verify
from dataset.people.choose import choose
from dataset.people.givers import apart, givers, surroundings
from dataset.selection import ALL, PersonLimits
from harmoview.encode.manifest import clip_of, window_key
from jobs import pack as command
from tests.datapipe.runs import RULES, WINDOW, TinyRun, good

BAD = {yaw: good(yaw, detected=False) for yaw in YAWS}
SAME = 0.7


def quiet(*_):
    pass


def person(number):
    return tuple(float(x) for x in np.eye(8)[number])


def scene(*colours):
    """A picture whose rim has these colours in equal parts."""
    image = np.zeros((60, 60, 3), np.uint8)
    for place, colour in enumerate(colours):
        wide = 60 // len(colours)
        image[:, place * wide : (place + 1) * wide] = colour
    return encode_jpeg(image)


RED, GREEN, BLUE = (220, 30, 30), (30, 220, 30), (30, 30, 220)


@pytest.fixture
def run(tmp_path):
    """A person in four videos, two of one scene, one of which does not pass; another in two of one
    scene; one who comes once, in a video with the first."""
    tiny = TinyRun(tmp_path)
    tiny.add("a-1", faces=[person(0)], portraits=[scene(RED, RED)])
    tiny.add("a-2", faces=[person(0)], portraits=[scene(RED, RED)])
    tiny.add("a-3", [{}, {}], faces=[person(0), person(2)],
             portraits=[scene(RED, GREEN), scene(BLUE)])  # fmt: skip
    tiny.add("a-4", [BAD], faces=[person(0)], portraits=[scene(BLUE)])
    tiny.add("b-1", faces=[person(1)], portraits=[scene(GREEN)])
    tiny.add("b-2", faces=[person(1)], portraits=[scene(GREEN)])
    return tiny.save()


WANTED = {("a-1", 0): ("a-3", 0), ("a-2", 0): ("a-3", 0), ("a-3", 0): ("a-1", 0)}


def packed(run, out, beside, limits=None, show=quiet):
    given = replace(givers(run, RULES, SAME, quiet), beside=beside)
    pack(run, out, RULES, limits or ShardLimits(), show, selection=replace(ALL, references=given))
    return contents(out)


def contents(folder):
    found = {}
    for name in folder.names("*.tar"):
        with tarfile.open(fileobj=io.BytesIO(folder.read(name))) as tar:
            found |= {info.name: tar.extractfile(info).read() for info in tar}
    return found


def described(members):
    return {n: json.loads(data) for n, data in members.items() if n.endswith(".json")}


def origins(members):
    """Whose references each identity of a sample has, where it is not its own."""
    return {
        (name.removesuffix(".json"), one["identity"]): (
            one["references_from"]["key"],
            one["references_from"]["identity"],
        )
        for name, sample in described(members).items()
        for one in sample["identities"]
        if "references_from" in one
    }


def test_surroundings_differ_by_what_is_around_the_face():
    """From 0, whatever the face shows, to 1."""
    bare = np.full((128, 128, 3), 200, np.uint8)
    face = bare.copy()
    face[28:78, 40:90] = (90, 60, 50)
    other = np.full((128, 128, 3), 20, np.uint8)
    other[28:78, 40:90] = face[28:78, 40:90]
    assert apart(surroundings(bare), surroundings(face)) < 0.05
    assert apart(surroundings(face), surroundings(other)) > 0.9
    assert surroundings(face).sum() == pytest.approx(1)


def test_everyone_gets_those_of_the_scene_least_alike(run, tmp_path):
    """Of the same person, in another video, which passes; who has none in another scene keeps their
    own. Windows, clip and caption stay the clip's."""
    own = packed_own(run, tmp_path)
    members = packed(run, Folder(tmp_path / "other"), beside=False)
    assert origins(members) == WANTED
    for (key, index), (giver, number) in WANTED.items():
        for part in ("reference", *(f"yaw{yaw:+03d}" for yaw in YAWS)):
            name = f"{key}.id{index}.{part}.jpg"
            assert members[name] == own[f"{giver}.id{number}.{part}.jpg"]
    assert {n for n in members if n.startswith("b-")} == {n for n in own if n.startswith("b-")}
    for name in own:
        if name.endswith((".mp4", ".txt")) or name.startswith(("b-", "a-3.id1")):
            assert members[name] == own[name]
    before, after = described(own), described(members)
    for name, sample in after.items():
        for one, other in zip(before[name]["identities"], sample["identities"], strict=True):
            assert one["windows"] == other["windows"]
    assert not list(verify(Folder(tmp_path / "other"), quiet))
    totals = load_packed(Folder(tmp_path / "other")).totals
    assert totals.references == {"other": 3, "own": 3}
    assert (totals.samples, totals.again, totals.left_out) == (5, 0, 1)


def packed_own(run, tmp_path):
    out = Folder(tmp_path / "own")
    pack(run, out, RULES, ShardLimits(), quiet)
    return contents(out)


def test_both_are_samples_of_their_own(run, tmp_path):
    """The clip's own is as without; the other has a key behind it and is the same clip to whoever
    holds clips out."""
    own = packed_own(run, tmp_path)
    members = packed(run, Folder(tmp_path / "both"), beside=True)
    assert {name: members[name] for name in own} == own
    more = set(members) - set(own)
    keys = {name.partition(".")[0] for name in more}
    assert keys == {f"{key}+other" for key, _ in WANTED}
    assert {clip_of(window_key(key, 1.5)) for key in keys} == {key for key, _ in WANTED}
    assert not list(verify(Folder(tmp_path / "both"), quiet))
    totals = load_packed(Folder(tmp_path / "both")).totals
    assert (totals.samples, totals.again, totals.left_out) == (8, 3, 1)


def spans(*ends):
    """Windows one after the other, each a shot of its own; the reference is at 1.5 s."""
    pairs = pairwise((0.0, *ends))
    return [replace(WINDOW, start=a, end=b, shot=shot) for shot, (a, b) in enumerate(pairs)]


@pytest.fixture
def shots(tmp_path):
    """People who come once each: in three shots, in one, with the reference between two windows,
    with a real view (at .8 s) in a shot beside, two people in the same three shots."""
    tiny = TinyRun(tmp_path)
    between = [w for w in spans(1.0, 4.0, 6.0, 9.0) if w.start != 1.0]
    tiny.add("c-1", faces=[person(0)], windows=spans(3.0, 5.0, 9.0))
    tiny.add("c-2", faces=[person(1)], windows=spans(9.0))
    tiny.add("c-3", faces=[person(2)], windows=between)
    tiny.add("c-4", faces=[person(3)], windows=spans(1.0, 2.0, 4.0), real={30: good(30)})
    tiny.add("c-5", [{}, {}], faces=[person(4), person(5)], windows=spans(3.0, 5.0))
    return tiny.save()


@pytest.mark.parametrize(
    ("prefer_real", "wanted"),
    [
        (False, {"c-1": [1, 2], "c-2": [0], "c-3": [3], "c-4": [0, 2], "c-5": [1]}),
        (True, {"c-1": [1, 2], "c-2": [0], "c-3": [3], "c-4": [2], "c-5": [1]}),
    ],
)
def test_whoever_is_in_no_other_video_is_paired_with_another_shot(
    shots, tmp_path, prefer_real, wanted
):
    """Than any that its pictures were cut from or may be; without one, all windows stay."""
    out, rules = Folder(tmp_path / "out"), replace(RULES, prefer_real=prefer_real)
    pack(shots, out, rules, ShardLimits(), quiet,
         selection=replace(ALL, references=givers(shots, rules, SAME, quiet)))  # fmt: skip
    members = contents(out)
    for sample in described(members).values():
        for one in sample["identities"]:
            assert [window["shot"] for window in one["windows"]] == wanted[sample["key"]]
    named = {(key, n): (key, n) for key, n in [("c-1", 0), ("c-3", 0), ("c-4", 0)]}
    assert origins(members) == named | {("c-5", 0): ("c-5", 0), ("c-5", 1): ("c-5", 1)}
    assert load_packed(out).totals.references == {"own": 1, "shot": 5}
    assert not list(verify(out, quiet))


def test_beside_a_sample_with_all_shots_there_is_none_of_other_shots(shots, tmp_path):
    """Its references would be the same."""
    members = packed(shots, Folder(tmp_path / "both"), beside=True)
    assert members == packed_own(shots, tmp_path)


@pytest.mark.parametrize("stops", range(1, 5))
def test_an_interrupted_pack_continues_to_the_same_bytes(run, tmp_path, stops):
    """Wherever it is interrupted, no sample is there twice or missing."""
    limits = ShardLimits(samples=2)
    packed(run, Folder(tmp_path / "whole"), True, limits)

    def interrupt(counts, total):
        if counts["packed"] == stops:
            raise KeyboardInterrupt

    out = Folder(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        packed(run, out, True, limits, interrupt)
    packed(run, out, True, limits)
    for name in Folder(tmp_path / "whole").names("*"):
        assert out.read(name) == Folder(tmp_path / "whole").read(name)


def test_nobody_gives_across_a_holdout(tmp_path):
    """Whoever is in validation gives to validation alone."""
    tiny = TinyRun(tmp_path)
    for number in range(8):
        for video, colour in enumerate((RED, GREEN, BLUE)):
            tiny.add(f"p{number}-{video}", faces=[person(number)], portraits=[scene(colour)])
    run = tiny.save()
    chosen = choose(run, RULES, PersonLimits(SAME, validation=0.3), quiet)
    given = givers(run, RULES, SAME, quiet)
    sides = {name: replace(one, references=given) for name, one in chosen.selections.items()}
    chosen = replace(chosen, selections=sides)
    pack_chosen(run, Folder(tmp_path / "out"), RULES, ShardLimits(), chosen, quiet)
    found = {side: contents(Folder(tmp_path / "out").folder(side)) for side in sides}
    keys = {side: {n.partition(".")[0] for n in some} for side, some in found.items()}
    assert all(keys.values())
    for side, members in found.items():
        froms = origins(members)
        assert {key for key, _ in froms} == keys[side]
        assert {giver for giver, _ in froms.values()} <= keys[side]
        assert all(key != giver for (key, _), (giver, _) in froms.items())


def test_the_command_says_how_many_got_others(run, tmp_path, capsys):
    """And an unknown choice is refused."""
    out = ["--out", str(tmp_path / "out"), "--same-person", str(SAME)]
    assert command.main([run.url, *out, "--references", "other"]) == 0
    assert "3 of another video of the same person" in capsys.readouterr().out
    assert command.main([run.url, *out, "--references", "their"]) == 2
