"""Where shots end: cuts and fades are found, flashes and motion are none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.prepare.shots import Shot, ShotFinder, Stills, find_changes, shots, steady
from datapipe.video.decoder import VideoInfo

FPS = 25


def place(seed: int):
    """A colourful picture, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3), np.uint8)
    return cv2.resize(coarse, (128, 72), interpolation=cv2.INTER_CUBIC)


def film(*parts):
    """Pictures with their times; a part is a list of pictures."""
    return [(k / FPS, picture) for k, picture in enumerate(p for part in parts for p in part)]


def still(seed: int, frames: int, noise: int = 3):
    rng = np.random.default_rng(seed)
    return [
        np.clip(place(seed) + rng.normal(0, noise, (72, 128, 3)), 0, 255).astype(np.uint8)
        for _ in range(frames)
    ]


def about(frames: int) -> VideoInfo:
    return VideoInfo(640, 360, np.arange(frames) / FPS, frames / FPS, "h264", (0,))


@settings(max_examples=20)
@given(st.lists(st.integers(8, 60), min_size=1, max_size=5), st.integers(0, 100))
def test_each_cut_is_found_where_it_is(lengths, seed):
    """Shots of a third of a second and longer, whatever they show."""
    found = find_changes(film(*(still(seed * 10 + k, n) for k, n in enumerate(lengths))))
    ends = np.cumsum(lengths)
    assert [round(change.first * FPS) for change in found] == list(ends[:-1])
    whole = shots(found, about(int(ends[-1])))
    spans = [(round(s.start * FPS), round(s.end * FPS)) for s in whole]
    assert spans == list(zip([0, *ends[:-1]], ends, strict=True))


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 20))
def test_a_flash_is_no_cut(length, seed):
    """White for up to five frames, then what was there before."""
    white = [np.full((72, 128, 3), 250, np.uint8)] * length
    assert find_changes(film(still(seed, 40), white, still(seed, 40))) == []


@settings(max_examples=20)
@given(st.integers(12, 45), st.integers(0, 20))
def test_a_fade_belongs_to_neither_shot(length, seed):
    """Frames in which two shots are seen at once are in no shot; no more than a second around."""
    one, other = place(2 * seed).astype(float), place(2 * seed + 1).astype(float)
    shares = (np.arange(length) + 1) / (length + 1)
    mixed = [((1 - s) * one + s * other).astype(np.uint8) for s in shares]
    total = 50 + length + 50
    whole = shots(
        find_changes(film(still(2 * seed, 50), mixed, still(2 * seed + 1, 50))), about(total)
    )
    inside = {k for s in whole for k in range(total) if s.start <= k / FPS < s.end}
    clear = {k for k, share in enumerate(shares, 50) if 0.2 < share < 0.8}
    assert len(whole) == 2
    assert not clear & inside
    assert inside >= {*range(20), *range(total - 20, total)}


def test_motion_is_no_cut():
    """A picture that is moved by a tenth of its width from frame to frame."""
    wide = np.concatenate([place(1)] * 2, axis=1)
    assert find_changes(film([wide[:, 12 * (k % 10) :][:, :128] for k in range(60)])) == []


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["cut", "flash", "still", "fade"]), max_size=5))
def test_what_is_settled_does_not_change(story):
    """At any moment the changes before `settled` are those that are found in the end."""
    parts, seed = [still(0, 30)], 0
    for kind in story:
        if kind == "fade":
            one, other = place(seed).astype(float), place(seed + 1).astype(float)
            parts.append([((1 - s) * one + s * other).astype(np.uint8) for s in np.arange(20) / 20])
        if kind == "flash":
            parts.append([np.full((72, 128, 3), 250, np.uint8)] * 2)
        seed += kind in ("cut", "fade")
        parts.append(still(seed, 30))
    finder, told = ShotFinder(), []
    for time, picture in film(*parts):
        finder.add(time, picture)
        told.append((finder.settled, [c for c in finder.changes if c.last < finder.settled]))
    final = finder.end()
    for settled, before in told:
        assert before == [change for change in final if change.last < settled]


@pytest.mark.parametrize(("other", "alike"), [(3, True), (4, False)])
def test_pictures_far_apart_tell_whether_they_are_one_shot(other, alike):
    """Noise makes no difference, another place does."""
    assert steady([*still(3, 3), *still(other, 2)]) is alike


def test_without_changes_all_is_one_shot():
    """From the first frame to the end of the last."""
    assert shots([], about(50)) == [Shot(0.0, 2.0)]


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 5), st.booleans())
def test_what_changes_between_a_sample_and_a_cut_is_not_still(before, after, turned):
    """To either side of the cut, and only there."""
    pictures = film(still(1, 40), still(2, 40))
    for k, (_, picture) in enumerate(pictures):
        other_face = 40 - before <= k < 40 + after
        if other_face != turned:
            picture[24:36, 16:28] ^= 128
    finder, stills = ShotFinder(), Stills()
    for k, (time, picture) in enumerate(pictures):
        finder.add(time, picture)
        stills.add(time, picture, finder.changes)
        if k % 10 == 5:
            stills.sample(time)
    (change,) = finder.end()
    changed, other = (0.13, 0.34, 0.21, 0.48), (0.6, 0.3, 0.9, 0.8)
    assert not stills.still(change.last, changed)
    assert stills.still(change.first, changed) == (after == 0)
    assert stills.still(change.last, other)
    assert stills.still(change.first, other)
    assert not stills.still(change.first + 0.01, other)
