"""Invented embeddings of a crowd in which some people are easily taken for others."""

import numpy as np

from filters.calibrate.comparisons import Embedded

WIDTH = 32


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowd(count, seed, noise=2.5, videos=1):
    """Each of `count` people in `videos` videos, with a view at -30 and at 30 degrees.

    People scatter around one direction: who lies near it, looks like many. Both views of a video
    share most of their error, as two pictures of one head by one engine do.
    """
    rng = np.random.default_rng(seed)

    def error(rows, size):
        return size * rng.standard_normal((rows, WIDTH)) / np.sqrt(WIDTH)

    average = np.zeros(WIDTH)
    average[0] = 1.0
    who = average + 1.5 * np.linspace(1.6, 0.3, WIDTH) * error(count, 1.0)
    who = np.repeat(who, videos, axis=0)
    owner = np.repeat(np.arange(len(who)), 2)
    shared = error(len(who), noise)[owner]
    return Embedded(
        references=unit(who + error(len(who), 0.3)),
        owner=owner,
        yaw=np.tile([-30, 30], len(who)),
        views=unit(who[owner] + shared + error(len(owner), 0.3 * noise)),
    )
