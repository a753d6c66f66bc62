"""Made-up scores on both sides of every threshold, with views and scores missing."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from datapipe.record import YAWS, Scores
from tests.datapipe.runs import WINDOW

AROUND = {
    "sharpness": (0.2, 0.05),
    "sharpness_ratio": (0.8, 0.2),
    "aesthetic": (55.0, 15.0),
    "identity_cosine": (0.5, 0.2),
    "measured_pitch": (0.0, 14.0),
    "measured_roll": (0.0, 11.0),
}


def scores(generator, yaw):
    """One picture's scores, of two decimals so that some lie exactly on a threshold."""
    row = {name: round(generator.normal(*around), 2) for name, around in AROUND.items()}
    row["expression"] = None
    row["measured_yaw"] = float(round(yaw + generator.normal(0, 8), 1))
    for name in (*AROUND, "measured_yaw"):
        if generator.random() < 0.03:
            row[name] = None
    if generator.random() < 0.05:
        return {"detected": False, "face_size": None, **dict.fromkeys(row)}
    return {"detected": True, "face_size": 100.0, **row}


def rows(seed, samples, yaws=YAWS):
    """References and views of made-up samples with one or two identities, as lists of rows."""
    generator = np.random.default_rng(seed)
    references, views = [], []
    for number in range(samples):
        for identity in range(generator.integers(1, 3)):
            name = {"key": f"clip-{seed}-{number:05d}", "identity": identity}
            calm = {"expression": round(generator.random(), 2)}
            references.append({**name, **scores(generator, 0), **calm})
            for yaw in yaws:
                if generator.random() > 0.05:
                    made = {"yaw": yaw, "source": "synthesised", "twin": False}
                    views.append({**name, **made, **scores(generator, yaw)})
    return references, views


def tables(references, views):
    types = [("key", pa.string()), ("identity", pa.int32()), ("detected", pa.bool_())]
    of_views = [("yaw", pa.int32()), ("source", pa.string()), ("twin", pa.bool_())]
    types += [(name, pa.float64()) for name in Scores.__dataclass_fields__ if name != "detected"]
    return (
        pa.Table.from_pylist(references, pa.schema(types)),
        pa.Table.from_pylist(views, pa.schema([*of_views, *types])),
    )


def add_made_up(tiny, seed, samples):
    """Samples with scores on both sides of every threshold; a view that is not there has none."""
    references, views = rows(seed, samples)
    people = {}
    for row in references:
        people.setdefault(row["key"], []).append({"reference": of_row(row)})
    for row in views:
        people[row["key"]][row["identity"]][row["yaw"]] = of_row(row)
    for key, identities in people.items():
        tiny.add(key, identities, windows=WINDOWS)


WINDOWS = (
    WINDOW,
    replace(WINDOW, start=700.0, end=701.5, yaw_low=-60.0),
    replace(WINDOW, start=800.0, end=800.4),
)
"""One that is long, one in which a head turns far, one that is too short for the rules."""


def of_row(row):
    return Scores(**{name: row[name] for name in Scores.__dataclass_fields__})
