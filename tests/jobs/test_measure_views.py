"""Views shown to people are measured as the line measures them."""

import numpy as np
import pytest

from jobs.views import measure_views
from tests.datapipe.painted import Painted, PaintedFaces, paint

REFERENCE = paint([Painted(0, 0, 200, 140, 60)])
BLANK = np.full((320, 480, 3), 90, np.uint8)


def test_the_face_measured_is_the_one_the_line_would_score():
    """The central person, not the larger one who is cut by the edge."""
    passer_by, own = Painted(1, -40, 150, 0, 170), Painted(0, 30, 130, 175, 95)
    (measured,) = measure_views(PaintedFaces(), REFERENCE, [paint([passer_by, own])])
    assert measured.cosine == 1.0
    assert measured.yaw == pytest.approx(30, abs=3)


def test_nothing_is_measured_where_there_is_no_face():
    """No yaw without a face in the view, no cosine without one in the reference either."""
    view = paint([Painted(0, 30, 200, 140, 60)])
    (lost,) = measure_views(PaintedFaces(), REFERENCE, [BLANK])
    assert (lost.yaw, lost.cosine) == (None, None)
    (found,) = measure_views(PaintedFaces(), BLANK, [view])
    assert found.yaw == pytest.approx(30, abs=3)
    assert found.cosine is None
