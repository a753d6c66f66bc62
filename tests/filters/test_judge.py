"""The judge: each threshold to the last digit, monotone, symmetric, and the steps up."""

from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe.prepare.frontal import FrontalBound
from datapipe.record import YAWS, Identity, Pose, Reference, Sample, Scores, Source, View
from filters.judge import Judge, combine, scores_of
from filters.rules_file import load_rules

RULES = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")
BUFFALO = load_rules(None, yaws=YAWS, recogniser="w600k_r50", aesthetic_scorer="nima")
STEP = 0.0001


def good(yaw, **changes):
    """Scores of a view without fault."""
    scores = Scores(
        detected=True,
        sharpness=1000.0,
        sharpness_ratio=1.0,
        aesthetic=90.0,
        identity_cosine=0.9,
        measured_yaw=float(yaw),
        measured_pitch=0.0,
        measured_roll=0.0,
        face_size=200.0,
    )
    return replace(scores, **changes)


REFERENCE = good(0, identity_cosine=None, sharpness_ratio=None, expression=0.1)


def reasons(views, rules=RULES, reference=REFERENCE):
    found = Judge(rules).identity(reference, views).views
    return {yaw: verdict.reason for yaw, verdict in found.items()}


def reason_at(yaw, rules=RULES, **changes):
    """The reason at one yaw when everything else is without fault."""
    return reasons({other: good(other) for other in YAWS} | {yaw: good(yaw, **changes)}, rules)[yaw]


def kept_yaws(identity):
    """The yaws that go into a shard."""
    passed = (yaw for yaw, verdict in identity.views.items() if verdict.passed)
    return tuple(sorted(passed)) if identity.verdict.passed else ()


def test_a_faultless_set_passes():
    """Nothing is rejected without a cause."""
    verdict = Judge(RULES).identity(REFERENCE, {yaw: good(yaw) for yaw in YAWS})
    assert verdict.verdict.passed
    assert kept_yaws(verdict) == YAWS


@pytest.mark.parametrize("rules", [RULES, BUFFALO], ids=["sface", "w600k_r50"])
@pytest.mark.parametrize("yaw", YAWS)
@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("sharpness", "blurred"),
        ("sharpness_ratio", "blurred"),
        ("aesthetic", "aesthetic"),
        ("identity_cosine", "identity"),
    ],
)
def test_a_least_value_passes_at_the_threshold_and_fails_just_under(rules, yaw, score, reason):
    """At and just over a threshold a view passes; just under, it fails with the rule's reason."""
    least = {
        "sharpness": rules.sharpness.minimum,
        "sharpness_ratio": rules.sharpness.ratio,
        "aesthetic": rules.aesthetic.minimum,
        "identity_cosine": rules.identity.threshold(yaw),
    }[score]
    if score == "identity_cosine" and abs(yaw) > rules.identity.judged_to:
        assert reason_at(yaw, rules, **{score: -1.0}) is None
        return
    assert reason_at(yaw, rules, **{score: least}) is None
    assert reason_at(yaw, rules, **{score: least + STEP}) is None
    assert reason_at(yaw, rules, **{score: least - STEP}) == reason


@pytest.mark.parametrize("yaw", [-60, -30, 0, 30, 60])
@pytest.mark.parametrize("side", [-1, 1])
def test_yaw_passes_up_to_the_tolerance_on_both_sides(yaw, side):
    """A measured yaw as far off as the tolerance passes; a step further fails."""
    edge = yaw + side * RULES.pose.tolerance
    assert reason_at(yaw, measured_yaw=edge) is None
    assert reason_at(yaw, measured_yaw=edge - side * STEP) is None
    assert reason_at(yaw, measured_yaw=edge + side * STEP) == "pose"


