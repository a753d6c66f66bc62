"""The data set card: README.md beside the shards, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datapipe.claim import leaves
from datapipe.models.catalogue import CATALOGUE, USER_MODELS
from datapipe.run.info import RunInfo
from dataset.pack.manifest import Manifest

TASKS = ("text-to-video", "image-to-video")
_BOUNDS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
_PLAIN = re.compile(r"[\w+-]{1,64}(?:\.[\w+-]{1,64}){0,3}", re.ASCII)
"""A member's name after the key, as pack makes it."""
_LOADED_BY_NAME = {
    ("faces", "buffalo_l"): "buffalo_l",
    ("name", "nima"): "NIMA",
    ("engine", "flux"): "FLUX.1-Kontext-dev",
}


def data_card(info: RunInfo, manifests: Mapping[str | None, Manifest]) -> str:
    """The card of the shards of `manifests`, by split; None where there are no splits.

    The same manifests give the same text: it names no time, no machine and no path.
    """
    whole = list(manifests.values())
    parts = (
        _front_matter(manifests),
        "# Multi-view identity data set\n",
        "Video clips with, for each person in them, one reference picture and views of the head\n"
        "at fixed yaw angles. The clips are real; a view is synthesised from the reference or a\n"
        "frame of a video: `source` of each view in `json` says which, and `references_from`\n"
        "which video the pictures are of where that is another one, or the same one where all\n"
        "windows are of other shots than the pictures. Packed by HarmoView. Yaw is in degrees,\n"
        "positive when the nose points to image right.\n",
        _counts(manifests),
        _loading(manifests),
        _members(whole),
        _rules(whole[0].rules),
        _licences(info),
        _provenance(manifests),
    )
    return "\n".join(parts)


