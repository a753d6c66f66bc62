"""What `harmoview calibrate` says of its findings: tables, picture, rules file, JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from datapipe.faces.light import LightFaces
from datapipe.record import YAWS
from filters.calibrate.people import Drawn, StoredScores
from filters.calibrate.plot import draw, roc
from filters.calibrate.result import conclude, rules_file
from filters.rules_file import given as rules_given
from filters.rules_file import load_rules
from jobs.console.calibrate import print_calibration
from tests.filters.calibrate.crowd import crowd

RUN = {"yaws": YAWS, "recogniser": "sface", "aesthetic_scorer": "brisque"}
BASE = load_rules(None, **RUN)


def concluded(same_person=1.0, far=0.05, base=BASE, given=None, scored=True):
    """30 people; at 60 degrees the recogniser is nearly blind."""
    near, far_off = crowd(30, 4, noise=0.6), crowd(30, 4, noise=40.0)
    embedded = replace(
        near,
        owner=np.concatenate([near.owner, far_off.owner]),
        yaw=np.concatenate([near.yaw, 2 * far_off.yaw]),
        views=np.concatenate([near.views, far_off.views]),
    )
    columns = {
        "measured_yaw": embedded.yaw + np.tile([-2.0, 0.0, 1.0], 40),
        "sharpness": np.full(120, 0.3),
        "sharpness_ratio": np.full(120, 1.0),
        "aesthetic": np.full(120, 80.0),
    }
    scores = StoredScores(embedded.yaw, columns) if scored else None
    drawn = Drawn(embedded, 2, False, scores)
    return conclude(
        drawn,
        base,
        LightFaces(),
        given=given or {},
        far=far,
        least_tar=0.5,
        same_person=same_person,
    )


def test_the_rules_file_is_what_was_found(tmp_path):
    """It loads for the run, with the thresholds of the JSON; comments do not matter."""
    result, _ = concluded()
    path = tmp_path / "rules.toml"
    path.write_text(rules_file(result))
    rules = load_rules(path, **RUN)
    assert rules == result.rules
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert [one["asked"] for one in told["identity"]] == ["asked", "no_power"]
    assert rules.identity.threshold(30) == told["identity"][0]["threshold"]
    assert rules.identity.judged_to == 30
    changed = {line["key"]: line["after"] for line in told["changed"]}
    assert changed["identity.sface.judged_to"] == 30


@pytest.mark.parametrize("given", ["", "reference_must_pass = false\n[pose]\nroll = 12\n"])
def test_pairs_set_identity_and_nothing_else(tmp_path, given):
    """With the file a run of any yaws has its own rules, but for identity and what --rules says."""
    mine, found = tmp_path / "mine.toml", tmp_path / "found.toml"
    mine.write_text(given)
    base = load_rules(mine, **RUN | {"yaws": (-30, 0, 30)})
    result, _ = concluded(base=base, given=rules_given(mine), scored=False)
    found.write_text(rules_file(result))
    for yaws in (YAWS, range(-90, 91, 15)):
        run = RUN | {"yaws": tuple(yaws)}
        wanted = replace(load_rules(mine, **run), identity=result.rules.identity)
        assert load_rules(found, **run) == wanted


def test_the_tables_show_every_yaw_and_what_is_not_asked(capsys):
    """Counts, the threshold, and the reason in words."""
    result, _ = concluded()
    print_calibration(result)
    told = capsys.readouterr().out
    one = result.identity[0]
    for shown in ("30°", "60°", "1,740", f"{one.threshold:.3f}", "60°: not asked: ", "2 drawn"):
        assert shown in told


def test_look_alikes_that_were_left_out_are_told_with_what_they_could_be(capsys):
    """The rate without them is too low; the one with them is beside it."""
    result, _ = concluded(same_person=0.6)
    one = result.identity[0]
    assert one.alike > 0
    assert one.far_with_alike > one.far.value
    print_calibration(result)
    assert "may show one person" in capsys.readouterr().out


def test_too_few_people_give_no_rules():
    """For a rate that 30 people cannot tell there is a reason in place of rules."""
    result, _ = concluded(far=0.001)
    assert result.rules is None
    assert result.as_dict()["rules"] is None
    assert "identity" in result.problem
    assert "56" in result.identity[0].why


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_the_picture_is_the_same_each_time(suffix, start):
    """Same numbers, same bytes."""
    result, found = concluded()
    picture = draw(result, found, suffix)
    assert picture.startswith(start)
    assert draw(result, found, suffix) == picture


def test_the_roc_curve_rises_through_the_threshold():
    """From nothing accepted to everything; at the rule's threshold it has the stated rates."""
    result, found = concluded()
    for at, one in zip(found, result.identity, strict=True):
        far, tar = roc(at)
        assert (far[0], tar[0], far[-1], tar[-1]) == (0, 0, 1, 1)
        assert np.all(np.diff(far) >= 0)
        assert np.all(np.diff(tar) >= 0)
        nearest = np.argmin(abs(far - one.far.value) + abs(tar - one.tar.value))
        assert far[nearest] == pytest.approx(one.far.value, abs=1e-3)
        assert tar[nearest] == pytest.approx(one.tar.value, abs=1e-3)
