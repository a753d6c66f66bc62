"""Choosing samples by the people in them: the holdout, the cap, the report of who comes twice.

The holdout sends whole people to validation, the same ones however often it is asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import load_info
from dataset.people.cap import over_cap, passing
from dataset.people.clusters import Clusters, Labels, Rows, Show, cluster, components
from dataset.people.embeddings import Embeddings, embeddings
from dataset.selection import Chosen, PersonLimits, Selection
from filters.rules import Rules


def groups_of(embedded: Embeddings, clusters: Clusters) -> Labels:
    """For each candidate the number of its group: samples are in one when they share a person,
    directly or through other samples."""
    samples = len(embedded.keys)
    people = clusters.labels.astype(np.int64) + samples
    whole = samples + int(clusters.labels.max(initial=-1)) + 1
    return components(whole, embedded.sample, people)[:samples]


def validation(
    embedded: Embeddings, clusters: Clusters, share: float, seed: int, threshold: float, show: Show
) -> tuple[npt.NDArray[np.bool_], Clusters]:
    """Whether each candidate goes to validation; and the clusters that this rests on.

    Groups that still fit are taken, in the order of a hash of their smallest key and the seed,
    until the share of the candidates is reached. Whoever is taken is compared exactly with
    everybody: no identity in validation has a cosine of `threshold` with one in training.

    Raises UserError when no group fits.
    """
    samples = len(embedded.keys)
    target = max(1, round(share * samples))
    checked = np.zeros(len(embedded.sample), bool)
    while True:
        groups = groups_of(embedded, clusters)
        taken = np.isin(groups, _taken(embedded.keys, groups, target, seed))
        rows = np.flatnonzero(taken[embedded.sample] & ~checked)
        if not len(rows):
            break
        clusters = clusters.with_exact(embedded.vectors, rows, threshold, show)
        checked[rows] = True
    if samples and not taken.any():
        sizes = np.bincount(groups)
        raise UserError(
            f"no validation set of {target:,} samples can be made: at a cosine of {threshold:g} "
            f"people are linked in groups of at least {sizes.min():,} and up to {sizes.max():,} "
            f"of {samples:,} samples; raise --same-person or --validation"
        )
    return taken, clusters


def _taken(keys: pa.StringArray, groups: Labels, target: int, seed: int) -> Rows:
    sizes = np.bincount(groups, minlength=1)
    _, firsts = np.unique(groups, return_index=True)
    ranks = [_rank(key, seed) for key in keys.take(firsts).to_pylist()]
    taken, room = [], target
    for group in sorted(range(len(ranks)), key=ranks.__getitem__):
        if sizes[group] <= room:
            taken.append(group)
            room -= int(sizes[group])
        if not room:
            break
    return np.array(taken, np.int64)


def _rank(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {key}".encode(), digest_size=16).digest()


_Flags = npt.NDArray[np.bool_]
"""One for each candidate."""
CHAINED = 0.1
"""Share of the samples that may hang together in one group without a warning."""

log = logging.getLogger(__name__)


def choose(run: Folder, rules: Rules, by: PersonLimits, show: Show) -> Chosen:
    """Who is who in the whole run, and what of it goes where.

    Splits depend on the run alone: other rules never move a person from one side to the other.
    Raises UserError when the tables cannot be read, people cannot be told apart, or none can be
    held out.
    """
    info = load_info(run)
    with embeddings(run, info) as embedded:
        clusters = cluster(embedded.vectors, by.same_person, show)
        held_out: _Flags | None = None
        if by.validation is not None:
            held_out, clusters = validation(
                embedded, clusters, by.validation, info.seed, by.same_person, show
            )
        over = np.zeros(len(embedded.keys), bool)
        if by.max_per_identity is not None:
            passed = passing(run, info, rules, embedded)
            over = over_cap(embedded, clusters, passed, by.max_per_identity, by.same_person)
        found, report = _report(embedded, clusters, held_out, over)
    settings: dict[str, Any] = {
        "same_person": by.same_person,
        "recogniser": info.scoring.labels.get("recogniser", ""),
        "validation": by.validation,
        "max_per_identity": by.max_per_identity,
        "seed": info.seed,
    }
    described = {**{k: v for k, v in settings.items() if v is not None}, **found}
    if held_out is None:
        whole = Selection(~over, int(over.sum()), described=described)
        return Chosen({None: whole}, described, report)
    sides = {"train": ~held_out, "validation": held_out}
    selections: dict[str | None, Selection] = {
        split: Selection(
            chosen=side & ~over,
            over_cap=int((side & over).sum()),
            outside=int((~side).sum()),
            split=split,
            described=described,
        )
        for split, side in sides.items()
    }
    return Chosen(selections, described, report)


def _report(
    embedded: Embeddings, clusters: Clusters, held_out: _Flags | None, over: _Flags
) -> tuple[dict[str, int], bytes]:
    samples = len(embedded.keys)
    groups = groups_of(embedded, clusters)
    largest = int(np.bincount(groups, minlength=1).max())
    if largest > max(10, CHAINED * samples):
        log.warning(
            "%d of %d samples hang together, by look-alikes or by videos of two people; if that is "
            "a chain of look-alikes, raise --same-person (docs/pack.md)",
            largest,
            samples,
        )
    lines, people, videos = io.BytesIO(), 0, 0  # a large run has millions
    for person in _people(embedded, clusters, held_out, over):
        lines.write(json.dumps(person).encode() + b"\n")
        people, videos = people + 1, videos + int(person["videos"])
    described = {
        "identities": len(embedded.sample),
        "people_in_several_videos": people,
        "videos_of_these": videos,
        "largest_group": largest,
    }
    return described, lines.getvalue()


def _people(
    embedded: Embeddings, clusters: Clusters, held_out: _Flags | None, over: _Flags
) -> Iterator[dict[str, Any]]:
    """Whoever is in several videos, in the order of the first one's key."""
    pairs, labels = clusters.pairs, clusters.labels
    nearest = np.zeros(len(labels))
    np.maximum.at(nearest, pairs.first, pairs.cosine)
    np.maximum.at(nearest, pairs.second, pairs.cosine)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order], prepend=-1, append=-1))
    for begin, end in pairwise(bounds):
        rows = order[begin:end]
        at = embedded.sample[rows]
        videos = len(np.unique(at))
        if videos < 2:
            continue
        names = embedded.keys.take(at).to_pylist()
        yield {
            "videos": videos,
            "identities": [
                {
                    "key": name,
                    "identity": int(embedded.identity[row]),
                    "nearest": round(float(nearest[row]), 4),
                    **_place(int(sample), held_out, over),
                }
                for name, row, sample in zip(names, rows, at, strict=True)
            ],
        }


def _place(sample: int, held_out: _Flags | None, over: _Flags) -> dict[str, Any]:
    place: dict[str, Any] = {}
    if held_out is not None:
        place["split"] = "validation" if held_out[sample] else "train"
    if over[sample]:
        place["over_cap"] = True
    return place
