"""`harmoview generate`: from files on disk to an mp4 with its settings, or one clear sentence."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.models import model_path
from datapipe.record import YAWS
from harmoview.bench.run import open_bench
from harmoview.identity import read_identity
from harmoview.orders import Order, Sampling, read_orders
from jobs import generate
from jobs.bench import generate as bench_generate
from jobs.options.crew import VideoModel
from jobs.options.fleet import Fleet, make_videos

_spec = importlib.util.spec_from_file_location(
    "tiny", Path(__file__).parent.parent / "harmoview" / "tiny.py"
)
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

SMALL = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny A14B base, a checkpoint of both experts, a tower, pictures of Anna and Bert."""
    from harmoview import HarmoViewTransformer3DModel
    from harmoview.checkpoint import save_parts

    folder = tmp_path_factory.mktemp("place")
    base = tiny.save_base(folder / "base", "A14B")
    for name in ("transformer", "transformer_2"):
        model = HarmoViewTransformer3DModel.from_wan(base, subfolder=name, **SMALL)
        save_parts(model, folder / "own" / name)
    tiny.tower().save_pretrained(folder / "vit")
    for person, seed in (("anna", 1), ("bert", 2)):
        (folder / person).mkdir()
        for name in ("reference", "yaw+30", "yaw-90"):
            cv2.imwrite(str(folder / person / f"{name}.jpg"), tiny.portrait(seed))
    return folder


def run(place, out, *more):
    return generate.main(
        ["--base", f"{place}/base", "--checkpoint", f"{place}/own", "--vit", f"{place}/vit",
         "--prompt", "a walk", "--identity", f"{place}/anna", "--out", str(out), "--height", "32",
         "--width", "48", "--frames", "5", "--steps", "2", "--dtype", "float32", "--quiet", *more]
    )  # fmt: skip


def test_two_people_become_an_mp4_with_its_settings_beside(place, tmp_path, capsys):
    """The frames asked for, at A14B's rate; the JSON holds every number used. A log is told what is
    being done, by us alone.
    """
    out = tmp_path / "v.mp4"
    people = ("--identity", f"{place}/anna", f"{place}/bert")
    assert run(place, out, *people, "--no-quiet") == 0
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith("[generate] ") for line in told)
    assert "2 of 2" in told[-1]
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (48, 32, 16)
        assert sum(1 for _ in container.decode(stream)) == 5
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["recipe"] == "Wan2.2-T2V-A14B"
    assert (record["shift"], record["guidance"], record["guidance_low"]) == (12.0, 4.0, 3.0)
    assert [sorted(person) for person in record["pictures"]] == [["-90", "0", "30"]] * 2
    assert record["seed"] == 0
    assert record["identity"] == [f"{place}/anna", f"{place}/bert"]


def test_a_picture_beside_the_video_shows_who_and_which_views(place, tmp_path):
    """A row for each person, a cell for each slot: the views given in colour, the others grey."""
    assert run(place, tmp_path / "v.mp4", "--identity", f"{place}/anna", f"{place}/bert") == 0
    sheet = cv2.imread(str(tmp_path / "v.jpg")).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 7
    colours = [
        np.ptp(sheet[row * height + 40 : row * height + 150, x + 40 : x + 150], axis=2).max() > 40
        for row in range(2)
        for x in range(0, 7 * width, width)
    ]
    assert colours == [yaw in (-90, 0, 30) for yaw in (-90, -60, -30, 0, 30, 60, 90)] * 2


def test_a_name_that_the_font_lacks_is_a_number_in_the_picture(place):
    """Not a row of boxes."""
    from harmoview.generate import shown

    pictures = (read_identity(place / "anna"),)
    model = tiny.harmoview()
    other, plain = (
        shown(Order("v", "p", pictures, (name,)), model) for name in ("日本", "person 0")
    )
    assert np.array_equal(other, plain)


def test_the_same_seed_gives_the_same_file(place, tmp_path):
    """Byte for byte; another seed does not."""
    outs = [tmp_path / f"{name}.mp4" for name in ("a", "b", "c")]
    for out, seed in zip(outs, ("3", "3", "4"), strict=True):
        assert run(place, out, "--seed", seed) == 0
    a, b, c = (out.read_bytes() for out in outs)
    assert a == b != c
    sheets = [out.with_suffix(".jpg").read_bytes() for out in outs]
    assert sheets == [sheets[0]] * 3