@pytest.mark.parametrize("side", [-1, 1])
def test_profiles_are_tested_on_one_side(side):
    """At 90 any reading from the profile minimum on passes; the other profile never does."""
    least = RULES.pose.profile_minimum
    assert reason_at(90 * side, measured_yaw=side * least) is None
    assert reason_at(90 * side, measured_yaw=side * 104.0) is None
    assert reason_at(90 * side, measured_yaw=side * (least - STEP)) == "pose"
    assert reason_at(90 * side, measured_yaw=side * -90.0) == "pose"


@pytest.mark.parametrize("yaw", YAWS)
@pytest.mark.parametrize("name", ["pitch", "roll"])
@pytest.mark.parametrize("side", [-1, 1])
def test_pitch_and_roll_are_tested_where_they_mean_something(yaw, name, side):
    """Up to `level_to` a tilt beyond the limit fails; at profiles it is not looked at."""
    most = side * getattr(RULES.pose, name)
    tilted = "pose" if abs(yaw) <= RULES.pose.level_to else None
    assert reason_at(yaw, **{f"measured_{name}": most}) is None
    assert reason_at(yaw, **{f"measured_{name}": most + side * STEP}) == tilted


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ("sharpness", "blurred"),
        ("sharpness_ratio", "blurred"),
        ("aesthetic", "aesthetic"),
        ("measured_yaw", "pose"),
        ("measured_pitch", "pose"),
        ("measured_roll", "pose"),
        ("identity_cosine", "identity"),
    ],
)
@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_was_not_measured_does_not_pass(score, reason, value):
    """A missing score, or one that is not a number, fails its own rule."""
    assert reason_at(30, **{score: value}) == reason


def test_the_first_failing_rule_gives_the_reason():
    """Rules are tried in the order detected, sharpness, aesthetic, pose, identity."""
    faults = [
        ("identity", {"identity_cosine": -1.0}),
        ("pose", {"measured_yaw": -80.0}),
        ("aesthetic", {"aesthetic": -50.0}),
        ("blurred", {"sharpness": 0.0}),
        ("not_detected", {"detected": False}),
    ]
    changes = {}
    for reason, fault in faults:
        changes |= fault
        assert reason_at(30, **changes) == reason


@pytest.mark.parametrize("side", [-1, 1])
def test_beyond_its_reach_the_recogniser_judges_through_the_nearer_view(side):
    """At 90 SFace's number is ignored: the verdict is that of 60 on the same side, and says so."""
    views = {yaw: good(yaw) for yaw in YAWS}
    views[90 * side] = good(90 * side, identity_cosine=None)
    assert reasons(views)[90 * side] is None
    views[60 * side] = good(60 * side, identity_cosine=0.0)
    found = Judge(RULES).identity(REFERENCE, views).views
    assert found[60 * side].reason == "identity"
    assert found[90 * side].reason == "identity_neighbours"
    assert found[-90 * side].reason is None
    assert f"cannot judge identity at {90 * side:+d}°" in found[90 * side].detail


@pytest.mark.parametrize("side", [-1, 1])
def test_beyond_verification_a_cosine_needs_a_verified_view(side):
    """With buffalo_l a failure of identity at 30 takes 60 and 90 of that side along."""
    views = {yaw: good(yaw) for yaw in YAWS} | {30 * side: good(30 * side, identity_cosine=0.0)}
    found = reasons(views, BUFFALO)
    assert found[30 * side] == "identity"
    assert found[60 * side] == found[90 * side] == "identity_neighbours"
    assert found[-30 * side] is found[-60 * side] is found[-90 * side] is None


def test_a_neighbour_lends_its_identity_even_when_blurred():
    """What a view rests on is the nearer view's identity test, not its other rules."""
    views = {yaw: good(yaw) for yaw in YAWS} | {60: good(60, sharpness=0.0)}
    found = reasons(views)
    assert (found[60], found[90]) == ("blurred", None)


def test_a_view_without_the_view_it_rests_on_fails():
    """Where the nearer view was not made there is nothing to rest on."""
    views = {yaw: good(yaw) for yaw in YAWS if yaw != 60}
    assert reasons(views)[90] == "identity_neighbours"