def _front_matter(manifests: Mapping[str | None, Manifest]) -> str:
    # as JSON, which YAML reads: no text can end a string there
    samples = sum(manifest.totals.samples for manifest in manifests.values())
    files = [
        {"split": split or "train", "path": f"{split}/*.tar" if split else "*.tar"}
        for split in manifests
    ]
    features = list(_features(list(manifests.values())))
    head = {
        "pretty_name": "HarmoView multi-view identity shards",
        "license": "other",
        "license_name": "see-licences-below",
        "task_categories": list(TASKS),
        "size_categories": [_size_category(samples)],
        "tags": ["webdataset", "video", "face", "multi-view", "harmoview"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in head.items()]
    lines += ["dataset_info:", "  config_name: default", "  features:"]
    lines += [f"  - {json.dumps(feature)}" for feature in features]
    return "\n".join(["---", *lines, "---", ""])


def _size_category(samples: int) -> str:
    if samples < _BOUNDS[0]:
        return "n<1K"
    for index, bound in enumerate(_BOUNDS[1:]):
        if samples < bound:
            return f"{_NAMES[index]}<n<{_NAMES[index + 1]}"
    return "n>1B"


def _features(manifests: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    """What `datasets` is told of each member: samples differ in their views, clips in their ending.

    Without it, it takes the first samples for the shape of all and stops where one differs.
    """
    for name in _member_names(manifests):
        if name.endswith(".jpg"):
            kind: Any = "image"
        elif name == "json":
            kind = "json"
        elif name == "txt":
            kind = "string"
        else:  # a clip
            kind = {"video": {"decode": False}}
        yield {"name": name, "dtype": kind}
    yield from ({"name": name, "dtype": "string"} for name in ("__key__", "__url__"))


def _member_names(manifests: Sequence[Manifest]) -> list[str]:
    names = {name for manifest in manifests for name in manifest.totals.members}
    return sorted(name for name in names if _PLAIN.fullmatch(name))


def _counts(manifests: Mapping[str | None, Manifest]) -> str:
    yaws = sorted({yaw for one in manifests.values() for yaw in one.totals.views}, key=int)
    titles = ("", "samples", "identities", "views", "MB", "shards")
    rows = []
    for split, manifest in manifests.items():
        totals = manifest.totals
        views = sum(totals.views.values())
        numbers = (totals.samples, totals.identities, views, totals.bytes // 10**6)
        rows.append((split or "all", *(f"{n:,}" for n in (*numbers, len(manifest.shards)))))
    per_yaw = [
        (split or "all", *(f"{manifest.totals.views.get(yaw, 0):,}" for yaw in yaws))
        for split, manifest in manifests.items()
    ]
    text = f"## Content\n\n{_table(titles, rows)}"
    if yaws:
        text += "\nViews at each yaw:\n\n" + _table(("", *(f"{int(y):+d}°" for y in yaws)), per_yaw)
    return text


def _loading(manifests: Mapping[str | None, Manifest]) -> str:
    split = next((name for name, one in manifests.items() if one.shards), None)
    shards = len(manifests[split].shards) if split in manifests else 0
    names = f"{{000000..{shards - 1:06d}}}.tar" if shards > 1 else "000000.tar"
    clips = [name for name in _member_names(list(manifests.values())) if _is_clip(name)]
    return f"""## Loading

With `webdataset`, from the folder of this file:

```python
import webdataset as wds

url = "{f"{split}/" if split else ""}{names}"
for sample in wds.WebDataset(url, shardshuffle=100).shuffle(1000).decode("pil"):
    print(sample["__key__"], sample["txt"], sample["json"]["identities"][0]["yaws"])
```

With `datasets` 5 or later:

```python
from pathlib import Path

from datasets import load_dataset

folder = str(Path.cwd())  # of this file, or its name on the hub
for sample in load_dataset(folder, split="{split or "train"}", streaming=True):
    print(sample["__key__"], sample["txt"], sample["json"]["identities"][0]["yaws"])
```

`datasets` takes the members from the head of this file, so give it the folder: from bare tars it
would take the first samples for the shape of all. A member that a sample lacks is None. A clip
comes as `{{"path", "bytes"}}`, or decoded by torchcodec after
`.cast_column("{clips[0] if clips else "mp4"}", Video())`.
Samples lie in the order of their keys: shuffle.
"""


def _is_clip(name: str) -> bool:
    return name not in ("txt", "json") and not name.endswith(".jpg")


def _members(manifests: Sequence[Manifest]) -> str:
    counted: Counter[str] = Counter()
    for manifest in manifests:
        counted.update(manifest.totals.members)
    rows = [(f"`{name}`", f"{counted[name]:,}") for name in _member_names(manifests)]
    return (
        "## Members of a sample\n\n"
        "After the key and a dot. `txt` is the caption; `json` holds scores, reference timestamp\n"
        "and provenance of each identity.\n\n" + _table(("member", "samples"), rows)
    )


def _rules(rules: Mapping[str, Any]) -> str:
    rows = [(code(name), code(json.dumps(value))) for name, value in leaves(rules).items()]
    return (
        "## Rules\n\nA view is in this set because its scores pass these thresholds, which are in\n"
        "`manifest.json` too.\n\n" + _table(("rule", "value"), rows)
    )


def _licences(info: RunInfo) -> str:
    settings = leaves({**info.settings, "scorers": info.scoring.scorers}).items()
    used = {(path.rpartition(".")[2], text) for path, text in settings if isinstance(text, str)}
    values = {value for _, value in used}
    names = {name for key, name in _LOADED_BY_NAME.items() if key in used}
    if info.scoring.scorers.get("pose") is not None:
        names.add("6DRepNet")
    models = [model for model in CATALOGUE if model.sha256 in values]
    brought = [model for model in USER_MODELS if model.name in names]
    rows = [
        *((model.name, model.purpose, model.licence) for model in models),
        *((model.name, model.purpose, model.licence) for model in brought),
    ]
    return (
        "## Licences\n\n"
        "The clips and captions keep the terms of the corpus they come from; whoever publishes\n"
        "this set must have the right to, also to the likeness of the people in it. Replace\n"
        "`license` in the head of this file by what you may grant. Models that made or measured\n"
        "the views:\n\n" + _table(("model", "for", "licence"), rows)
    )


def _provenance(manifests: Mapping[str | None, Manifest]) -> str:
    first = next(iter(manifests.values()))
    run = {"seed": first.run.get("seed", ""), **first.run.get("labels", {}), **first.selection}
    rows = [
        ("settings of the run (SHA-256)", code(first.run.get("settings", ""))),
        *((code(name), code(value)) for name, value in run.items()),
        *(
            (f"shards of {split or 'this folder'} (SHA-256)", f"`{manifest.fingerprint}`")
            for split, manifest in manifests.items()
        ),
    ]
    return (
        "## Provenance\n\n"
        + _table(("", ""), rows)
        + "\n`harmoview verify` checks the shards, and that this card is about them.\n"
    )


def code(text: Any) -> str:
    """Any text as a code span in one cell of a table, where it is neither markup, link nor HTML."""
    kept = "".join(c if c.isprintable() else " " for c in str(text))[:500]
    kept = kept.replace("`", "'").replace("|", "¦").strip()
    return f"`{kept}`" if kept else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
