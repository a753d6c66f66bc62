"""A small run of two methods, and studies made of it, for tests."""

import json
from pathlib import Path

import numpy as np

from datapipe.files import Folder
from harmoview.bench.gsb.make import StudySettings, make_study
from harmoview.bench.run import open_bench
from lora_engine.subjects.clip import encode
from tests.harmoview.bench.suites import four_cases, write_suite

METHODS = ("ours", "theirs", "third")


def write_run(root, frames=5):
    """Four cases by three methods: `ours` is bright, `theirs` dark, `third` lacks a case."""
    suite = write_suite(root / "suite", four_cases())
    run = open_bench(str(root / "run"), str(root / "suite"))
    for level, method in zip((200, 60, 120), METHODS, strict=True):
        for number, case in enumerate(suite.cases[: 3 if method == "third" else 4]):
            size = (160, 128) if method == "theirs" else (128, 128)
            shade = np.full((size[1], size[0], 3), level + 5 * number, np.uint8)
            video = encode(iter([shade] * frames), size, 16)
            run.folder.put(f"videos/{method}/{case.id}.s0.mp4", video)
    return run


def write_study(run, path, **more):
    """A study of `ours` against the others, all in this process."""
    settings = {"base": "ours", "raters": 2, "session": 12, **more}
    make_study(run, Folder(path), StudySettings(**settings), workers=1)
    return Path(path)


def page_data(package):
    """What a package's page holds."""
    text = (package / "index.html").read_text()
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def answer(package, rater, choose):
    """A file of answers as the page writes it; `choose` gets item and axis and says a vote."""
    data = page_data(package)
    answers = [
        {"item": item["id"], "axis": axis, "vote": choose(item["id"], axis), "ms": 900, "plays": 1}
        for item in data["items"]
        for axis in data["axes"]
    ]
    file = package.parent / f"{package.name}.{rater}.json"
    record = {"format": 1, "package": data["package"], "rater": rater, "answers": answers}
    file.write_text(json.dumps({**record, "client": {}}))
    return file
