"""Laws of the published metrics, through their real loading code on tiny random weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from datapipe.errors import UserError
from harmoview.bench.opens2v.aes import Aesthetic
from harmoview.bench.opens2v.curricular import load_backbone
from harmoview.bench.opens2v.facesim import FaceSim, facesim
from harmoview.bench.opens2v.gme import Gme, smart_size
from harmoview.bench.opens2v.nexus import Box, nexus, read_boxes
from harmoview.bench.opens2v.smooth import OneAlign, smoothness, windows
from tests.harmoview.bench.opens2v import tiny


def pictures(count, size=(48, 64), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(count)]


def test_the_aesthetic_head_reads_laions_file_and_sees_unit_embeddings(tmp_path):
    """The score is the head's own of CLIP's projection scaled to length 1, picture by picture."""
    clip = tiny.save_clip(tmp_path / "clip")
    layers = tiny.save_head(tmp_path / "head.pth")
    scorer = Aesthetic(clip, tmp_path / "head.pth", "cpu")
    images = pictures(3)
    scores = scorer(images)
    pixels = scorer._processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        embedding = scorer._clip(pixel_values=pixels).image_embeds
        want = layers(embedding / embedding.norm(dim=1, keepdim=True))[:, 0]
    assert scores == pytest.approx(want.tolist(), abs=1e-6)
    assert scorer(images[:1]) == pytest.approx(scores[:1], abs=1e-6)


def test_weights_that_are_others_are_refused_in_a_sentence(tmp_path):
    """A folder without CLIP, a file of another network, a file that is none."""
    clip = tiny.save_clip(tmp_path / "clip")
    torch.save({"layers.0.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    (tmp_path / "none.pth").write_bytes(b"nothing")
    for folder, head in ((tmp_path, "other.pth"), (clip, "other.pth"), (clip, "none.pth")):
        with pytest.raises(UserError, match=r"CLIP|these weights"):
            Aesthetic(folder, tmp_path / head, "cpu")
    with pytest.raises(UserError, match="CurricularFace"):
        load_backbone(tmp_path / "other.pth")


def test_a_backbone_is_built_as_its_file_is(tmp_path):
    """Names, units and widths are read from the weights; the outputs are the model's own."""
    model = tiny.save_backbone(tmp_path / "face.bin")
    loaded = load_backbone(tmp_path / "face.bin")
    crop = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded(crop), model(crop))
    names = set(torch.load(tmp_path / "face.bin", weights_only=True))
    assert {
        "input_layer.2.weight", "body.0.res_layer.3.weight", "body.1.shortcut_layer.0.weight",
        "output_layer.3.bias", "output_layer.4.running_mean",
    } <= names  # fmt: skip
    assert "body.0.shortcut_layer.0.weight" not in names


@pytest.fixture(scope="module")
def packs():
    path = Path(__file__).parents[3] / "datapipe" / "faces" / "packs.py"
    spec = importlib.util.spec_from_file_location("packs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_faces_are_found_cut_and_embedded_by_the_real_detector_code(tmp_path, packs):
    """A white square is a face to this detector; one at the very edge shows after padding only."""
    tiny.save_backbone(tmp_path / "face.bin")
    pack = packs.write_pack(tmp_path / "pack", np.eye(3))
    model = FaceSim(tmp_path / "face.bin", pack / "det_10g.onnx", "cpu")
    image = np.zeros((320, 320, 3), np.uint8)
    image[96:128, 160:192] = 255
    vectors = model.faces(image)
    assert vectors.shape == (1, 8)
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)
    assert len(model.faces(np.zeros_like(image))) == 0
    with pytest.raises(UserError, match="no face detector"):
        FaceSim(tmp_path / "face.bin", pack / "1k3d68.onnx", "cpu")


def unit(*numbers):
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


NOBODY = np.zeros((0, 2), np.float32)


def test_facesim_is_of_the_largest_face_in_frames_that_have_one():
    """Negative cosines are 0, zeros and empty frames leave the mean; never a face is 0."""
    me = unit(1, 0)
    frames = [np.stack([unit(1, 1), me]), NOBODY, unit(-1, 0)[None], unit(0, 1)[None], me[None]]
    assert facesim(frames, [me]) == [(pytest.approx((2**-0.5 + 1) / 2), 2)]
    assert facesim([NOBODY] * 3, [me]) == [(0.0, 0)]


def test_two_people_get_the_faces_that_fit_them_best():
    """In every frame, whichever is larger; one face alone goes to one of them."""
    a, b = unit(1, 0.1), unit(0.1, 1)
    found = facesim([np.stack([b, a]), np.stack([a, b]), a[None]], [a, b])
    assert found == [(pytest.approx(1), 3), (pytest.approx(1), 2)]


