"""The contact sheet shows every view of the samples it shows, framed by the verdict."""

import io

import numpy as np
import pytest
from PIL import Image

from datapipe.record import YAWS
from dataset.inspect.contact import HEIGHT, TILE, contact_sheet
from dataset.inspect.sheet import AMBER, GAP, GREEN, MARGIN, NOTE, PICTURE, RED, SIDE, wrap
from tests.datapipe.runs import RULES, TinyRun, good

STEP = PICTURE + NOTE + GAP + HEIGHT
"""Pixels from one identity to the next, whose strip shows where it is seen."""
BAD = {yaw: good(yaw, detected=False) for yaw in YAWS[:4]}


@pytest.fixture
def tiny(tmp_path):
    run = TinyRun(tmp_path)
    run.add("good", [{30: good(30, measured_yaw=55.0)}])
    run.add("poor", [BAD])
    run.reject("noface")
    run.save()
    return run


def sheet(run, samples=10):
    return np.asarray(Image.open(io.BytesIO(contact_sheet(run.folder, RULES, samples))))


def frame(picture, row, column):
    """The colour of a picture's frame, at the middle of its left edge."""
    left = MARGIN + SIDE + column * (PICTURE + GAP)
    top = 116 + row * STEP
    return picture[top + 60 : top + 100, left + 1 : left + 3].reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize(
    ("row", "column", "colour"),
    [(0, 0, GREEN), (0, 1, GREEN), (0, 5, RED), (0, 7, GREEN), (1, 1, RED), (1, 7, AMBER)],
)
def test_frames_tell_the_verdict(tiny, row, column, colour):
    """Green is packed, red is rejected, amber passes in an identity that is left out."""
    assert np.abs(frame(sheet(tiny), row, column) - colour).max() < 25


def test_the_same_run_gives_the_same_sheet(tiny):
    """Byte for byte."""
    first = contact_sheet(tiny.folder, RULES, 10)
    assert contact_sheet(tiny.folder, RULES, 10) == first


def test_no_more_samples_than_asked_for(tiny):
    """Each sample takes one row here; one sample makes a lower sheet."""
    assert sheet(tiny, 2).shape[0] - sheet(tiny, 1).shape[0] == STEP


def test_where_people_are_seen_and_what_was_passed_over_is_below_them(tmp_path):
    """A green strip for a window that passes; the real view that the rules did not take."""
    run = TinyRun(tmp_path)
    run.add("turned", real={30: good(30)})
    run.add("unseen", windows=())
    run.save()
    drawn = sheet(run)
    below = 116 + PICTURE + NOTE
    assert drawn.shape[0] == 116 - 6 + 2 * (STEP - HEIGHT) + HEIGHT + TILE + 48 + 8 + MARGIN - 8
    green = drawn[below + 30 : below + 50, 500].mean(axis=0)
    assert green[1] > max(green[0], green[2]) + 20
    tile = drawn[below + HEIGHT + 24 : below + HEIGHT + 24 + TILE, MARGIN : MARGIN + TILE]
    assert tile.std() > 10


def test_a_lost_candidate_is_drawn_as_lost(tiny):
    """The numbers are still there, so the sheet still is."""
    tiny.folder.delete(tiny.store.name("good"))
    grey = sheet(tiny)[116 + 60, MARGIN + SIDE + 40]
    assert np.abs(grey.astype(int) - 225).max() < 10


def test_a_run_without_candidates_has_a_sheet(tmp_path):
    """Only rejected videos: their reasons are what there is to see."""
    run = TinyRun(tmp_path)
    run.reject("noface")
    run.save()
    assert sheet(run).shape[1] >= 1000


def test_long_texts_stay_within_their_column():
    """Words are wrapped, long words cut, what does not fit ends in an ellipsis."""
    lines = wrap("a-very-long-name-without-any-space-" * 9 + " and more", 16, 200, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
