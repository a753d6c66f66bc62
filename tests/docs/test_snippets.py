"""Every Python snippet of every document runs as it stands, on a small real part of its own."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^(?:##+ (?P<heading>[^\n]+)|```python\n(?P<code>.*?)^```)$", re.M | re.S)
TOP = "top"
"""The section of snippets that stand before the first heading."""


@dataclass(frozen=True)
class Section:
    """The snippets under one heading, which share their names."""

    document: str
    heading: str
    code: str

    def __str__(self) -> str:
        return f"{self.document}: {self.heading}"


def sections() -> list[Section]:
    found: dict[tuple[str, str], list[str]] = {}
    for document in DOCUMENTS:
        heading = TOP
        for block in BLOCK.finditer(document.read_text()):
            heading = block["heading"] or heading
            if block["code"]:
                found.setdefault((document.name, heading), []).append(block["code"])
    return [Section(*where, "\n".join(codes)) for where, codes in found.items()]


def tiny_run(folder):
    """`my-run`, packed; one clip is a .mov, some views and one identity are left out."""
    from jobs import pack
    from tests.datapipe.runs import TinyRun, good

    tiny = TinyRun(folder, "my-run")
    tiny.add("a-key", [{-90: good(-90, sharpness=0.0)}])
    tiny.add("b", [{yaw: good(yaw, detected=False) for yaw in (-90, -60, -30, 0)}, {}])
    clip = tiny.add("c")
    moved = clip.rename(clip.with_suffix(".mov"))
    source = replace(tiny.samples[-1].source, path=str(moved), suffix=".mov")
    tiny.samples[-1] = replace(tiny.samples[-1], source=source)
    tiny.reject("noface")
    scored = tiny.samples[0]
    tiny.save()
    (folder / "stricter.toml").write_text("minimum_views = 7\n")
    assert pack.main([str(folder / "my-run"), "--quiet"]) == 0
    return {"sample": scored}


def clips(folder):
    """`my-videos`: a clip with a person in it and one without."""
    from tests.datapipe.media import numbered, write_video
    from tests.jobs.people import person

    (folder / "my-videos").mkdir()
    write_video(folder / "my-videos" / "good.mp4", person("P005", 448, 12))
    write_video(folder / "my-videos" / "nobody.mp4", numbered(20))
    (folder / "stricter.toml").write_text("minimum_views = 7\n")


def portrait(folder):
    from datapipe.models import model_path

    found = model_path("portraits") / "P005" / "assets" / "studio_portrait.jpg"
    shutil.copy(found, folder / "portrait.jpg")


def video_model(folder):
    """Tiny weights in the real formats under the names that the documents use."""
    import torch

    import harmoview
    from datapipe.pictures import encode_jpeg
    from harmoview import HarmoViewTransformer3DModel, tiny
    from harmoview.checkpoint import save_parts

    sys.path.insert(0, str(ROOT / "tests" / "harmoview"))
    small = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}
    for name, kind, experts in (
        ("Wan2.2-TI2V-5B-Diffusers", "5B", ["transformer"]),
        ("Wan2.2-T2V-A14B-Diffusers", "A14B", ["transformer", "transformer_2"]),
    ):
        tiny.save_base(folder / name, kind)
        for expert in experts:
            model = HarmoViewTransformer3DModel.from_wan(folder / name / expert, **small)
            save_parts(model, folder / ("my-model" if kind == "5B" else "parts") / "model" / expert)
            if kind == "A14B":
                model.save_pretrained(folder / "OUT" / "model" / expert)
    tiny.tower().save_pretrained(folder / "Qwen2.5-VL-7B-Instruct")
    (folder / "portraits" / "anna").mkdir(parents=True)
    noise = torch.randint(0, 255, (48, 48, 3), dtype=torch.uint8).numpy()
    for name in ("reference", "yaw+30"):
        (folder / "portraits" / "anna" / f"{name}.jpg").write_bytes(encode_jpeg(noise))
    return {
        **{name: getattr(harmoview, name) for name in harmoview.__all__},
        "hidden_states": torch.randn(1, 16, 2, 4, 4),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 6, 32),
        "latents": torch.randn(1, 1, 7, 16, 4, 4),
        "mask": torch.ones(1, 1, 7, dtype=torch.bool),
        "features": torch.randn(1, 1, 4, 5120),
    }


GIVEN = {
    ("README.md", "What comes out"): (tiny_run,),
    ("filters.md", "*"): (tiny_run,),
    ("corpus.md", "*"): (clips, pytest.mark.weights),
    ("model.md", "*"): (video_model, pytest.mark.slow),
    ("python.md", "The pipeline in five lines"): (clips, pytest.mark.weights, pytest.mark.proof),
    ("python.md", "A run"): (tiny_run,),
    ("python.md", "Rules"): (tiny_run,),
    ("python.md", "One portrait, seven views"): (portrait, pytest.mark.weights, pytest.mark.slow),
    ("python.md", "The video model"): (video_model, pytest.mark.slow),
    ("python.md", "Reading shards with several workers"): (tiny_run, pytest.mark.slow),
}
"""What the snippets of a section are given: a maker of the files that they name, which may return
names too, and marks."""


def the_run_is_told(names):
    assert names["blurred"] == ["a-key"]
    assert names["story"].row["outcome"] == "candidate"
    assert Path("a-key.jpg").read_bytes() == names["story"].picture()


def the_rules_are_applied(names):
    assert names["strict"].minimum_views == 7
    assert Path("strict-shards/manifest.json").is_file()


def each_sample_comes_once(names):
    """From two workers on one shard, whatever its clip is called, with the views that it has."""
    from torch.utils.data import DataLoader

    samples = list(DataLoader(names["dataset"], batch_size=None, num_workers=2))
    assert Counter(key for key, *_ in samples) == Counter(["a-key", "b", "c"])
    assert {key: int(mask.sum()) for key, *_, mask in samples} == {"a-key": 6, "b": 7, "c": 7}
    assert all(clip > 0 for _, _, clip, *_ in samples)


def seven_views_are_there(names):
    assert len(list(Path().glob("yaw*.jpg"))) == 7


def a_video_is_there(names):
    assert Path("video.mp4").stat().st_size > 0


LEAVES = {
    ("python.md", "A run"): the_run_is_told,
    ("python.md", "Rules"): the_rules_are_applied,
    ("python.md", "One portrait, seven views"): seven_views_are_there,
    ("python.md", "The video model"): a_video_is_there,
    ("python.md", "Reading shards with several workers"): each_sample_comes_once,
}
"""What holds when the snippets of a section have run, told their names."""


def given(section):
    return GIVEN.get((section.document, section.heading)) or GIVEN.get((section.document, "*"))


@pytest.mark.parametrize(
    "section",
    [pytest.param(one, id=str(one), marks=(given(one) or (None,))[1:]) for one in sections()],
)
def test_snippets_run(section, tmp_path, monkeypatch):
    """In order, in a folder with the files that the text speaks of."""
    monkeypatch.chdir(tmp_path)
    made = given(section)
    names = {"__name__": "snippet", **((made[0](tmp_path) if made else None) or {})}
    exec(compile(section.code, str(section), "exec"), names)
    if leaves := LEAVES.get((section.document, section.heading)):
        leaves(names)


@pytest.mark.proof
@pytest.mark.weights
def test_the_tour_runs(tmp_path, monkeypatch):
    """Every cell of the notebook, in order, from an empty folder; it is kept without outputs."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs/tour.ipynb").read_text())["cells"]
    names = {"__name__": "tour"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["stats"].samples_kept == 2


def test_no_promise_is_stale():
    """Each section that is given something is there."""
    there = {(one.document, one.heading) for one in sections()}
    there |= {(document, "*") for document, _ in there}
    assert GIVEN.keys() | LEAVES.keys() <= there
