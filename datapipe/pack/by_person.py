"""How a pack chooses samples by the people in them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ByPerson:
    """How samples are chosen by the people in them."""

    same_person: float
    """Least cosine of two reference embeddings that count as one person."""
    validation: float | None = None
    """Share of the candidates that goes to validation; None for no splits."""
    most: int | None = None
    """Most samples of a person; None for all."""

    def __post_init__(self) -> None:
        if not 0 < self.same_person < 1:
            raise ValueError(f"--same-person must lie between 0 and 1, not {self.same_person:g}")
        if self.validation is not None and not 0 < self.validation < 1:
            raise ValueError(f"--validation must lie between 0 and 1, not {self.validation:g}")
        if self.most is not None and self.most < 1:
            raise ValueError(f"--max-per-identity must be at least 1, not {self.most}")
