"""How far raters agree: percent, Fleiss' kappa, Krippendorff's alpha.

Votes are a matrix of items by raters: B is 0, S 1, G 2, and -1 where a rater gave no vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Votes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GRADES = "BSG"
"""From bad to good: the order that makes the scale ordinal."""
NO_VOTE = -1


def as_votes(rows: Sequence[Sequence[str | None]]) -> Votes:
    """Rows of "G", "S", "B" or None (no vote), one row an item, raters in columns.

    Raises ValueError for another letter, for rows of different length and for none.
    """
    if not rows or not rows[0]:
        raise ValueError("there are no votes")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("all items must have the same number of raters; use null for no vote")
    codes = {grade: code for code, grade in enumerate(GRADES)} | {None: NO_VOTE}
    try:
        return np.array([[codes[vote] for vote in row] for row in rows], np.int64)
    except (KeyError, TypeError) as wrong:
        raise ValueError(f'a vote is "G", "S", "B" or null, not {wrong}') from wrong


def counts(votes: Votes) -> Floats:
    """(items, 3): how many raters gave each grade."""
    return np.stack([(votes == code).sum(axis=1) for code in range(len(GRADES))], axis=1).astype(
        float
    )


def percent_agreement(votes: Votes) -> float | None:
    """Of all pairs of votes on one item, the share that is equal; None without pairs."""
    given = counts(votes)
    raters = given.sum(axis=1)
    pairs = (raters * (raters - 1)).sum()
    return None if pairs == 0 else float((given * (given - 1)).sum() / pairs)


def fleiss_kappa(votes: Votes) -> float | None:
    """Agreement beyond chance, over items that every rater voted on.

    None where there are no such items or all their votes are of one grade.
    """
    given = counts(votes)[(votes != NO_VOTE).all(axis=1)]
    raters = votes.shape[1]
    if not len(given) or raters < 2:
        return None
    observed = ((given * (given - 1)).sum(axis=1) / (raters * (raters - 1))).mean()
    chance = ((given.sum(axis=0) / given.sum()) ** 2).sum()
    return None if chance == 1 else float((observed - chance) / (1 - chance))


def krippendorff_alpha(votes: Votes, level: Literal["nominal", "ordinal"]) -> float | None:
    """1 - observed over expected disagreement (Krippendorff 2004); missing votes are allowed.

    None where no item has two votes or all votes are of one grade.
    """
    given = counts(votes)
    raters = given.sum(axis=1)
    given, raters = given[raters > 1], raters[raters > 1]
    if not len(given):
        return None
    pairs = given[:, :, None] * given[:, None, :] - np.eye(len(GRADES)) * given[:, :, None]
    coincidence = (pairs / (raters - 1)[:, None, None]).sum(axis=0)
    marginal = coincidence.sum(axis=0)
    distance = _distance(marginal, level)
    expected = (np.outer(marginal, marginal) - np.diag(marginal)) / (marginal.sum() - 1)
    disagreement = float((expected * distance).sum())
    if disagreement == 0:
        return None
    return float(1 - (coincidence * distance).sum() / disagreement)


def _distance(marginal: Floats, level: Literal["nominal", "ordinal"]) -> Floats:
    """Squared differences between grades; ordinal ones count the votes in between."""
    grades = len(marginal)
    if level == "nominal":
        return 1.0 - np.eye(grades)
    middle = np.cumsum(marginal) - marginal / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)


def majority(votes: Votes) -> list[str | None]:
    """The ordinal median of each item, B < S < G: of three votes the majority, S for 1-1-1.

    None where nobody voted. Where an even number of votes leaves the middle between two grades, S.
    """
    found: list[str | None] = []
    for row in votes:
        given = row[row != NO_VOTE]
        if not len(given):
            found.append(None)
            continue
        middle = float(np.median(given))
        found.append(GRADES[int(middle)] if middle == int(middle) else "S")
    return found


def split(votes: Votes) -> int:
    """Items on which three raters gave three different grades; the paper's rule is unknown."""
    return int((counts(votes) == 1).all(axis=1).sum())
