"""The documents are true of the tree: whatever they link to or name by path is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")])
TRUE_TODAY = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = (
    "datapipe|filters|training|dataset|lora_engine|harmoview|jobs|tests|benchmarks|docs|deploy"
)
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w(?:/(?!\w))?")
MODULE = re.compile(r"python -m ((?:jobs|benchmarks|docs)\.\w+)")


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


def test_a_samples_life_is_twenty_files():
    """At most, one sentence each, numbered in the order in which they run."""
    rows = re.findall(
        r"^\| (\d+) \| (.+) \| (.+) \|$", (ROOT / "docs/a-samples-life.md").read_text(), re.M
    )
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) <= 20
    assert all(len(re.findall(r"\.(?: |$)", said)) == 1 for _, _, said in rows)