def test_no_file_is_replaced_but_what_a_killed_run_left(place, tmp_path, capsys):
    """Neither a video, nor a picture of the video's name: a sentence, and all is as it was."""
    out, photo = tmp_path / "v.mp4", tmp_path / "v.jpg"
    for file in (out, photo):
        file.write_bytes(b"mine")
        assert run(place, out) == 1
        assert f"{file} would be replaced" in capsys.readouterr().err
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]
        file.unlink()
    photo.write_bytes(b"half")
    record = tmp_path / "v.json"
    record.write_text("{}")  # of another tool
    assert run(place, out) == 1
    assert photo.read_bytes() == b"half"
    record.write_text('{"made_by": {}}')
    assert run(place, out) == 0
    assert photo.read_bytes() != b"half"


def test_a_job_that_has_the_code_alone_keeps_its_video(place, tmp_path, monkeypatch):
    """Submitted without an image, harmoview has no metadata there; the JSON leaves it out."""
    find = importlib.metadata.Distribution.from_name

    def without(name):
        if name == "harmoview":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", without)
    assert run(place, tmp_path / "v.mp4") == 0
    versions = json.loads((tmp_path / "v.json").read_text())["versions"]
    assert {"python", "torch", "diffusers", "transformers"} == set(versions)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--base", "nowhere"], "hf download"),
        (["--checkpoint", "nowhere"], "transformer/config.json"),
        (["--identity", "nobody"], "no such folder or picture"),
        (["--vit", "none"], "--vit"),
        (["--frames", "6"], "multiple of 4"),
        (["--lora", "nowhere.safetensors"], "nowhere.safetensors cannot be loaded as a LoRA"),
        (["--width", "50"], "multiples of 16"),
        (["--offload", "model", "--device", "cpu"], "needs a GPU"),
    ],
)
def test_a_mistake_ends_in_one_sentence(place, tmp_path, capsys, more, says):
    """Exit status 1, the option or file named, no traceback, no output."""
    assert run(place, tmp_path / "v.mp4", *more) == 1
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        ["--out", "v.avi"],
        ["--frames", "0"],
        ["--identity"],
        ["--workers", "3", "--context-parallel", "2"],
        ["--seed", "-1"],
        ["--seed", str(2**63)],
        ["--shift", "0"],
        ["--guidance", "nan"],
        ["--prompt", " "],
    ],
)
def test_wrong_arguments_exit_with_two(place, tmp_path, more):
    """Before anything is loaded."""
    assert run(place, tmp_path / "v.mp4", *more) == 2


def test_a_lora_for_one_of_two_experts_is_told(place, tmp_path, capsys):
    """Few steps of which half are made without the LoRA for them would be a wasted video."""
    from diffusers import WanPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    model = tiny.wan()
    model.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q"]))
    WanPipeline.save_lora_weights(tmp_path / "lora", get_peft_model_state_dict(model))
    assert run(place, tmp_path / "v.mp4", "--lora", str(tmp_path / "lora")) == 0
    assert "the other goes without --lora-low" in capsys.readouterr().err


def test_help_loads_no_torch():
    """Whoever asks for the options has them at once."""
    code = "import sys; from jobs import generate; generate.main(['--help']); " \
           "assert 'torch' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--reference-scale" in done.stdout


