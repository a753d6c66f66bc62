from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import FACE_CENTRE
from datapipe.record import YAWS
from lora_engine.flux.latents import PRODUCTION, REFERENCE, Variety, variant
from lora_engine.flux.settings import TrainLoraSettings
from lora_engine.pairs import Subject, SubjectFrame

SIDE = 96
Y, X = np.mgrid[0:SIDE, 0:SIDE]


def picture(level):
    """Where a pixel was is its colour: red tells the column, green the row, blue which picture."""
    return np.stack([X * 2, Y * 2, np.full_like(X, level)], axis=2).astype(np.uint8)


def subject(key="ann"):
    """Two frames of each yaw and three references, all to be told apart by their blue."""
    frames = [SubjectFrame(yaw, encode_jpeg(picture(100 + yaw)), float(yaw), 0.1) for yaw in YAWS]
    more = [
        replace(frame, number=1, picture=encode_jpeg(picture(105 + frame.yaw))) for frame in frames
    ]
    references = [
        SubjectFrame(0, encode_jpeg(picture(200 + 20 * n)), 0.0, 0.1, number=n, reference=True)
        for n in range(3)
    ]
    return Subject(key, "clip", tuple(frames), None, tuple(more), tuple(references))


def test_the_first_variant_is_the_best_as_it_is():
    """Whatever the settings, one set of latents is of whole pictures and a clean reference."""
    ann = subject()
    found = variant(ann, 0, Variety(4, 2.0, 0.3, 3.0, 30.0, 10))
    assert np.array_equal(found[REFERENCE], ann.references[0].image())
    assert all(np.array_equal(found[f"yaw{yaw:+03d}"], ann.frame(yaw).image()) for yaw in YAWS)
    assert len(found) == 1 + len(YAWS)


@settings(max_examples=40)
@given(st.text("abc", min_size=1), st.integers(1, 9), st.floats(1, 1.67), st.floats(0, 0.2))
def test_reference_and_targets_are_cut_alike(key, number, zoom, shift):
    """By one square inside the picture, not smaller than the zoom allows; without a shift the
    frontal face keeps its place in it."""
    found = variant(subject(key), number, Variety(10, zoom, shift))
    corners = [image[[0, 0, -1], [0, -1, 0], :2].astype(int) / 2 for image in found.values()]
    assert all(np.abs(c - corners[0]).max() <= 2 for c in corners)  # JPEG's colours
    (left, top), (right, _) = corners[0][0], corners[0][1]
    side = right - left + 1
    assert {image.shape[0] for image in found.values()} == {found[REFERENCE].shape[0]}
    assert side >= SIDE / zoom - 3
    if shift == 0:
        assert abs(left + side / 2 - SIDE / 2) <= 3
        assert abs(top + FACE_CENTRE * side - FACE_CENTRE * SIDE) <= 3


def test_variants_have_other_frames_and_only_references_lose_quality():
    """Every frame and reference is in some variant; targets are as sharp as they were."""
    ann, noisy = subject(), Variety(6, reference_noise=40.0, reference_jpeg=30)
    blues = {"yaw+30": set(), REFERENCE: set()}
    for number in range(6):
        found, plain = variant(ann, number, noisy), variant(ann, number, Variety(6))
        for name, seen in blues.items():
            seen.add(round(float(plain[name][..., 2].mean()) / 5) * 5)
        assert all(np.array_equal(found[n], plain[n]) for n in found if n != REFERENCE)
        assert number == 0 or np.abs(found[REFERENCE] - plain[REFERENCE].astype(int)).mean() > 1
        again = variant(ann, number, noisy)
        assert all(np.array_equal(found[n], again[n]) for n in found)
    assert blues["yaw+30"] == {130, 135}
    assert blues[REFERENCE] == {200, 220, 240}


@pytest.mark.parametrize(
    "strength", [{"reference_blur": 3.0}, {"reference_noise": 10.0}, {"reference_jpeg": 20}]
)
def test_each_strength_works_by_itself(strength):
    """None is without effect."""
    ann = subject()
    changed, plain = (variant(ann, 1, Variety(2, **some))[REFERENCE] for some in (strength, {}))
    assert not np.array_equal(changed, plain)


def test_validation_meets_what_a_training_meets_by_default():
    """The strengths are written down once more, where options have no names."""
    settings = TrainLoraSettings("p", "o", "b")
    assert asdict(PRODUCTION) == {name: getattr(settings, name) for name in asdict(PRODUCTION)}


def test_pairs_without_references_have_the_frontal_frame():
    """As pairs from elsewhere may be."""
    ann = replace(subject(), references=(), more=())
    assert np.array_equal(variant(ann, 1, Variety(2))[REFERENCE], ann.frame(0).image())
