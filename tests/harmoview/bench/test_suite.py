"""Laws of suites as files."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from harmoview.bench.suite import load_suite, seal
from harmoview.bench.suite_json import MalformedSuite, case_json, parse_case
from tests.harmoview.bench.suites import case, four_cases, write_suite


def test_a_suite_written_is_the_suite_read(tmp_path):
    """Cases, people and pictures come back as they were written."""
    suite = write_suite(tmp_path / "suite", four_cases())
    assert list(suite.cases) == four_cases()
    assert sorted(suite.identities) == ["anna", "bert", "cora"]
    assert suite.view("anna", -90).shape == (32, 32, 3)
    head = json.loads((tmp_path / "suite" / "suite.json").read_text())
    assert head["counts"] == {"cases": 4, "identities": 3, "two_people": 1}
    assert head["suite_sha256"] == suite.sha256


def test_sealing_twice_changes_nothing(tmp_path):
    """Not a byte of any file."""
    write_suite(tmp_path / "suite", four_cases())
    before = {path: path.read_bytes() for path in (tmp_path / "suite").rglob("*.*")}
    seal(Folder(tmp_path / "suite"))
    assert {path: path.read_bytes() for path in (tmp_path / "suite").rglob("*.*")} == before


@pytest.mark.parametrize(
    "file",
    ["cases.jsonl", "identities/anna/yaw+30.jpg", "identities/bert/identity.json", "suite.json"],
)
def test_a_suite_that_was_changed_since_sealing_is_refused(tmp_path, file):
    """A changed case, picture or licence would make results of two suites look like one's."""
    write_suite(tmp_path / "suite", four_cases())
    path = tmp_path / "suite" / file
    if file.endswith(".jpg"):
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        path.write_text(path.read_text().replace("CC0", "MIT").replace("look", "gaze"))
    with pytest.raises(UserError, match="changed since it was sealed"):
        load_suite(str(tmp_path / "suite"))


def test_the_same_suite_elsewhere_has_the_same_hash(tmp_path):
    """The hash is of the content, not of the place."""
    one = write_suite(tmp_path / "one", four_cases())
    two = write_suite(tmp_path / "two", four_cases())
    other = write_suite(tmp_path / "other", four_cases(), seed=1)
    assert one.sha256 == two.sha256 != other.sha256


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "A B"}, "id"),
        ({"prompt": " "}, "prompt"),
        ({"frames": 6}, "frames"),
        ({"width": 130}, "width"),
        ({"height": 64}, "height"),
        ({"fps": 0}, "fps"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"shown": [15]}, "shown"),
        ({"identities": []}, "identities"),
        ({"identities": [{"id": "a"}, {"id": "a"}]}, "both people"),
        ({"identities": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, "one or two"),
        ({"identities": [{"id": "a", "role": "B"}]}, "roles"),
        ({"identities": [{"id": "a", "placement": "top"}]}, "placement"),
        (
            {"identities": [{"id": "a", "placement": "left"}, {"id": "b", "placement": "left"}]},
            "both people are placed",
        ),
        ({"requests": {"yaw": [-100, 0]}}, "requests"),
        ({"requests": {"pitch": [0, 1]}}, "requests"),
        ({"tags": "solo"}, "tags"),
        ({"shwon": [0]}, "did you mean shown"),
        ({"identities": [{"id": "a", "placment": "left"}]}, "did you mean placement"),
    ],
)
def test_a_wrong_case_is_named_with_its_field(change, says):
    """What is wrong is said in a sentence that names the field."""
    line = json.dumps({**json.loads(case_json(case())), **change}).encode()
    with pytest.raises(MalformedSuite, match=says):
        parse_case(line, YAWS)


@pytest.mark.parametrize(
    ("file", "name", "meant"),
    [
        ("suite.json", "license", "licence"),
        ("identities/anna/identity.json", "consnt", "consent"),
    ],
)
def test_a_misspelt_name_is_told_with_the_one_that_is_meant(tmp_path, file, name, meant):
    """It would be passed over in silence else, as if nothing had been given."""
    write_suite(tmp_path / "suite", four_cases())
    path = tmp_path / "suite" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "yes"}))
    with pytest.raises(UserError, match=f"has no {name}; did you mean {meant}"):
        load_suite(str(tmp_path / "suite"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.sampled_from(sorted(json.loads(case_json(case()))))


@given(st.dictionaries(fields, json_values, max_size=4))
def test_any_json_is_a_case_or_is_refused_in_a_sentence(change):
    """No value of any field raises anything else."""
    line = json.dumps({**json.loads(case_json(case())), **change}).encode()
    with contextlib.suppress(MalformedSuite):
        parse_case(line, YAWS)


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_in_a_sentence(line):
    """Also what is no JSON, or no object."""
    with pytest.raises(MalformedSuite):
        parse_case(line, YAWS)


def test_what_is_no_suite_is_told_so(tmp_path):
    """A file, an empty folder, a suite of another format, and one that nobody sealed."""
    (tmp_path / "file.txt").write_text("x")
    for path in (tmp_path, tmp_path / "file.txt"):
        with pytest.raises(UserError, match="is not a suite"):
            load_suite(str(path))
    write_suite(tmp_path / "suite", four_cases())
    head = tmp_path / "suite" / "suite.json"
    data = json.loads(head.read_text())
    head.write_text(json.dumps({**data, "format": 9}))
    with pytest.raises(UserError, match="format 9"):
        load_suite(str(tmp_path / "suite"))
    head.write_text(json.dumps({**data, "suite_sha256": ""}))
    with pytest.raises(UserError, match="not sealed"):
        load_suite(str(tmp_path / "suite"))
