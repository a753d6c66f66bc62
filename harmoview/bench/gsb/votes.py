"""A matrix of votes, summed up."""

from __future__ import annotations

from typing import Any

from harmoview.bench.gsb.agreement import (
    as_votes,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    percent_agreement,
    split,
)
from harmoview.bench.gsb.preference import preference


def votes_summary(rows: Any) -> dict[str, Any]:
    """Everything that a plain matrix of votes says. Raises ValueError where it is none."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("the votes are a list of lists, one an item")
    votes = as_votes(rows)
    decided = majority(votes)
    return {
        "items": len(votes),
        "raters": votes.shape[1],
        "majority": decided,
        **preference(decided).as_dict(),
        "agreement": percent_agreement(votes),
        "alpha_ordinal": krippendorff_alpha(votes, "ordinal"),
        "alpha_nominal": krippendorff_alpha(votes, "nominal"),
        "kappa": fleiss_kappa(votes),
        "one_of_each": split(votes),
    }
