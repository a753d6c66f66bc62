"""The frame of a suite of one's own: files to fill in, and a page that says how."""

from __future__ import annotations

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import YAWS
from harmoview.bench.suite import write_head
from harmoview.bench.suite_json import (
    Case,
    CaseIdentity,
    SuiteIdentity,
    case_json,
    identity_json,
)

HOW_TO = """A suite of HarmoView-Bench

1. identities/ID/ holds one person: reference.jpg and {first} … {last} (yaw in degrees,
   positive when the nose points to image right), at least 256 pixels a side, and identity.json.
   `kind` is virtual, synthetic or real; a real person needs `consent`.
2. cases.jsonl holds one case a line; the one that is there shows every field. `shown` are the yaws
   that a model is given, `requests.yaw` the degrees between which the prompt has heads turn.
3. suite.json names the licence of the whole.

    harmoview bench check SUITE           lists everything that is wrong, by name
    harmoview bench check SUITE --seal    and, where nothing is, makes it a suite to score with
"""


def make_frame(folder: Folder) -> None:
    """Write the files. Raises UserError where the folder holds a suite already."""
    if folder.exists("suite.json"):
        raise UserError(f"{folder.url} holds a suite already; give another folder")
    case = Case(
        id="example",
        prompt="A woman with short grey hair looks over one shoulder, then over the other.",
        identities=(CaseIdentity("anna", "A", "the woman with short grey hair"),),
        shown=YAWS,
        seed=0,
        width=832,
        height=480,
        frames=81,
        fps=16,
        requests={"yaw": (-60.0, 60.0)},
        tags=("solo",),
    )
    folder.put("cases.jsonl", (case_json(case) + "\n").encode())
    anna = SuiteIdentity(id="anna", kind="real", source="", licence="", creator="")
    folder.put("identities/anna/identity.json", identity_json(anna))
    text = HOW_TO.format(first=f"yaw{min(YAWS):+03d}.jpg", last=f"yaw{max(YAWS):+03d}.jpg")
    folder.put("README.txt", text.encode())
    write_head(folder, version="1", yaws=YAWS, licence="")
