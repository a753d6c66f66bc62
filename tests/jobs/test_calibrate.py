"""`harmoview calibrate`: people in, thresholds with intervals and a rules file out."""

import json
from dataclasses import replace

import numpy as np
import pytest

from datapipe.faces.light import LightFaces
from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from datapipe.record import Identity, Pose, Sample, Source, View
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.store import CandidateStore
from datapipe.run.tables import Ledger
from datapipe.stage import Resources
from dataset.run import run_rules
from filters.aesthetic import Brisque
from filters.calibrate.comparisons import comparisons, people
from filters.score import Score
from jobs import calibrate, pack
from lora_engine.mesh.render import HeadShot, Sensor, render
from lora_engine.mesh.studio import build
from lora_engine.pairs import Subject, SubjectFrame, write_pairs
from lora_engine.subjects.clip import camera_for, scene
from lora_engine.subjects.people import invent
from tests.datapipe.painted import Painted, PaintedFaces, paint
from tests.datapipe.runs import CUTOUT, REFERENCE, TinyRun

SIZE = 320
PEOPLE = 22


def pictures(gallery, seed):
    """A virtual person at 0 and at 30 degrees, as JPEG."""
    rng = np.random.default_rng([77, seed])
    place = scene(1.0, rng)
    head = build(invent(gallery, rng).person, gallery.studio, seed)
    camera = camera_for(head, 0, 1, rng)
    shots = {yaw: HeadShot(head, Pose(yaw, 0, 0), camera, place.light) for yaw in (0, 30)}
    return {
        yaw: encode_jpeg(Sensor()(render([shot], (SIZE, SIZE), place.background), rng))
        for yaw, shot in shots.items()
    }


@pytest.fixture(scope="module")
def crowd(gallery):
    return [pictures(gallery, seed) for seed in range(2 * PEOPLE)]


def pairs_of(folder, crowd):
    subjects = [
        Subject(
            f"subject-{index:03d}",
            f"clip-{index:03d}.mp4",
            tuple(
                SubjectFrame(yaw, made, float(yaw), 0.0, true_yaw=yaw) for yaw, made in some.items()
            ),
        )
        for index, some in enumerate(crowd)
    ]
    everyone = (("train", subject) for subject in subjects)
    return write_pairs(Folder(folder), everyone, (0, 30), {"faces": "light"})


def run_of(root, crowd):
    """A run whose views, at 30 degrees, were made of the references by a perfect engine; the videos
    show the same."""
    folder, faces = Folder(root / "run"), LightFaces()
    info = RunInfo("corpus", 0, {"yaws": [30]}, Scoring())
    store = CandidateStore(folder, info.settings_hash)
    score = Score(store, faces, Brisque(), resources=Resources(1))
    score.setup()
    info = replace(info, scoring=Scoring(scorers=score.provenance(), labels=score.labels()))
    save_info(folder, info)
    done = []
    for index, made in enumerate(crowd):
        clip = root / f"{index:03d}.mp4"
        clip.write_bytes(b"a clip")
        real = View(30, None, source="real", timestamp=1.0, cutout=CUTOUT)
        cutouts = ((real, made[30]),)
        who = Identity(REFERENCE, (View(30, 1), real), portrait=made[0], cutouts=cutouts)
        source = Source(str(clip), ".mp4", size=clip.stat().st_size)
        sample = Sample(f"video-{index:03d}", source, identities=(who,))
        done.append(score(store.put(sample, [{30: made[30]}], {"engine": "perfect"})))
    Ledger(folder).append(done, score.labels(), 0)
    return folder


