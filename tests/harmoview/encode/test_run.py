"""Encoding: every sample once, also after an interruption, and bad ones named and counted."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import YAWS
from dataset.pack.pack import ShardLimits, pack
from harmoview.data.encoded import EncodedShards
from harmoview.encode.encoder import Encoder
from harmoview.encode.manifest import load_encoded
from harmoview.encode.run import encode, encode_here
from harmoview.encode.settings import EncodeSettings
from harmoview.load import load_frontal_encoder
from harmoview.model.layout import ReferenceLayout
from harmoview.model.references import encode_references
from harmoview.tiny import save_base, tower
from lora_engine.subjects.clip import encode as mp4
from tests.datapipe.runs import RULES, WINDOW, TinyRun


def clip(seed, frames=9):
    draw = np.random.default_rng(seed)
    return mp4((draw.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(frames)), (64, 48), 8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    save_base(root / "wan")
    tower().save_pretrained(root / "vit")
    return EncodeSettings(
        str(root / "wan"), str(root / "vit"), ("9x32x32", "5x32x48"), 8, 32, 0, 56, 8, "float32"
    )


@pytest.fixture
def packed(tmp_path):
    """Five samples in three shards; one of two people, one too short, two with one caption."""
    run = TinyRun(tmp_path)
    run.add("a", clip=clip(0), caption="one")
    run.add("b", people=({}, {}), clip=clip(1), caption="one")
    run.add("c", clip=clip(2, frames=4), caption="two")
    run.add("d", clip=clip(3, frames=6), caption="two")
    run.add("e", clip=b"no video at all", caption="three")
    folder = run.save()
    out = folder.folder("shards")
    pack(folder, out, RULES, ShardLimits(samples=2), lambda *_: None)
    return out


def encoded(packed, out, models, work=None):
    here = encode_here(packed, out, models, "cpu")
    return encode(packed, out, models, work or here, lambda *_: None)


def files(out):
    return {name: out.read(name) for name in out.names("**") if out.fs.isfile(out.path(name))}


def test_a_sample_holds_latents_of_clip_and_views_text_and_features(packed, tmp_path, models):
    """In the shapes of its bucket; what cannot be encoded is skipped and counted."""
    manifest = encoded(packed, Folder(tmp_path / "out"), models)
    assert manifest.skipped == {"too_short": 1, "unreadable": 1}
    data = EncodedShards(str(tmp_path / "out"))
    assert data.keys == [f"{clip}@0000000" for clip in "abd"]
    two = data.read(1)
    assert two.video.shape == (16, 3, 4, 4)
    assert two.references.shape == (2, 7, 16, 4, 4)
    assert two.present.all()
    assert two.features.shape == (2, 4, 128)
    assert data.read(2).video.shape == (16, 2, 4, 6)
    assert torch.equal(data.read(0).text, two.text)
    assert data.caption(2) == "two"


def test_each_slot_holds_the_picture_of_its_own_person_and_yaw(packed, tmp_path, models):
    """As the shard has it beside the clip, the frontal slot the real reference."""
    encoded(packed, Folder(tmp_path / "out"), models)
    data = EncodedShards(str(tmp_path / "out"))
    vae = AutoencoderKLWan.from_pretrained(models.base, subfolder="vae")
    members = {}
    for name in packed.names("*.tar"):
        with tarfile.open(fileobj=io.BytesIO(packed.read(name))) as tar:
            members |= {one.name: tar.extractfile(one).read() for one in tar}
    for row, key in enumerate("abd"):
        for identity, found in enumerate(data.read(row).references):
            names = [f"yaw{yaw:+03d}.jpg" if yaw else "reference.jpg" for yaw in YAWS]
            pictures = [decode_jpeg(members[f"{key}.id{identity}.{name}"]) for name in names]
            assert len({picture.tobytes() for picture in pictures}) == len(YAWS)
            views = [dict(zip(YAWS, pictures, strict=True))]
            asked = encode_references(vae, None, views, ReferenceLayout(), 32, torch.device("cpu"))
            assert torch.allclose(found, asked.latents[0, 0], atol=1e-4), (key, identity)


def test_texts_are_encoded_once_and_the_empty_one_always(packed, tmp_path, models):
    """Two captions of samples that were encoded, and the empty one."""
    out = Folder(tmp_path / "out")
    encoded(packed, out, models)
    assert len(out.names("text/*/*.safetensors")) == 3


def test_an_interrupted_run_continues_where_it_was(packed, tmp_path, models):
    """Finished shards are not encoded again, and all bytes are those of a whole run."""
    whole, part = Folder(tmp_path / "whole"), Folder(tmp_path / "part")
    encoded(packed, whole, models)
    done = []

    def only_one(shards):
        yield from encode_here(packed, part, models, "cpu")(shards[:1])
        done.append(shards[0].name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(packed, part, models, only_one)
    with pytest.raises(UserError, match="has not finished"):
        load_encoded(part)
    rest = []

    def counted(shards):
        rest.extend(shard.name for shard in shards)
        yield from encode_here(packed, part, models, "cpu")(shards)

    encoded(packed, part, models, counted)
    assert done == ["000000.tar"]
    assert rest == ["000001.tar", "000002.tar"]
    assert files(part) == files(whole)


def test_other_settings_or_shards_are_refused(packed, tmp_path, models):
    """With the option's name."""
    out = Folder(tmp_path / "out")
    encoded(packed, out, models)
    other = EncodeSettings.of({**models.described(), "text_length": 9})
    with pytest.raises(UserError, match="--text-length"):
        encoded(packed, out, other)