def orders(place, tmp_path, count):
    """A file of prompts for Anna and Bert in turn."""
    file = tmp_path / "prompts.jsonl"
    people = (f"{place}/anna", f"{place}/bert")
    size = {"height": 32, "width": 48, "frames": 5}
    lines = [
        {"name": f"v{k}", "prompt": f"walk {k}", "identities": [people[k % 2]], "seed": k, **size}
        for k in range(count)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def many(place, file, out, *more):
    return generate.main(
        ["--base", f"{place}/base", "--checkpoint", f"{place}/own", "--vit", f"{place}/vit",
         "--prompts", str(file), "--out", str(out), "--steps", "1", "--dtype", "float32",
         "--device", "cpu", "--quiet", *more]
    )  # fmt: skip


def test_a_file_of_prompts_is_made_once_and_only_what_is_missing(place, tmp_path):
    """Again it makes the video that is gone, with the same bytes, and leaves the others alone."""
    file, out = orders(place, tmp_path, 2), tmp_path / "out"
    assert many(place, file, out) == 0
    made = {path.name: path.read_bytes() for path in out.glob("*.mp4")}
    assert sorted(made) == ["v0.mp4", "v1.mp4"]
    assert made["v0.mp4"] != made["v1.mp4"]
    kept = (out / "v0.mp4").stat().st_mtime_ns
    (out / "v1.mp4").unlink()
    assert many(place, file, out) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.mp4")} == made
    assert (out / "v0.mp4").stat().st_mtime_ns == kept
    assert json.loads((out / "v1.json").read_text())["prompt"] == "walk 1"


def test_a_file_of_prompts_is_checked_whole_before_the_first_video(place, tmp_path, capsys):
    """A size that no video can have in its last line costs no hours."""
    file, out = orders(place, tmp_path, 2), tmp_path / "out"
    first, last = map(json.loads, file.read_text().splitlines())
    lines = [{**first, "name": "vidéo 日本".replace(" ", "-")}, {**last, "height": 40}]
    lines[0]["prompt"] += "\u2028and on"  # no end of a line in JSON
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert many(place, file, out) == 1
    assert "v1: height" in capsys.readouterr().err
    assert list(out.glob("*.mp4")) == []
    file.write_text(json.dumps(lines[0]))
    assert many(place, file, out) == 0
    assert [path.name for path in out.glob("*.mp4")] == ["vidéo-日本.mp4"]


def test_videos_of_another_order_or_model_are_not_taken_for_these(place, tmp_path, capsys):
    """A folder is continued with what it was begun with; another seed or scale is named."""
    file, out = orders(place, tmp_path, 1), tmp_path / "out"
    assert many(place, file, out) == 0
    assert many(place, file, out, "--guidance", "2") == 1
    assert "v0.mp4 already, made with other guidance:" in capsys.readouterr().err
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 7'))
    assert many(place, file, out) == 1
    assert "made with other seed:" in capsys.readouterr().err


@pytest.mark.weights
@pytest.mark.slow
def test_views_that_a_photo_lacks_are_made_once(place, tmp_path):
    """For two videos of one person by one photo, and found again when the rest is made; a view of
    the side is no frontal photo, and is cut where a folder names its yaw."""
    photo = sorted(Path(model_path("portraits")).rglob("studio_portrait.jpg"))[0]
    picture = np.pad(cv2.imread(str(photo)), ((0, 0), (200, 300), (0, 0)), mode="edge")
    cv2.imwrite(str(tmp_path / "me.jpg"), picture)
    file, out = orders(place, tmp_path, 2), tmp_path / "out"
    for person in ("anna", "bert"):
        file.write_text(file.read_text().replace(f"{place}/{person}", f"{tmp_path}/me.jpg"))
    made = ["--make-views", "mesh"]
    assert many(place, file, out, *made) == 0
    (person,) = (out / "views").iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in person.iterdir()}
    assert sorted(kept) == ["reference.jpg", *sorted(f"yaw{y:+03d}.jpg" for y in YAWS if y)]
    records = [json.loads((out / f"v{k}.json").read_text())["pictures"] for k in range(2)]
    assert records[0] == records[1]
    assert sorted(map(int, records[0][0])) == list(YAWS)
    before = (out / "v1.mp4").read_bytes()
    (out / "v1.mp4").unlink()
    assert many(place, file, out, *made) == 0
    assert (out / "v1.mp4").read_bytes() == before
    assert {path.name: path.stat().st_mtime_ns for path in person.iterdir()} == kept
    with pytest.raises(UserError, match=r"to image right.*yaw\+60"):
        read_identity(person / "yaw+60.jpg")
    side = cv2.imread(str(person / "yaw+60.jpg"))
    (tmp_path / "folder").mkdir()
    cv2.imwrite(str(tmp_path / "folder/yaw+60.jpg"), np.pad(side, ((0, 0), (90, 60), (0, 0))))
    cut = cv2.imdecode(np.frombuffer(read_identity(tmp_path / "folder")[60], np.uint8), 1)
    assert cut.shape[0] == cut.shape[1]


