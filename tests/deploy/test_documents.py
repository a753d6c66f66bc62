"""The documents are true of the tree: whatever they link to or name by path is there."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from jobs.arguments import arguments
from jobs.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")])
TRUE_TODAY = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = (
    "datapipe|filters|training|dataset|lora_engine|harmoview|jobs|tests|benchmarks|docs|deploy"
)
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w(?:/(?!\w))?")
MODULE = re.compile(r"python -m ((?:jobs|benchmarks|docs)\.\w+)")

LINE = re.compile(r"(?:^[ $]*|`)harmoview ((?:\\\n|[^\n`#])*)", re.M)
OPTION = re.compile(r"(?<![\w-])--([a-z][\w.-]*\w)")
NAMED = re.compile(r"`--([a-z][\w.-]*\w)(?=[ `])")
EVERYWHERE = {"settings", "print-settings", "log-level", "help", "version", "complete"}
OTHERS = {"lr", "no-NAME", "entries", "short", "metrics-export-port"}
"""Named in the documents: a mistake, any switch, options of benchmarks and of Ray."""


def anchors(text):
    """What GitHub makes of headings."""
    heads = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    """Links to files of the project reach a file, and those to a heading one that is there."""
    for target in LINK.findall(document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = document.parent / name if name else document
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text()), target


@pytest.mark.parametrize("document", TRUE_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_named_is_there(document):
    """Of the project's own folders."""
    text = document.read_text()
    named = {match.rstrip("/") for match in PATH.findall(text)}
    named |= {f"{module.replace('.', '/')}.py" for module in MODULE.findall(text)}
    assert not sorted(path for path in named if not any(ROOT.glob(path)))


@cache
def options():
    """The options of each command, by what is typed behind `harmoview`."""
    found, todo = {}, [(name,) for name in COMMANDS]
    while todo:
        words = todo.pop()
        module = importlib.import_module(".".join(["jobs", *words]).replace("-", "_"))
        if hasattr(module, "ACTIONS"):
            todo += [(*words, action) for action in module.ACTIONS]
        else:
            found[" ".join(words)] = EVERYWHERE | arguments(module.main.settings).keys()
    return found


def unknown(names, known):
    """Those that are no option; a switch may be taken back."""
    return {name for name in names if not {name, name.removeprefix("no-")} & known} - OTHERS


@pytest.mark.parametrize("document", TRUE_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_named_is_one(document):
    """Of the command of its line, or of any command where it is named in the text."""
    text, known = document.read_text(), options()
    for line in LINE.findall(text):
        for part in line.replace("\\\n", " ").split(" -- "):  # what submit hands on is one too
            words = part.split()
            own = next(filter(known.get, (" ".join(words[:n]) for n in (3, 2, 1))), None)
            assert own is None or not unknown(OPTION.findall(" ".join(words)), known[own]), line
    assert not unknown(NAMED.findall(text), set().union(*known.values()))


def test_a_samples_life_is_twenty_files():
    """At most, one sentence each, numbered in the order in which they run."""
    rows = re.findall(
        r"^\| (\d+) \| (.+) \| (.+) \|$", (ROOT / "docs/a-samples-life.md").read_text(), re.M
    )
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) <= 20
    assert all(len(re.findall(r"\.(?: |$)", said)) == 1 for _, _, said in rows)