@pytest.mark.parametrize("passing", range(8))
def test_too_few_views_leave_the_identity_out(passing):
    """An identity is kept from the minimum number of passing views on, with exactly those."""
    fine = sorted(YAWS, key=abs)[:passing]
    views = {yaw: good(yaw, sharpness=1000.0 if yaw in fine else 0.0) for yaw in YAWS}
    verdict = Judge(RULES).identity(REFERENCE, views)
    kept = passing >= RULES.minimum_views
    assert verdict.verdict.reason == (None if kept else "too_few_views")
    assert kept_yaws(verdict) == (tuple(sorted(fine)) if kept else ())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"detected": False}, "reference_not_detected"),
        ({"sharpness": None}, "reference_blurred"),
        ({"aesthetic": -50.0}, "reference_aesthetic"),
        ({"expression": None}, "reference_expression"),
    ],
)
def test_a_bad_reference_leaves_the_identity_out_if_it_must_pass(fault, reason):
    """The reference's own failure decides only where the rules say so."""
    views = {yaw: good(yaw) for yaw in YAWS}
    bad = replace(REFERENCE, **fault)
    assert Judge(RULES).identity(bad, views).verdict.reason == reason
    lenient = replace(RULES, reference_must_pass=False)
    assert Judge(lenient).identity(bad, views).verdict.passed


@pytest.mark.parametrize(
    ("section", "score", "reason", "worse"),
    [
        ("aesthetic", "aesthetic", "aesthetic", -STEP),
        ("sharpness", "sharpness", "blurred", -STEP),
        ("expression", "expression", "expression", STEP),
    ],
)
def test_a_reference_has_thresholds_of_its_own(section, score, reason, worse):
    """It passes at its own threshold and on the better side of it, and fails just beyond."""
    views = {yaw: good(yaw) for yaw in YAWS}
    at = 31.0 if section == "aesthetic" else 0.31
    rules = replace(RULES, **{section: replace(getattr(RULES, section), reference=at)})
    for value, said in ((at, None), (at - worse, None), (at + worse, reason)):
        verdict = Judge(rules).identity(replace(REFERENCE, **{score: value}), views)
        assert verdict.reference.reason == said


def test_prepare_alone_decides_how_sharp_a_reference_must_be():
    """What it admits at its least sharpness, and is then measured a little lower, is kept."""
    views = {yaw: good(yaw) for yaw in YAWS}
    admitted = replace(REFERENCE, sharpness=FrontalBound().min_sharpness - 0.02)
    assert Judge(RULES).identity(admitted, views).verdict.passed


def test_a_sample_is_kept_while_one_identity_is():
    """No identity left is the only way out for a sample."""
    kept = Judge(RULES).identity(REFERENCE, {yaw: good(yaw) for yaw in YAWS})
    lost = Judge(RULES).identity(REFERENCE, {0: good(0)})
    assert combine([kept, lost]).verdict.passed
    assert combine([lost, kept]).verdict.passed
    assert combine([lost, lost]).verdict.reason == "no_identity_left"
    assert combine([]).verdict.reason == "no_identity_left"


def test_records_and_table_rows_are_judged_alike():
    """A sample and its rows in the tables get the same verdict."""
    views = {yaw: good(yaw) for yaw in YAWS} | {60: good(60, identity_cosine=0.1)}
    reference = Reference(
        0.0, 0, (0, 0, 1, 1), (0, 0, 1, 1), Pose(0, 0, 0), score=1, sharpness=1, seen=1
    )
    made = tuple(View(yaw, 0, scores) for yaw, scores in views.items())
    sample = Sample(
        "k", Source("k.mp4", ".mp4"), identities=(Identity(reference, made, REFERENCE),)
    )
    made_up = {"key": "k", "identity": 0, "source": "synthesised", "twin": False}
    rows = [{**made_up, "yaw": y, **asdict(s)} for y, s in views.items()]
    own = [{"key": "k", "identity": 0, **asdict(REFERENCE)}]
    assert Judge(RULES).sample(sample) == Judge(RULES).rows(own, rows)
    assert scores_of(rows[0]) == views[rows[0]["yaw"]]