def test_stopped_at_any_write_and_run_again_the_files_are_the_same(place, tmp_path, monkeypatch):
    """Whatever write a process ends before, what is there is kept and the rest is made."""

    class Ready(VideoModel):
        def load(self):
            return generator

    sampling = Sampling(vit=f"{place}/vit", steps=1, dtype="float32", device="cpu")
    model = Ready(f"{place}/base", place / "own", sampling)
    generator = VideoModel.load(model)
    todo = read_orders(orders(place, tmp_path, 2))
    put = Folder.put

    def run_until(writes, out):
        left = iter(range(writes))

        def stops(self, *what):
            if next(left, None) is None:
                raise KeyboardInterrupt
            put(self, *what)

        with monkeypatch.context() as patch:
            patch.setattr(Folder, "put", stops)
            make_videos(model, todo, str(out), Fleet(), quiet=True)

    make_videos(model, todo, str(tmp_path / "whole"), Fleet(), quiet=True)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(whole) == 6
    for writes in range(6):
        out = tmp_path / str(writes)
        with pytest.raises(KeyboardInterrupt):
            run_until(writes, out)
        make_videos(model, todo, str(out), Fleet(), quiet=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_several_workers_make_the_same_videos_as_one(place, tmp_path):
    """Two actors on CPUs, byte for byte, whether each makes its own or both each video."""
    file = orders(place, tmp_path, 3)
    ways = {"one": [], "own": ["--workers", "2"], "both": ["--context-parallel", "2"]}
    for name, more in ways.items():
        assert many(place, file, tmp_path / name, *more) == 0
    one, own, both = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.mp4")} for name in ways
    )
    assert one == own == both
    assert len(one) == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "line 1"),
        ('{"name": "a/b", "prompt": "p", "identities": ["x"]}', "name"),
        ('{"name": "a", "identities": ["x"]}', "prompt is missing"),
        ('{"name": "a", "prompt": "p", "identities": []}', "one or two"),
        ('{"name": "a", "prompt": "p", "identities": ["nobody"]}', "nobody"),
        ('{"name": "a", "prompt": "p", "identities": ["x"], "seed": -1}', "seed"),
        ('{"name": "a", "prompt": "p", "identities": ["x"], "seed": 9223372036854775808}', "seed"),
        ('{"name": "a", "prompt": "p", "identities": ["x"], "fps": 0}', "fps"),
        ('{"name": "a", "prompt": "p", "identities": ["x"], "speed": 1}', "speed"),
        ("", "holds no prompt"),
    ],
)
def test_a_wrong_line_of_prompts_is_named(place, tmp_path, capsys, line, says):
    """Exit status 1, and the file, line and key in one sentence, before anything is loaded."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(line)
    assert many(place, file, tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert str(file) in message
    assert says in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--seed", "--height", "--fps"])
def test_sizes_and_seeds_of_prompts_stand_in_their_lines(place, tmp_path, capsys, option):
    """An option that would be ignored is refused."""
    (tmp_path / "prompts.jsonl").write_text("{}")
    assert many(place, tmp_path / "prompts.jsonl", tmp_path / "out", option, "32") == 2
    assert option in capsys.readouterr().err


def test_a_suite_goes_on_with_the_model_that_began_it(place, tmp_path, capsys):
    """A video that is gone is made again with the same bytes; other sampling is refused by name."""
    suites = runpy.run_path(str(Path(__file__).parents[1] / "harmoview/bench/suites.py"))
    cases = [suites["case"](), suites["case"]("pair-1", ("anna", "bert"))]
    suites["write_suite"](tmp_path / "suite", cases)

    def begin(*more):
        return bench_generate.main(
            [f"{tmp_path}/suite", "--run", f"{tmp_path}/run", "--method", "ours", "--base",
             f"{place}/base", "--checkpoint", f"{place}/own", "--vit", f"{place}/vit", "--steps",
             "1", "--dtype", "float32", "--device", "cpu", "--quiet", *more]
        )  # fmt: skip

    assert begin() == 0
    run = open_bench(f"{tmp_path}/run", f"{tmp_path}/suite")
    assert [key.case for key in run.videos()] == ["pair-1", "solo-1"]
    assert run.strangers() == []
    videos = {path: path.read_bytes() for path in (tmp_path / "run/videos/ours").glob("*.mp4")}
    next(iter(videos)).unlink()
    assert begin() == 0
    assert {path: path.read_bytes() for path in videos} == videos
    assert begin("--guidance", "2") == 1
    assert "videos of ours made with guidance None, not 2.0" in capsys.readouterr().err
