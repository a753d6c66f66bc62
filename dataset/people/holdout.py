"""The holdout: whole people go to validation, the same ones however often it is asked."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datapipe.errors import UserError
from dataset.people.clusters import Clusters, Labels, components
from dataset.people.embeddings import Embeddings
from dataset.people.neighbours import Rows, Show


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
