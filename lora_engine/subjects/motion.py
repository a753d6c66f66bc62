"""How a head moves in a clip: from the front to both profiles and back, with natural ease."""

from __future__ import annotations

import numpy as np

from datapipe.record import Pose

SIDE = 90.0
# Shares of the clip: rest, turn, rest, turn to the other side, rest, turn back.
STEPS = (0.08, 0.24, 0.05, 0.4, 0.05, 0.18)


def head_turn(frames: int, rng: np.random.Generator) -> list[Pose]:
    """One pose per frame; the first is frontal, and both sides reach `SIDE` exactly."""
    first = float(rng.choice([-SIDE, SIDE]))
    stops = np.array([0.0, 0.0, first, first, -first, -first, 0.0])
    times = np.concatenate([[0.0], np.cumsum(STEPS)])
    now = np.linspace(0, 1, frames)
    yaw = np.zeros(frames)
    for k in range(len(STEPS)):
        t = np.clip((now - times[k]) / STEPS[k], 0, 1)
        ease = t**3 * (10 + t * (6 * t - 15))  # least jerk: how people move
        yaw += (stops[k + 1] - stops[k]) * ease
    swing = np.sin(np.pi * np.clip(now / 0.2, 0, 1) / 2)  # begins level
    pitch = (
        swing
        * rng.uniform(1, 5)
        * np.sin(2 * np.pi * (rng.uniform(0.6, 1.3) * now) + rng.uniform(0, 6))
    )
    roll = (
        swing
        * rng.uniform(0, 3)
        * np.sin(2 * np.pi * (rng.uniform(0.5, 1.2) * now) + rng.uniform(0, 6))
    )
    return [
        Pose(*(round(float(v), 3) + 0.0 for v in pose))
        for pose in zip(yaw, pitch, roll, strict=True)
    ]
