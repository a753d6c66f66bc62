"""Rules files: defaults, overrides, and an error that names the key for every mistake."""

import math
import tomllib

import pytest
from hypothesis import HealthCheck, given, reject
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.record import YAWS
from filters.checks import compile_rules
from filters.rules import (
    AestheticRule,
    ExpressionRule,
    IdentityRule,
    PoseRule,
    RealViewRule,
    Rules,
    SharpnessRule,
    WindowRule,
    half_spacing,
)
from filters.rules_file import default_rules_text, load_rules, settings, to_toml


def load(tmp_path, text, **changes):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    run = {"yaws": YAWS, "recogniser": "sface", "aesthetic_scorer": "brisque"} | changes
    return load_rules(path, **run)


def defaults(recogniser="sface", scorer="brisque", yaws=YAWS):
    return load_rules(None, yaws=yaws, recogniser=recogniser, aesthetic_scorer=scorer)


def test_an_empty_file_is_the_defaults(tmp_path):
    """A file that names nothing changes nothing."""
    assert load(tmp_path, "") == defaults()


def test_a_file_changes_only_what_it_names(tmp_path):
    """Every value that a file does not name keeps its default."""
    changed = load(tmp_path, "[sharpness]\nminimum = 99").as_dict()
    expected = defaults().as_dict()
    expected["sharpness"]["minimum"] = 99
    assert changed == expected


@pytest.mark.parametrize("recogniser", ["sface", "w600k_r50"])
@pytest.mark.parametrize("scorer", ["brisque", "nima"])
@pytest.mark.parametrize("yaws", [YAWS, (-45, -30, -15, 0, 15, 30, 45), (-90, -75, 0, 75, 90)])
def test_written_rules_read_back_equal(tmp_path, recogniser, scorer, yaws):
    """Writing resolved rules as a file and loading it for the same run gives the same rules."""
    rules = defaults(recogniser, scorer, yaws)
    again = load(
        tmp_path, to_toml(rules), yaws=yaws, recogniser=recogniser, aesthetic_scorer=scorer
    )
    assert again == rules


def numbers(low, high, **more):
    return st.floats(low, high, **more) | st.integers(math.ceil(low), math.floor(high))


@st.composite
def any_rules(draw):
    """Rules that a file can ask for, of any run."""
    yaws = tuple(draw(st.lists(st.integers(-90, 90), min_size=1, max_size=9, unique=True)))
    verified = draw(numbers(0, 90))
    angles = draw(st.lists(numbers(0.5, 90), max_size=5, unique=True))
    cosines = numbers(-1, 1)
    identity = IdentityRule(
        recogniser=draw(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)),
        curve=tuple((yaw, draw(cosines)) for yaw in (0, *sorted(angles))),
        verified_to=verified,
        judged_to=draw(numbers(verified, 90)),
    )
    beauty = st.floats(allow_nan=False, allow_infinity=False)
    pose = PoseRule(
        tolerance=draw(numbers(0, 45, exclude_min=True).filter(bool)),
        profile_minimum=draw(numbers(45, 89.9)),
        pitch=draw(numbers(0.1, 90)),
        roll=draw(numbers(0.1, 180)),
        level_to=draw(numbers(0, 89.9)),
    )
    try:
        for yaw in yaws:
            identity.rests_on(yaw, yaws)
        pose = pose.within(half_spacing(yaws))
    except ValueError:
        reject()
    return Rules(
        yaws=yaws,
        minimum_views=draw(st.integers(1, len(yaws))),
        reference_must_pass=draw(st.booleans()),
        prefer_real=draw(st.booleans()),
        real=RealViewRule(draw(numbers(0.1, 45)), *(draw(numbers(0, 1e4)) for _ in range(3))),
        sharpness=SharpnessRule(*(draw(numbers(0, 1e6)) for _ in range(3))),
        expression=ExpressionRule(draw(numbers(0, 1))),
        aesthetic=AestheticRule("brisque", draw(beauty), draw(beauty)),
        pose=pose,
        identity=identity,
        windows=WindowRule(
            *draw(st.tuples(*[numbers(0, 1e4)] * 3)),
            draw(st.integers(0, 99)),
            draw(numbers(0, 1)),
            draw(numbers(0, 180)),
        ),
    )


