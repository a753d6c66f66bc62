"""How views are read in the benchmark of references."""

import numpy as np
import pytest

from benchmarks.references import FINE, score


def test_a_view_is_read_by_the_rendering_that_it_shows():
    """A rendering itself has no error, one 30 degrees off has 30, another person's is found out,
    and the average of all people is nobody."""
    random = np.random.default_rng(0)
    truth = {yaw: random.normal(size=(4, 64, 48)).astype(np.float32)
             for yaw in range(-90, 91, FINE)}  # fmt: skip
    assert score(truth[60][2], 60, 2, truth) == (0, pytest.approx(1), 1)
    assert score(truth[30][2], 60, 2, truth)[0] == 30
    assert score(truth[60][1], 60, 2, truth)[2] == 0
    assert score(truth[60].mean(axis=0), 60, 2, truth)[1] == pytest.approx(0, abs=1e-3)
