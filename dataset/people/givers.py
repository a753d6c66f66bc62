"""References that are not the clip's own: for each identity, the video of the same person whose
reference looks least like its own, by what is around the face."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import Image
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate
from dataset.people.cap import passing
from dataset.people.clusters import ClosePairs, Show, cluster
from dataset.people.embeddings import Embeddings, embeddings
from dataset.selection import GIVEN, OtherReferences
from filters.rules import Rules

MOST = 8
"""Videos of a person that are compared with one, those with the most alike faces."""
LEAST_APART = 0.25
"""Share of colours, 0..1, in which two references must differ; else they are one scene."""
READERS = 8
"""Candidates read at a time."""
SIDE, RIM, LEVELS = 64, 12, 4
"""Pixels to which references are brought, pixels of the rim that shows clothes and what is behind,
and steps of each colour."""

Floats = npt.NDArray[np.float64]


def surroundings(picture: Image) -> Floats:
    """The colours of a reference's rim as shares, (LEVELS³,): background, hair and clothes."""
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    rim = np.ones((SIDE, SIDE), bool)
    rim[: -2 * RIM, RIM:-RIM] = False  # the face; below it are the clothes
    bins = (small[rim].astype(int) * LEVELS) >> 8
    places = (bins[:, 0] * LEVELS + bins[:, 1]) * LEVELS + bins[:, 2]
    shares: Floats = np.bincount(places, minlength=LEVELS**3) / len(places)
    return shares


def apart(one: Floats, other: Floats) -> float:
    """The share of colours in which two surroundings differ, 0..1."""
    return float(np.abs(one - other).sum() / 2)


def givers(
    run: Folder, rules: Rules, same_person: float, show: Show, *, skip_damaged: bool = False
) -> OtherReferences:
    """For each identity of a run that passes the rules, whose references it can have instead.

    Giver and taker have a cosine of `same_person` or more themselves, not through others, so that
    nobody of one side of a holdout by that cosine gives to the other. Raises UserError when the
    tables or, without `skip_damaged`, a candidate cannot be read.
    """
    info = load_info(run)
    with embeddings(run, info) as embedded:
        pairs = cluster(embedded.vectors, same_person, show).pairs
        passed = passing(run, info, rules, embedded).identities
        partners = _partners(embedded, pairs, passed)
        rows = sorted({row for one, some in partners.items() for row in (one, *some)})
        names = embedded.keys.take(embedded.sample[rows]).to_pylist()
        store = CandidateStore(run, info.settings_hash)
        seen = _looks(store, names, embedded.identity[rows].tolist(), skip_damaged)
        looks = {row: look for row, look in zip(rows, seen, strict=True) if look is not None}
        taken = []
        for row, some in sorted(partners.items()):
            there = [other for other in some if other in looks]
            if row not in looks or not there:
                continue
            away, best = max((apart(looks[row], looks[other]), -other) for other in there)
            if away >= LEAST_APART:
                taken.append((row, -best))
        name = dict(zip(rows, names, strict=True))
        table = [
            (name[row], int(embedded.identity[row]), name[giver], int(embedded.identity[giver]))
            for row, giver in taken
        ]
    columns = zip(*table, strict=True) if table else ((),) * len(GIVEN)
    return OtherReferences(dict(zip(GIVEN.names, map(list, columns), strict=True)))


def _partners(
    embedded: Embeddings, pairs: ClosePairs, passed: npt.NDArray[np.bool_]
) -> dict[int, list[int]]:
    """Rows of the same person in other videos, by row; the most alike first."""
    found: dict[int, list[int]] = defaultdict(list)
    for place in np.argsort(-pairs.cosine, kind="stable"):
        one, other = int(pairs.first[place]), int(pairs.second[place])
        two_videos = embedded.sample[one] != embedded.sample[other]
        if two_videos and passed[one] and passed[other]:
            for row, giver in ((one, other), (other, one)):
                if len(found[row]) < MOST:
                    found[row].append(giver)
    return dict(found)


def _looks(
    store: CandidateStore, keys: Sequence[str], identities: Sequence[int], skip_damaged: bool
) -> Iterator[Floats | None]:
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(partial(_look, store, skip_damaged), keys, identities)


def _look(store: CandidateStore, skip_damaged: bool, key: str, identity: int) -> Floats | None:
    try:
        picture = store.read(store.name(key)).pictures[identity].reference
    except (FileNotFoundError, DamagedCandidate) as gone:
        if skip_damaged:
            return None
        raise UserError(f"{key} cannot be read: {gone}") from gone
    return surroundings(decode_jpeg(picture))