@settings_of_hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_rules())
def test_any_rules_survive_a_file(tmp_path, rules):
    """Whatever a file can ask for is written and read back equal, to the last digit."""
    again = load(
        tmp_path,
        to_toml(rules),
        yaws=rules.yaws,
        recogniser=rules.identity.recogniser,
        aesthetic_scorer="brisque",
    )
    assert again == rules


def test_settings_have_the_keys_of_the_file():
    """A value is found under the name that one writes to change it."""
    found = settings(defaults())
    assert found["sharpness.minimum"] == 0.18
    assert found["identity.sface.curve"] == [[0.0, 0.65], [30.0, 0.55], [60.0, 0.28]]
    text = tomllib.loads(default_rules_text())
    assert found["aesthetic.brisque.reference"] == text["aesthetic"]["brisque"]["reference"]


def test_the_production_curve_is_the_published_one():
    """buffalo_l's threshold is 0.50 - 0.10 |yaw| / 30, on both sides."""
    identity = defaults("w600k_r50").identity
    for yaw in range(-90, 91, 15):
        assert identity.threshold(yaw) == pytest.approx(0.50 - 0.10 * abs(yaw) / 30)


def test_the_curve_is_straight_between_points_and_constant_after(tmp_path):
    """A threshold is interpolated between the two points around |yaw|."""
    text = "[identity.sface]\ncurve = [[0, 0.6], [30, 0.3], [50, 0.2]]"
    identity = load(tmp_path, text).identity
    assert [identity.threshold(yaw) for yaw in (0, 10, -15, 30, 40, 50, 90)] == [
        *(0.6, 0.5, 0.45, 0.3, 0.25, 0.2, 0.2)
    ]


@pytest.mark.parametrize(
    ("yaws", "tolerance", "profile"),
    [(YAWS, 10, 75), (tuple(range(-90, 91, 15)), 7.5, 82.5), ((-90, 0, 90), 10, 75)],
)
def test_the_default_tolerance_yields_to_close_yaws(yaws, tolerance, profile):
    """The tolerance is never above half the spacing of the run's yaws, at 90 neither."""
    pose = defaults(yaws=yaws).pose
    assert (pose.tolerance, pose.profile_minimum) == (tolerance, profile)
    assert pose.tolerance <= half_spacing(yaws)


