"""The paper's Tables 1 and 2, and their Total recomputed from their own columns."""

from __future__ import annotations

from dataclasses import dataclass

from harmoview.bench.published import COLUMN, DEFAULT_WEIGHTS, WEIGHTS, WeightSet, total

ROUNDING = 0.01
"""Points of Total that two decimals explain: .005 of the columns together and .005 of the Total."""

_PRINTED = """
1 |       | VACE                        | 67.74 73.64 54.10 91.21 26.70 60.01 42.84 98.17
1 |       | Kaleido                     | 61.11 60.37 57.35 96.02 23.81 59.84 25.32 94.83
1 |       | RefAlign                    | 68.71 65.14 50.10 92.44 30.35 60.90 60.13 97.51
1 |       | HuMo                        | 73.11 83.67 53.15 95.81 22.88 62.32 59.69 94.52
1 |       | HarmoView⋆                  | 73.54 89.46 54.89 89.80 38.57 62.28 54.40 93.90
1 |       | HarmoView                   | 74.70 89.12 53.80 91.68 33.63 62.07 57.91 97.89
1 |       | Wan 2.7                     | 73.53 84.86 59.44 97.69 16.28 61.43 61.12 89.35
1 |       | Kling 3.0                   | 70.92 78.57 50.86 89.02 23.75 59.64 57.88 96.87
2 | full  | HarmoView                   | 74.70 89.12 53.80 91.68 33.63 62.07 57.91 97.89
2 | (a)   | w/o MFI                     | 73.62 89.46 53.68 91.48 32.21 61.59 53.10 97.10
2 | (b.1) | w/o LPT (sequential concat) | 70.41 80.50 50.45 92.80 34.25 61.40 51.50 95.50
2 | (b.2) | w/o LPT (gray padding)      | 72.46 82.81 51.76 92.26 35.11 61.46 56.31 97.15
2 | (c)   | w/o Jump-RoPE               | 74.51 89.10 53.75 91.65 33.50 62.05 56.80 97.75
2 | (d.1) | only single-view training   | 72.61 85.35 52.10 88.50 39.20 60.15 55.86 96.53
2 | (d.2) | only multi-view training    | 68.26 75.65 49.30 86.20 28.50 58.80 52.20 94.90
2 | (d.3) | PVC w/o view dropout        | 74.51 88.85 53.75 91.60 32.10 61.95 57.25 97.80
"""
"""Table | label | method | Total, Natural, AES, Smooth, Motion Amp, GME, FaceSim, Nexus."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of a table as printed; all numbers are points, 0..100."""

    table: int
    label: str
    method: str
    paper: float
    """The printed Total."""
    columns: dict[str, float]

    def predicted(self, weights: WeightSet = DEFAULT_WEIGHTS) -> float:
        """The Total of the printed columns."""
        value = total(self.columns, weights).value
        assert value is not None  # every column is printed
        return round(value, 6)

    def residual(self, weights: WeightSet = DEFAULT_WEIGHTS) -> float:
        """Printed less predicted."""
        return round(self.paper - self.predicted(weights), 6)

    @property
    def flagged(self) -> bool:
        """Whether rounding cannot explain the residual."""
        return abs(self.residual()) > ROUNDING

    def repairs(self) -> dict[str, float]:
        """The Total, or the one column, that would make the row consistent, by name."""
        found = {"total": round(self.predicted(), 2)}
        for name, share in WEIGHTS[DEFAULT_WEIGHTS].items():
            found[name] = round(self.columns[name] + self.residual() / share, 2)
        return found


def _row(line: str) -> PaperRow:
    table, label, method, numbers = (part.strip() for part in line.split("|"))
    printed, *columns = map(float, numbers.split())
    return PaperRow(int(table), label, method, printed, dict(zip(COLUMN, columns, strict=True)))


ROWS = tuple(map(_row, _PRINTED.strip().splitlines()))


def as_dicts() -> list[dict[str, object]]:
    """Every row for JSON, with the Total under all weight sets."""
    return [
        {
            "table": row.table,
            "label": row.label,
            "method": row.method,
            "paper": row.paper,
            "predicted": row.predicted(),
            "residual": row.residual(),
            "flagged": row.flagged,
            "columns": row.columns,
            "totals": {name: row.predicted(name) for name in WEIGHTS},
            "repairs": row.repairs() if row.flagged else None,
        }
        for row in ROWS
    ]
