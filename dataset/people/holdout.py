"""Training and validation: whole people to one side, the same ones however often it is asked."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from datapipe.errors import UserError
from dataset.people.clusters import Clusters, components
from dataset.people.embeddings import Embeddings
from dataset.people.neighbours import Show


def groups_of(embedded: Embeddings, clusters: Clusters) -> Any:
    """For each candidate its group: samples are in one if they show one person, or by others."""
    samples = len(embedded.keys)
    people = clusters.labels.astype(np.int64) + samples
    whole = samples + int(clusters.labels.max(initial=-1)) + 1
    return components(whole, embedded.sample, people)[:samples]


def validation(
    embedded: Embeddings, clusters: Clusters, share: float, seed: int, threshold: float, show: Show
) -> tuple[Any, Clusters]:
    """Which candidates go to validation, as booleans; and the clusters that this rests on.

    Groups are taken in the order of a hash of their smallest key and the seed, those that still
    fit, until the share of the candidates is reached. Whoever is taken is compared exactly with
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


def _taken(keys: Any, groups: Any, target: int, seed: int) -> Any:
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
