"""The judge of tables says what the judge of rows says."""

import random
from dataclasses import asdict, replace

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.record import YAWS, Scores
from filters.judge import Judge
from filters.judge_sql import TableJudge
from filters.rules_file import load_rules
from tests.filters.test_checks import any_rules, some_yaws

SFACE = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")
BUFFALO = load_rules(None, yaws=YAWS, recogniser="w600k_r50", aesthetic_scorer="nima")
NARROW = load_rules(None, yaws=(-10, 0, 10), recogniser="sface", aesthetic_scorer="brisque")
DATABASE = duckdb.connect(config={"threads": 1})
LENIENT = replace(BUFFALO, reference_must_pass=False, minimum_views=1)


def values(rules, yaw):
    """For each score what often passes, what sits on a threshold or just under, and None."""
    sharp, pose, cosine = rules.sharpness, rules.pose, rules.identity.threshold(yaw)
    edges = {
        "sharpness": (sharp.minimum, 1.0),
        "sharpness_ratio": (sharp.ratio, 1.0),
        "aesthetic": (rules.aesthetic.minimum, 100.0),
        "identity_cosine": (cosine, 0.9),
    }
    found = {name: [None, at - 1e-4, at, good, good, good] for name, (at, good) in edges.items()}
    for scores in found.values():
        scores += [float("nan"), float("inf")]
    found["aesthetic"] += [rules.aesthetic.reference, rules.aesthetic.reference - 1e-4]
    calm = rules.expression.reference
    found["expression"] = [None, 0.0, 0.0, 0.0, calm, calm + 1e-4, float("nan")]
    turned = [0.0, 0.0, 0.0, pose.tolerance, -pose.tolerance - 1e-4, 60.0]
    profile = [pose.profile_minimum, -pose.profile_minimum, pose.profile_minimum - 1e-4]
    found["measured_yaw"] = [None, *(yaw + off for off in turned), *profile]
    for name in ("pitch", "roll"):
        most = getattr(pose, name)
        found[f"measured_{name}"] = [None, 0.0, 0.0, 0.0, most, -most, most + 1e-4]
    found["face_size"] = [None, rules.real.face_size, rules.real.face_size, 300.0, 300.0]
    return found | {"detected": [True, True, True, True, False]}


def some_rows(rules, seed):
    """Some samples: for each identity the scores of its reference and of some of its views, at
    some yaws from both sources."""
    pick = random.Random(seed)

    def scores(yaw):
        return asdict(Scores(**{k: pick.choice(v) for k, v in values(rules, yaw).items()}))

    references, views = [], []
    for sample in range(pick.randint(1, 5)):
        for identity in range(pick.randint(1, 3)):
            place = {"key": f"clip{sample}", "identity": identity}
            references.append(place | scores(0))
            for yaw in pick.sample(rules.yaws, pick.randint(0, len(rules.yaws))):
                sources = pick.choice([["synthesised"], ["real"], ["synthesised", "real"]])
                views += [
                    place | {"yaw": yaw, "source": s, "twin": len(sources) > 1} | scores(yaw)
                    for s in sources
                ]
    pick.shuffle(references)
    pick.shuffle(views)
    return references, views


SCHEMA = [("key", pa.string()), ("identity", pa.int32())]
VIEW = [("yaw", pa.int32()), ("source", pa.string()), ("twin", pa.bool_())]
SCORES = [(n, pa.bool_() if n == "detected" else pa.float64()) for n in Scores.__annotations__]


def tables(references, views):
    return (
        pa.Table.from_pylist(references, pa.schema(SCHEMA + SCORES)),
        pa.Table.from_pylist(views, pa.schema([*SCHEMA, *VIEW, *SCORES])),
    )


def judged(rules, references, views):
    """Whom the rules leave out and why, and what they say of every view, by key, identity, yaw."""
    with DATABASE.cursor() as connection:  # tables of its own
        connection.register("refs", references)
        connection.register("views", views)
        TableJudge(rules).judge(connection)
        identities = connection.execute("SELECT key, identity, reason FROM identities").fetchall()
        found = connection.execute("SELECT key, identity, yaw, reason, kept FROM judged").fetchall()
    return sorted(identities, key=str), sorted(found, key=str)


@settings(max_examples=120)
@given(
    rules=st.sampled_from([SFACE, BUFFALO, NARROW, LENIENT]) | any_rules(),
    seed=st.integers(0, 2**32),
)
def test_both_judges_agree_on_every_row(rules, seed):
    """For any rules and samples the reasons, and what is kept, are those of the judge of rows."""
    references, views = some_rows(rules, seed)
    judge, identities, found = Judge(rules), [], []
    for key in {row["key"] for row in references}:
        mine = ([row for row in table if row["key"] == key] for table in (references, views))
        for index, identity in enumerate(judge.rows(*mine).identities):
            identities.append((key, index, identity.verdict.reason))
            found += [
                (key, index, yaw, view.reason, identity.verdict.passed and view.passed)
                for yaw, view in identity.views.items()
            ]
    wanted = sorted(identities, key=str), sorted(found, key=str)
    assert judged(rules, *tables(references, views)) == wanted


two_rules = some_yaws.flatmap(lambda yaws: st.tuples(any_rules(yaws), any_rules(yaws)))


@settings(max_examples=40)
@given(two=st.tuples(st.just(SFACE), st.just(LENIENT)) | two_rules, seed=st.integers(0, 2**32))
def test_two_judges_at_once_say_what_each_says_alone(two, seed):
    """Of every identity and view, with what is kept, whatever order the rows have."""
    a, b = two
    references, views = tables(*some_rows(a, seed))
    with DATABASE.cursor() as connection:  # tables of its own
        connection.register("refs", references)
        connection.register("views", views)
        TableJudge(a).compare(connection, TableJudge(b))
        both = [
            [
                connection.execute(f"SELECT {columns} FROM both_{table}").fetchall()
                for table, columns in (
                    ("identities", f"key, identity, {side}"),
                    ("views", f"key, identity, yaw, {side}, kept_{side}"),
                )
            ]
            for side in "ab"
        ]
    for rules, found in zip(two, both, strict=True):
        assert judged(rules, references, views) == tuple(sorted(rows, key=str) for rows in found)


def test_nothing_to_judge_is_no_error():
    """Empty tables give empty verdicts."""
    assert judged(SFACE, *tables([], [])) == ([], [])


def test_a_view_at_a_yaw_the_rules_are_not_for_is_refused():
    """It is a fault, not a verdict."""
    place = {"key": "clip", "identity": 0}
    plain = asdict(Scores(detected=True))
    with pytest.raises(duckdb.InvalidInputException, match="at another yaw"):
        judged(SFACE, *tables([place | plain], [place | {"yaw": 45} | plain]))