def test_an_unscored_sample_is_refused():
    """Judging what nothing measured is a fault of the program, not a verdict."""
    reference = Reference(
        0.0, 0, (0, 0, 1, 1), (0, 0, 1, 1), Pose(0, 0, 0), score=1, sharpness=1, seen=1
    )
    sample = Sample("k", Source("k.mp4", ".mp4"), identities=(Identity(reference),))
    with pytest.raises(ValueError, match="not scored"):
        Judge(RULES).sample(sample)


# On a busy machine neither the time of an example nor that of drawing it says anything.
unhurried = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])

ANGLES = st.floats(-100, 100)
SCORES = st.builds(
    Scores,
    detected=st.booleans(),
    sharpness=st.none() | st.floats(0, 0.5),
    sharpness_ratio=st.none() | st.floats(0, 1.5),
    aesthetic=st.none() | st.floats(0, 100),
    identity_cosine=st.none() | st.floats(-1, 1),
    measured_yaw=st.none() | ANGLES,
    measured_pitch=st.none() | ANGLES,
    measured_roll=st.none() | ANGLES,
)


@st.composite
def view_sets(draw):
    """A set of views, mostly good, so that verdicts of every kind occur."""
    drawn = {}
    for yaw in YAWS:
        scores = draw(SCORES)
        names = draw(st.sets(st.sampled_from(sorted(asdict(good(yaw))))))
        drawn[yaw] = good(yaw, **{name: getattr(scores, name) for name in names})
    return drawn


def better(scores, yaw, name, share):
    """The same scores with one of them better by a share of the way to the best."""
    best = getattr(good(yaw), name)
    value = getattr(scores, name)
    if value is None or isinstance(value, bool):
        return replace(scores, **{name: best})
    if not name.startswith("measured"):
        best = max(best, value)
    return replace(scores, **{name: value + (best - value) * share})


@unhurried
@given(
    views=view_sets(),
    yaw=st.sampled_from(YAWS),
    name=st.sampled_from([n for n in asdict(good(0)) if n != "face_size"]),
    share=st.floats(0, 1),
    rules=st.sampled_from([RULES, BUFFALO]),
)
def test_a_better_score_never_loses_a_view(views, yaw, name, share, rules):
    """Improving any score of any view keeps every view, and every identity, that was kept."""
    improved = views | {yaw: better(views[yaw], yaw, name, share)}
    before = Judge(rules).identity(REFERENCE, views)
    after = Judge(rules).identity(REFERENCE, improved)
    assert {y for y, v in before.views.items() if v.passed} <= {
        y for y, v in after.views.items() if v.passed
    }
    assert set(kept_yaws(before)) <= set(kept_yaws(after))


def mirrored(views):
    """The views of the mirrored person."""

    def negative(angle):
        return None if angle is None else -angle

    return {
        -yaw: replace(
            scores,
            measured_yaw=negative(scores.measured_yaw),
            measured_roll=negative(scores.measured_roll),
        )
        for yaw, scores in views.items()
    }


@unhurried
@given(views=view_sets(), rules=st.sampled_from([RULES, BUFFALO]))
def test_mirrored_views_get_mirrored_verdicts(views, rules):
    """Left and right are judged alike."""
    here, there = reasons(views, rules), reasons(mirrored(views), rules)
    assert {-yaw: reason for yaw, reason in here.items()} == there


@unhurried
@given(views=view_sets(), rules=st.sampled_from([RULES, BUFFALO]))
def test_every_rejection_says_why(views, rules):
    """A reason comes with a sentence, and a pass with none."""
    for verdict in Judge(rules).identity(REFERENCE, views).views.values():
        assert verdict.passed == (verdict.detail == "")