def test_the_vision_tower_is_noted_and_cannot_change(packed, tmp_path, models):
    """In the manifest; other weights under the same name while a folder is being encoded."""
    vit = tmp_path / "vit"
    tower().save_pretrained(vit)
    settings = replace(models, vit=str(vit))
    noted = encoded(packed, Folder(tmp_path / "whole"), settings).tower
    assert noted == load_frontal_encoder(str(vit), models.vit_layer, models.vit_size).fingerprint

    def changed_in_between(shards):
        yield from encode_here(packed, out, settings, "cpu")(shards[:1])
        other = tower()
        with torch.no_grad():
            other.patch_embed.proj.weight.mul_(2)
        other.save_pretrained(vit)
        yield from encode_here(packed, out, settings, "cpu")(shards[1:])

    out = Folder(tmp_path / "out")
    with pytest.raises(UserError, match="more than one vision tower"):
        encoded(packed, out, settings, changed_in_between)
    assert not out.exists("manifest.json")


def test_a_damaged_packed_shard_is_an_error(packed, tmp_path, models):
    """Nothing of it appears."""
    path = packed.local / "000001.tar"
    whole = bytearray(path.read_bytes())
    whole[-3000] ^= 1
    path.write_bytes(bytes(whole))
    out = Folder(tmp_path / "out")
    with pytest.raises(UserError, match=r"000001\.tar is not the file"):
        encoded(packed, out, models)
    assert not out.exists("000001.tar")


def test_members_are_named_by_clip_and_window(packed, tmp_path, models):
    """A tensor file and a description, which names the window and what is shown of it."""
    out = Folder(tmp_path / "out")
    encoded(packed, out, models)
    with tarfile.open(fileobj=io.BytesIO(out.read("000000.tar"))) as tar:
        assert tar.getnames() == [
            f"{clip}@0000000.{part}" for clip in "ab" for part in ("safetensors", "json")
        ]
        about = json.loads(tar.extractfile("b@0000000.json").read())
    assert about["window"] == {"start": WINDOW.start, "end": WINDOW.end}
    assert about["named"] == [0, 1]
    left, top, right, bottom = about["crop"]
    assert (right - left, bottom - top) == (48, 48)
    row = EncodedShards(out.url).index.to_pylist()[1]
    assert (row["clip"], row["start"], row["crop"]) == ("b", 0.0, about["crop"])


def test_a_clip_without_a_window_is_left_out_with_a_reason(tmp_path, models):
    """Its people are seen nowhere long and large enough; others of the shard are encoded."""
    run = TinyRun(tmp_path)
    run.add("a", clip=clip(0), windows=())
    run.add("b", clip=clip(1), windows=(replace(WINDOW, end=0.3, start=0.1),))
    two = (replace(WINDOW, end=2.0), replace(WINDOW, start=2.0, shot=1))
    run.add("c", clip=clip(2, frames=40), windows=two)
    folder = run.save()
    source = folder.folder("shards")
    pack(folder, source, RULES, ShardLimits(), lambda *_: None)
    found = encoded(source, Folder(tmp_path / "out"), models)
    assert found.skipped == {"no_window": 2}
    data = EncodedShards(str(tmp_path / "out"))
    assert sorted(data.keys) == ["c@0000000", "c@0002000"]
    one = encoded(source, Folder(tmp_path / "one"), replace(models, windows_per_clip=1))
    assert one.samples == 1


def test_windows_of_one_clip_share_its_pictures(tmp_path, models, monkeypatch):
    """References and views are encoded once for all spans that name the same people."""
    run = TinyRun(tmp_path)
    two = (replace(WINDOW, end=2.0), replace(WINDOW, start=2.0, shot=1))
    for seed, key in enumerate("ab"):
        run.add(key, clip=clip(seed, frames=40), windows=two)
    folder = run.save()
    pack(folder, folder.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    calls, pictures = [], Encoder.pictures
    monkeypatch.setattr(Encoder, "pictures", lambda *told: calls.append(0) or pictures(*told))
    assert encoded(folder.folder("shards"), Folder(tmp_path / "out"), models).samples == 4
    assert len(calls) == 2


def test_sizes_that_do_not_divide_are_refused(models):
    """Sides of buckets and of references are whole patches."""
    for wrong in ({"buckets": ["5x20x32"]}, {"reference_size": 40}):
        settings = EncodeSettings.of({**models.described(), **wrong})
        with pytest.raises(UserError, match="multiple"):
            Encoder(settings, torch.device("cpu"))


def test_a_mistaken_setting_does_not_bind_the_folder(packed, tmp_path, models):
    """What shows only when the models are loaded is corrected in the same folder."""
    out = Folder(tmp_path / "out")
    with pytest.raises(UserError, match="multiple"):
        encoded(packed, out, replace(models, buckets=("5x20x32",)))
    assert encoded(packed, out, models).samples == 3
