"""The judge of tables says what the judge of rows says."""

from dataclasses import asdict, replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.record import YAWS, Scores
from filters.judge import Judge
from filters.judge_table import TableJudge
from filters.rules_file import load_rules

SFACE = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")
BUFFALO = load_rules(None, yaws=YAWS, recogniser="w600k_r50", aesthetic_scorer="nima")
NARROW = load_rules(None, yaws=(-10, 0, 10), recogniser="sface", aesthetic_scorer="brisque")
LENIENT = replace(BUFFALO, reference_must_pass=False, minimum_views=1)

# Around the thresholds, on them, beside them, and not measured.
ANGLES = st.sampled_from([None, -26.0, -25.0, -20.0, -15.0, 0.0, 4.0, 10.0, 20.0, 20.5, 25.0, 26.0])


def scores(yaw):
    """Scores of a view at a yaw that often pass and often sit exactly on a threshold."""
    turned = st.sampled_from([0.0, 5.0, 5.1, 10.0, 10.1, -10.0, -15.0, 15.0, 60.0])
    return st.builds(
        Scores,
        detected=st.sampled_from([True, True, True, False]),
        sharpness=st.sampled_from([None, 19.9999, 20.0, 500.0, 500.0]),
        sharpness_ratio=st.sampled_from([None, 0.2499, 0.25, 1.0, 1.0]),
        aesthetic=st.sampled_from([None, 4.4999, 4.5, 9.9999, 10.0, 80.0, 80.0]),
        identity_cosine=st.sampled_from([None, 0.2, 0.3, 0.45, 0.5, 0.5499, 0.55, 0.9, 0.9, 0.9]),
        measured_yaw=st.one_of(st.none(), turned.map(lambda off: yaw + off)),
        measured_pitch=ANGLES,
        measured_roll=ANGLES,
        face_size=st.just(100.0),
    )


@st.composite
def rows(draw, rules):
    """Some samples: for each identity the scores of its reference and of some of its views."""
    people = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    references, views = [], []
    for sample, count in enumerate(people):
        for identity in range(count):
            place = {"key": f"clip{sample}", "identity": identity}
            references.append(place | asdict(draw(scores(0))))
            for yaw in draw(st.lists(st.sampled_from(rules.yaws), unique=True)):
                views.append(place | {"yaw": yaw} | asdict(draw(scores(yaw))))
    return draw(st.permutations(references)), draw(st.permutations(views))


SCHEMA = [("key", pa.string()), ("identity", pa.int32())]
SCORES = [(n, pa.bool_() if n == "detected" else pa.float64()) for n in Scores.__annotations__]


def tables(references, views):
    return (
        pa.Table.from_pylist(references, pa.schema(SCHEMA + SCORES)),
        pa.Table.from_pylist(views, pa.schema([*SCHEMA, ("yaw", pa.int32()), *SCORES])),
    )


@pytest.mark.parametrize(
    "rules", [SFACE, BUFFALO, NARROW, LENIENT], ids=["sface", "buffalo", "narrow", "lenient"]
)
@settings(max_examples=40)
@given(data=st.data())
def test_both_judges_agree_on_every_row(rules, data):
    """For any samples the codes of views and of identities are those of the judge of rows."""
    references, views = data.draw(rows(rules))
    found = TableJudge(rules)(*tables(references, views))
    wanted, kept = {}, set()
    for key in {row["key"] for row in references}:
        mine = ([row for row in table if row["key"] == key] for table in (references, views))
        verdict = Judge(rules).rows(*mine)
        for index, identity in enumerate(verdict.identities):
            wanted[key, index] = identity.verdict.reason
            kept |= {(key, index, yaw) for yaw in identity.kept_yaws}
            for yaw, view in identity.views.items():
                wanted[key, index, yaw] = view.reason
    got = {
        (row["key"], row["identity"], *([row["yaw"]] if "yaw" in row else [])): reason
        for table, reasons in ((references, found.identities), (views, found.views))
        for row, reason in zip(table, reasons.to_pylist(), strict=True)
    }
    assert got == wanted
    places = [(row["key"], row["identity"], row["yaw"]) for row in views]
    assert {
        place for place, stays in zip(places, found.kept.to_pylist(), strict=True) if stays
    } == kept


def test_nothing_to_judge_is_no_error():
    """Empty tables give empty verdicts."""
    found = TableJudge(SFACE)(*tables([], []))
    assert (len(found.identities), len(found.views)) == (0, 0)


@pytest.mark.parametrize(
    ("identity", "yaw", "message"), [(0, 45, "at another yaw"), (1, 30, "no reference")]
)
def test_rows_the_rules_do_not_cover_are_refused(identity, yaw, message):
    """A yaw the rules are not for, or a view without a reference, is a fault, not a verdict."""
    place = {"key": "clip", "identity": 0}
    plain = asdict(Scores(detected=True))
    view = {"key": "clip", "identity": identity, "yaw": yaw} | plain
    with pytest.raises(ValueError, match=message):
        TableJudge(SFACE)(*tables([place | plain], [view]))
