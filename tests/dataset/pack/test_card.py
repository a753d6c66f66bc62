"""The data set card says what is there, loads as it says, and carries no markup of strangers."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from markdown_it import MarkdownIt

from datapipe.models.catalogue import CATALOGUE
from datapipe.run.info import RunInfo, Scoring
from dataset.pack.card import data_card
from dataset.pack.manifest import Manifest, PackTotals
from dataset.pack.pack import ShardLimits, pack
from tests.datapipe.runs import RULES, TinyRun, good

INFO = RunInfo("/home/me/secret corpus", 7, {"engine": {"engine": "mesh"}}, Scoring())
TOTALS = PackTotals(samples=3, views={"0": 3}, members={"mp4": 3, "id0.yaw+00.jpg": 3})
MANIFEST = Manifest({"seed": 7, "labels": {}}, {"minimum_views": 4}, {}, TOTALS, ())


def head(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Samples that differ: a view missing, two people, no caption."""
    root = tmp_path_factory.mktemp("card")
    tiny = TinyRun(root)
    tiny.add("a", [{-90: good(-90, detected=False)}], caption="")
    tiny.add("b", [{}, {}], caption="<b>bold</b> ---")
    tiny.add("c")
    run = tiny.save()
    pack(run, run.folder("shards"), RULES, ShardLimits(samples=2), lambda *_: None)
    return run.local / "shards"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_what_the_card_says_of_loading_works(shards, tmp_path, number):
    """Both snippets, run as they stand in the folder, offline, print every sample."""
    snippet = re.findall(r"```python\n(.*?)```", (shards / "README.md").read_text(), re.S)[number]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=shards,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    keys = {line.split()[0] for line in done.stdout.splitlines() if line.endswith("]")}
    assert keys == {"a", "b", "c"}


@pytest.mark.slow
def test_datasets_decodes_every_member(shards, tmp_path):
    """Whole, not streamed: pictures as pictures, captions as text, clips as their bytes."""
    code = (
        "import datasets, json, os\n"
        "found = datasets.load_dataset(os.getcwd(), split='train')\n"
        "for one in found:\n"
        "    print(json.dumps([one['__key__'], one['txt'], one['mp4']['bytes'].decode(),\n"
        "        one['id0.yaw+00.jpg'].size, one['id0.yaw-90.jpg'] is None,\n"
        "        one['id1.reference.jpg'] is None, one['json']['key']]))\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shards, env=environment, capture_output=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    clips = [f"the clip of {key}" * 40 for key in "abc"]
    assert rows == [
        ["a", "", clips[0], [24, 24], True, True, "a"],
        ["b", "<b>bold</b> ---", clips[1], [24, 24], False, False, "b"],
        ["c", "a person", clips[2], [24, 24], False, True, "c"],
    ]


def test_the_head_names_splits_size_and_every_member():
    """What the hub reads is YAML, and holds what is packed."""
    large = replace(MANIFEST, totals=replace(TOTALS, samples=120_000))
    found = head(data_card(INFO, {"train": large, "validation": MANIFEST}))
    files = found["configs"][0]["data_files"]
    assert [one["path"] for one in files] == ["train/*.tar", "validation/*.tar"]
    assert found["size_categories"] == ["100K<n<1M"]
    assert {one["name"] for one in found["dataset_info"]["features"]} == {
        *("mp4", "id0.yaw+00.jpg", "__key__", "__url__")
    }
    assert head(data_card(INFO, {None: MANIFEST}))["size_categories"] == ["n<1K"]


def test_models_are_named_with_their_licences():
    """Those of the catalogue by the hash in run.json, the user's own by their names."""
    sface = next(model for model in CATALOGUE if model.name == "sface")
    yunet = next(model for model in CATALOGUE if model.name == "yunet")
    light = replace(INFO, settings={"faces": {"recogniser": sface.sha256}})
    card = data_card(light, {None: MANIFEST})
    assert f"| sface | {sface.purpose} | {sface.licence} |" in card
    assert yunet.licence not in card
    heavy = replace(INFO, settings={"faces": {"faces": "buffalo_l"}, "engine": {"engine": "flux"}})
    card = data_card(heavy, {None: MANIFEST})
    assert "non-commercial research only" in card
    assert "FLUX.1 [dev] Non-Commercial License" in card


HOSTILE = (
    "</td><script>alert(1)</script> [x](javascript:a) ![y](http://z) `|\n# Title\r\n---\n\x1b[31m"
)


def test_no_text_of_others_becomes_markup():
    """Labels, settings and member names end as inert text: no HTML, link, picture or heading."""
    hostile = Manifest(
        {"seed": HOSTILE, "labels": {HOSTILE: HOSTILE}, "settings": HOSTILE},
        {HOSTILE: {HOSTILE: HOSTILE}},
        {},
        replace(TOTALS, members={"mp4": 1, f"{HOSTILE}.jpg": 1}),
        (),
        {HOSTILE: HOSTILE},
    )
    clean, card = data_card(INFO, {None: MANIFEST}), data_card(INFO, {None: hostile})
    assert (
        head(card)["dataset_info"]
        == head(
            data_card(INFO, {None: replace(MANIFEST, totals=replace(TOTALS, members={"mp4": 1}))})
        )["dataset_info"]
    )
    assert "\x1b" not in card
    page = MarkdownIt("commonmark", {"html": True}).enable("table")
    tags = re.findall(r"<(\w+)", page.render(card.split("---\n", 2)[2]))
    assert set(tags) <= set(re.findall(r"<(\w+)", page.render(clean.split("---\n", 2)[2])))
    assert tags.count("h2") == clean.count("\n## ")


def test_the_card_tells_nothing_of_the_machine():
    """Neither the corpus' path nor a time: a published card gives away what was packed, no more."""
    assert "secret" not in data_card(INFO, {None: MANIFEST})