@pytest.mark.weights
@pytest.mark.slow
def test_what_is_promised_holds_for_people_who_were_held_out(crowd, tmp_path, capsys):
    """The thresholds of half of the virtual subjects keep their rate on the others.

    From pairs and from a run of the same pictures they are the same; the rules file packs the run.
    """
    pairs_of(tmp_path / "some", crowd[:PEOPLE])
    others = pairs_of(tmp_path / "others", crowd[PEOPLE:])
    rules, plot = tmp_path / "rules.toml", tmp_path / "plot.png"
    command = [str(tmp_path / "some"), "--out", str(rules), "--far", "0.05", "--workers", "2"]
    assert calibrate.main([*command, "--json", "--quiet", "--plot", str(plot)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["identities"] == made["groups"] == PEOPLE
    assert plot.read_bytes().startswith(b"\x89PNG")

    drawn = calibrate.from_pairs(others, LightFaces(), PEOPLE, 1, lambda counts, total: None)
    held_out = comparisons(drawn.embedded, people(drawn.embedded.references, 1))
    assert [at.yaw for at in held_out] == [one["yaw"] for one in made["identity"]] == [0, 30]
    for at, one in zip(held_out, made["identity"], strict=True):
        assert one["asked"] == "asked"
        rate = float(np.mean(at.impostor >= one["threshold"]))
        assert one["far"]["low"] <= rate <= one["far"]["high"]
    assert made["identity"][1]["tar"]["value"] == 1

    run = run_of(tmp_path, crowd[:PEOPLE])
    of_run = [run.url, "--out", str(rules), "--far", "0.05", "--same-person", "1"]
    assert calibrate.main([*of_run, "--workers", "1", "--quiet", "--json"]) == 0
    from_run = json.loads(capsys.readouterr().out)
    assert [one["yaw"] for one in from_run["identity"]] == [30]
    assert from_run["identity"][0]["threshold"] == pytest.approx(
        made["identity"][1]["threshold"], abs=2e-4
    )
    assert from_run["bounds"]["pose"][0]["views"] == PEOPLE
    of_real = [run.url, "--out", str(tmp_path / "real.toml"), "--far", "0.05", "--from", "real"]
    assert calibrate.main([*of_real, "--same-person", "1", "--quiet", "--json"]) == 0
    from_real = json.loads(capsys.readouterr().out)
    assert [one["yaw"] for one in from_real["identity"]] == [0, 30]
    assert from_real["identity"][0]["genuine"] == 0  # a reference says nothing of itself
    assert from_real["identity"][1] == from_run["identity"][0]
    assert all(change["key"].startswith("identity.") for change in from_real["changed"])
    threshold = run_rules(run, str(rules)).identity.threshold(30)
    assert threshold == from_run["identity"][0]["threshold"]
    assert pack.main([run.url, "--rules", str(rules), "--quiet"]) == 0
    assert run.exists("shards/manifest.json")


@pytest.mark.weights
def test_a_run_without_faces_is_told_so(tmp_path, capsys):
    """Candidates in which the face models find nobody cannot be compared."""
    run = TinyRun(tmp_path)
    faces = LightFaces().provenance()
    scoring = replace(run.info.scoring, scorers={"faces": faces})
    save_info(run.folder, replace(run.info, scoring=scoring))
    run.add("noise")
    run.save()
    assert calibrate.main([run.folder.url, "--out", str(tmp_path / "rules.toml")]) == 1
    assert "no candidates with faces" in capsys.readouterr().err
    of_real = [run.folder.url, "--out", str(tmp_path / "rules.toml"), "--from", "real"]
    assert calibrate.main(of_real) == 1
    assert "no real views of anyone" in capsys.readouterr().err
    assert not (tmp_path / "rules.toml").exists()


def test_a_run_scored_by_other_face_models_is_refused(tmp_path, capsys):
    """Its references' embeddings are of another network, or another version of it."""
    run = TinyRun(tmp_path)
    run.add("one")
    run.save()
    assert calibrate.main([run.folder.url, "--out", str(tmp_path / "rules.toml")]) == 1
    assert "harmoview score" in capsys.readouterr().err


def test_nobody_is_an_own_impostor(tmp_path):
    """Of several takes of a person one is drawn."""
    takes = [("a-1", 0, "a"), ("a-2", 0, "a"), ("b", 1, None), ("c-1", 2, "c"), ("c-2", 2, "c")]
    subjects = [
        Subject(key, key, tuple(
            SubjectFrame(yaw, encode_jpeg(paint([Painted(colour, yaw, 150, 60, 80)])), 0.0, 0.0)
            for yaw in (0, 30)
        ), person)
        for key, colour, person in takes
    ]  # fmt: skip
    pairs = write_pairs(Folder(tmp_path), [("train", one) for one in subjects], (0, 30), {})
    drawn = calibrate.from_pairs(pairs, PaintedFaces(), 10, 1, lambda *_: None)
    assert sorted(drawn.embedded.references.argmax(axis=1)) == [0, 1, 2]


def test_a_folder_that_is_neither_run_nor_pairs_is_refused(tmp_path, capsys):
    """The message says which commands make one."""
    assert calibrate.main([str(tmp_path), "--out", str(tmp_path / "rules.toml")]) == 1
    told = capsys.readouterr().err
    assert "harmoview synthesize" in told
    assert "harmoview pairs" in told


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--far", "0"),
        ("--far", "1e-9"),
        ("--least-tar", "2"),
        ("--identities", "10"),
        ("--same-person", "0"),
        ("--workers", "0"),
        ("--plot", "roc.pdf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, capsys, option, value):
    """Exit status 2, and the message names the option."""
    assert calibrate.main([str(tmp_path), "--out", str(tmp_path / "r.toml"), option, value]) == 2
    assert option in capsys.readouterr().err