def test_smoothness_counts_both_frames_of_a_jump_once():
    """69 scores of .5, one of them .6: three frames; and OpenS2V's own seven artefact frames."""
    scores = np.full(69, 0.5)
    scores[30] = 0.6
    assert smoothness(scores) == pytest.approx(0.956522, abs=5e-7)
    scores[[40, 41]] = 0.6
    assert smoothness(scores) == pytest.approx(0.898551, abs=5e-7)
    assert smoothness([0.5]) == smoothness([0.5, 0.52]) == 1


def test_windows_are_of_three_frames_as_opens2v_makes_them():
    """The first frame thrice; the last repeats the one before; two frames are their own case."""
    images = [np.full((1, 1, 3), k, np.uint8) for k in range(4)]

    def numbers(count):
        return [[int(i[0, 0, 0]) for i in window] for window in windows(images[:count])]

    assert numbers(4) == [[0, 0, 0], [0, 1, 2], [1, 2, 3], [2, 2, 3]]
    assert numbers(2) == [[0, 0, 0], [0, 1, 1]]
    assert numbers(1) == [[0, 0, 0]]
    assert numbers(0) == []


def test_one_align_is_run_by_the_code_beside_its_weights(tmp_path):
    """One score a frame, higher for what its model likes better, the same in any batch."""
    model = OneAlign(tiny.save_one_align(tmp_path / "one-align"), "cpu")
    images = [np.full((24, 40, 3), level, np.uint8) for level in [10] * 6 + [240] * 6]
    scores = model(images)
    assert len(scores) == 12
    assert scores[0] < scores[-1]
    assert smoothness(scores) < 1
    with pytest.raises(UserError, match="does not load as OneAlign"):
        OneAlign(tmp_path, "cpu")


def test_gme_embeds_texts_and_pictures_into_one_space(tmp_path):
    """Unit vectors; a picture's depends on its pixels, a text's on its words and instruction."""
    model = Gme(tiny.save_gme(tmp_path / "gme"), "cpu")
    one, other = (model.picture(image) for image in pictures(2, (60, 90)))
    text = model.text("a man")
    for vector in (one, other, text):
        assert vector.shape == (32,)
        assert float(vector @ vector) == pytest.approx(1, abs=1e-5)
    assert float(one @ other) < 1 - 1e-5
    assert torch.allclose(one, model.picture(pictures(1, (60, 90))[0]))
    assert not torch.allclose(text, model.text("a man", "Another instruction."))
    with pytest.raises(UserError, match="Qwen2-VL"):
        Gme(tmp_path, "cpu")


def test_gme_brings_pictures_to_multiples_of_28_within_its_bounds():
    """Small ones grow to four tokens at least, huge ones shrink, the others stay near."""
    assert smart_size(832, 480) == (840, 476)
    assert smart_size(20, 20) == (56, 56)
    w, h = smart_size(10_000, 8_000)
    assert w % 28 == h % 28 == 0
    assert w * h <= 16384 * 28 * 28


def box(confidence, identity=0):
    return Box(0, 0, 10, 10, confidence, identity)


def test_nexus_divides_by_the_frames_with_a_box_and_keeps_the_mean_too():
    """Boxes count above .6 and .30; frames count with any box; two of three boxes here."""
    frames = [[box(0.9), box(0.55)], [box(0.7)], [], [box(0.51)]]
    found = nexus(frames, lambda n, b: 0.4, lambda n, b: 0.8 if n else 0.6)
    assert (found.frames, found.used) == (3, 2)
    assert found.undivided == pytest.approx(0.7)
    assert found.official == pytest.approx(0.7 / 3)
    none = nexus(frames, lambda n, b: 0.3, lambda n, b: 0.8)
    assert (none.official, none.undivided, none.used) == (0.0, None, 0)


def test_a_file_of_boxes_is_read_or_refused(tmp_path):
    """[left, top, right, bottom, confidence, identity] by frame and video."""
    path = tmp_path / "boxes.json"
    path.write_text('{"solo-1.s0": [[[1, 2, 3, 4, 0.9, 0]], []]}')
    assert read_boxes(path) == {"solo-1.s0": [[Box(1, 2, 3, 4, 0.9, 0)], []]}
    for wrong in ("[]", '{"a": 1}', '{"a": [[[1, 2]]]}', '{"a": [[[1, 2, 3, 4, 0.9, 7]]]}', ""):
        path.write_text(wrong)
        with pytest.raises(UserError, match="no file of boxes"):
            read_boxes(path)