def test_a_default_needs_no_more_views_than_are_made():
    """A run with fewer yaws than the default minimum needs all of them."""
    assert defaults(yaws=(-30, 0, 30)).minimum_views == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("minimum_views = 0", "minimum_views must be at least 1 and at most 7"),
        ("minimum_views = 8", "minimum_views must be at least 1 and at most 7"),
        ("minimum_views = 2.5", "minimum_views must be a whole number"),
        ("minimum_views = true", "minimum_views must be a whole number"),
        ("reference_must_pass = 1", "reference_must_pass must be true or false"),
        ("minimum_view = 3", "unknown key minimum_view; did you mean minimum_views?"),
        ("[pose]\ntolerence = 3", "unknown key pose.tolerence; did you mean pose.tolerance?"),
        ("sharpness = 3", "unknown key sharpness"),
        ("[sharpness.minimum]\nx = 3", "unknown key sharpness.minimum.x"),
        ("[sharpness]\nminimum = -1", "sharpness.minimum must be at least 0"),
        ("[sharpness]\nminimum = nan", "sharpness.minimum must be a number"),
        ("[sharpness]\nratio = '1'", "sharpness.ratio must be a number"),
        ("[pose]\ntolerance = 0", "pose.tolerance must be above 0"),
        ("[pose]\ntolerance = 15.1", "pose.tolerance 15.1 is more than half the spacing"),
        ("[pose]\nprofile_minimum = 74", "pose.profile_minimum 74 would let"),
        ("[pose]\nprofile_minimum = 90", "pose.profile_minimum must be"),
        ("[pose]\npitch = 0", "pose.pitch must be"),
        ("[pose]\nroll = 181", "pose.roll must be"),
        ("[pose]\nlevel_to = 90", "pose.level_to must be"),
        ("[aesthetic.brisque]\nminimum = inf", "aesthetic.brisque.minimum must be a number"),
        ("[aesthetic.nima]\nreference = -inf", "aesthetic.nima.reference must be a number"),
        ("[identity.sface]\ncurve = 0.5", "identity.sface.curve must be a list of points"),
        ("[identity.sface]\ncurve = []", "identity.sface.curve must be points"),
        ("[identity.sface]\ncurve = [[5, 0.5]]", "identity.sface.curve must be points"),
        ("[identity.sface]\ncurve = [[0, 0.5], [0, 0.4]]", "identity.sface.curve must be points"),
        ("[identity.sface]\ncurve = [[0, 1.5]]", "identity.sface.curve must be points"),
        ("[identity.sface]\ncurve = [[0, 0.5], [91, 0.4]]", "identity.sface.curve must be points"),
        ("[identity.sface]\ncurve = [[0, 0.5, 1]]", "identity.sface.curve must be a list"),
        ("[identity.sface]\nverified_to = -1", "identity.sface.verified_to must be"),
        ("[identity.sface]\njudged_to = 20", "identity.sface.judged_to must be"),
        ("[identity.w600k_r50]\njudged_to = 91", "identity.w600k_r50.judged_to must be"),
        ("[identity.sfase]\nverified_to = 30", "identity.sfase.curve is missing"),
        ("pose = {", "is not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(tmp_path, text, named):
    """The message names the file and the dotted key."""
    with pytest.raises(UserError) as refused:
        load(tmp_path, text)
    assert str(tmp_path / "mine.toml") in str(refused.value)
    assert named in str(refused.value)


def test_a_scorer_without_rules_is_refused_by_name(tmp_path):
    """A run whose recogniser has no section says which section to give."""
    with pytest.raises(UserError, match=r"identity\.glintr100\.curve is missing.*sface"):
        load(tmp_path, "", recogniser="glintr100")
    with pytest.raises(UserError, match=r"aesthetic\.musiq\.minimum is missing.*brisque"):
        load(tmp_path, "", aesthetic_scorer="musiq")


def test_a_metric_without_thresholds_decides_nothing(tmp_path):
    """A metric of pyiqa decides nothing before a file gives its section, quoted as in TOML."""
    name = "pyiqa:clipiqa+"
    without = load(tmp_path, "", aesthetic_scorer=name)
    assert without.aesthetic == AestheticRule(name)
    assert all(
        check.column != "aesthetic"
        for view in compile_rules(without).views.values()
        for check in view.own
    )
    text = '[aesthetic."pyiqa:clipiqa+"]\nminimum = 0.4\nreference = -1'
    with_it = load(tmp_path, text, aesthetic_scorer=name)
    assert with_it.aesthetic == AestheticRule(name, 0.4, -1)
    for rules in (without, with_it):
        assert load(tmp_path, to_toml(rules), aesthetic_scorer=name) == rules
        assert Rules.from_dict(rules.as_dict()) == rules


def test_a_new_recogniser_needs_only_its_section(tmp_path):
    """A complete section of an unknown name is a recogniser of the user's own."""
    text = "[identity.glintr100]\ncurve = [[0, 0.4]]\nverified_to = 45\njudged_to = 90"
    assert load(tmp_path, text, recogniser="glintr100").identity.threshold(60) == 0.4


def test_yaws_that_leave_identity_unjudged_are_refused(tmp_path):
    """A far yaw with no nearer one on its side cannot be judged, and this is said at once."""
    with pytest.raises(UserError, match=r"identity\.sface\.judged_to .*\+90"):
        load(tmp_path, "", yaws=(-60, -30, 90))


def test_a_missing_file_is_a_users_mistake(tmp_path):
    """A path that cannot be read is named."""
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        load_rules(
            tmp_path / "nowhere.toml", yaws=YAWS, recogniser="sface", aesthetic_scorer="nima"
        )


def test_the_shipped_file_is_complete_and_commented():
    """Each top-level section of the defaults exists, and the text explains itself."""
    text = default_rules_text()
    assert set(tomllib.loads(text)) == {
        *("minimum_views", "reference_must_pass", "sharpness", "expression", "aesthetic"),
        *("pose", "identity"),
        *("windows", "prefer_real", "real"),
    }
    assert sum(line.startswith("#") for line in text.splitlines()) > 10
