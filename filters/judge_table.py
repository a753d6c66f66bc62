"""The judge for whole tables: the decisions of `filters.judge`, a column at a time.

`filters.judge` is the definition and has the sentences; this gives the same reason codes for
millions of rows a second. A test holds the two together on every kind of row.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datapipe.pack.scored import Verdicts
from filters.judge import IdentityReason, ViewReason
from filters.rules import PROFILE, Rules

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Codes = NDArray[np.int8]

_VIEW = get_args(ViewReason)
_IDENTITY = get_args(IdentityReason)


class TableJudge:
    """The rules of a run, made ready for its tables."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._yaws = np.array(sorted(rules.yaws))

    def __call__(self, references: pa.Table, views: pa.Table) -> Verdicts:
        """Judge whole identities.

        Raises ValueError for a view at a yaw that the rules are not for, and for one whose
        identity has no reference.
        """
        owner = _owners(references, views)
        column = np.searchsorted(self._yaws, yaw := views["yaw"].to_numpy())
        if len(yaw) and not (self._yaws[column.clip(max=len(self._yaws) - 1)] == yaw).all():
            raise ValueError(
                f"a view at another yaw than {self.rules.yaws}, which the rules are for"
            )
        own, rested = self._identity(views, owner, column, len(references))
        rules = self.rules
        quality = self._quality(views, rules.sharpness.ratio, rules.aesthetic.minimum)
        code = _first(
            (quality != -1, quality),
            (~self._pose(views, column), _VIEW.index("pose")),
            (~own, _VIEW.index("identity")),
            (~rested, _VIEW.index("identity_neighbours")),
        )
        left_out = self._left_out(references, owner[code == -1])
        return Verdicts(
            identities=_named(left_out, _IDENTITY),
            views=_named(code, _VIEW),
            kept=pa.array((code == -1) & (left_out[owner] == -1)),
        )

    def _left_out(self, references: pa.Table, passing: NDArray[np.int64]) -> Codes:
        """Codes of IdentityReason, from the owners of the passing views."""
        count = np.bincount(passing, minlength=len(references))
        few = count < self.rules.minimum_views, _IDENTITY.index("too_few_views")
        if not self.rules.reference_must_pass:
            return _first(few)
        quality = self._quality(references, None, self.rules.aesthetic.reference)
        as_reference = [
            (quality == _VIEW.index(name), _IDENTITY.index(f"reference_{name}"))
            for name in ("not_detected", "blurred", "aesthetic")
        ]
        return _first(*as_reference, few)

    def _quality(self, rows: pa.Table, ratio: float | None, beauty: float) -> Codes:
        sharpness, rules = _floats(rows, "sharpness"), self.rules
        sharp = sharpness >= rules.sharpness.minimum
        if ratio is not None:
            sharp &= _floats(rows, "sharpness_ratio") >= ratio
        return _first(
            (~_bools(rows["detected"]), _VIEW.index("not_detected")),
            (~sharp, _VIEW.index("blurred")),
            (~(_floats(rows, "aesthetic") >= beauty), _VIEW.index("aesthetic")),
        )

    def _pose(self, views: pa.Table, column: NDArray[np.int64]) -> Bools:
        rules, yaws = self.rules.pose, self._yaws
        profile = np.abs(yaws) >= PROFILE
        low, high = yaws - rules.tolerance, yaws + rules.tolerance
        low = np.where(profile, np.where(yaws > 0, rules.profile_minimum, -np.inf), low)
        high = np.where(profile, np.where(yaws > 0, np.inf, -rules.profile_minimum), high)
        measured = _floats(views, "measured_yaw")
        level: Bools = (np.abs(_floats(views, "measured_pitch")) <= rules.pitch) & (
            np.abs(_floats(views, "measured_roll")) <= rules.roll
        )
        untested: Bools = (np.abs(yaws) > rules.level_to)[column]
        turned: Bools = (low[column] <= measured) & (measured <= high[column])
        fits: Bools = turned & (level | untested)
        return fits

    def _identity(
        self, views: pa.Table, owner: NDArray[np.int64], column: NDArray[np.int64], owners: int
    ) -> tuple[Bools, Bools]:
        """For each view: its own cosine suffices; and so do those that it rests on."""
        rule = self.rules.identity
        judged = np.abs(self._yaws) <= rule.judged_to
        least = np.array([rule.threshold(int(yaw)) for yaw in self._yaws])
        own: Bools = (_floats(views, "identity_cosine") >= least[column]) | ~judged[column]
        grid = np.zeros((owners, len(self._yaws)), np.bool_)  # an absent view supports nothing
        grid[owner, column] = own
        for index in np.argsort(np.abs(self._yaws), kind="stable"):
            rests_on = rule.rests_on(int(self._yaws[index]), self.rules.yaws)
            if rests_on is not None:
                grid[:, index] &= grid[:, np.searchsorted(self._yaws, rests_on)]
        return own, grid[owner, column]


def _owners(references: pa.Table, views: pa.Table) -> NDArray[np.int64]:
    """For each view the row of its identity in `references`."""
    keys = references["key"].unique()
    most = 1 + max(pc.max(table["identity"]).as_py() or 0 for table in (references, views))

    def codes(table: pa.Table) -> Any:
        index = pc.fill_null(pc.index_in(table["key"], keys), -1).to_numpy().astype(np.int64)
        return index * most + table["identity"].to_numpy()

    wanted, given = codes(views), codes(references)
    order = np.argsort(given, kind="stable")
    place = np.searchsorted(given, wanted, sorter=order)
    row: NDArray[np.int64] = order[place.clip(max=len(order) - 1)] if len(order) else place
    if len(wanted) and (not len(order) or not (given[row] == wanted).all()):
        raise ValueError("a view belongs to an identity that has no reference")
    return row


def _first(*rules: tuple[Bools, int | Codes]) -> Codes:
    """The code of the first rule that strikes, -1 where none does."""
    found = np.select([strikes for strikes, _ in rules], [code for _, code in rules], default=-1)
    return found.astype(np.int8)


def _floats(rows: pa.Table, name: str) -> Floats:
    """A column with NaN where it could not be measured: NaN reaches no threshold."""
    values: Floats = rows[name].to_numpy()
    return values


def _bools(column: Any) -> Bools:
    values: Bools = column.to_numpy()
    return values


def _named(codes: Codes, names: tuple[str, ...]) -> Any:
    """Reason codes as an Arrow string array, null for none."""
    index = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(index, pa.array(names))
