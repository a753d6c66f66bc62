"""The rules of one run: plain thresholds, resolved for its yaws and its scorers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from datapipe.errors import check_range
from datapipe.record import YAWS

PROFILE = 90
"""The end of every estimator's yaw range in degrees, where only one side can be tested."""
PYIQA = "pyiqa:"
"""What begins the name of an aesthetic scorer that is a metric of pyiqa."""


@dataclass(frozen=True, slots=True)
class SharpnessRule:
    """How sharp a face must be."""

    minimum: float
    """Least `sharpness` of views."""
    ratio: float
    """Least `sharpness_ratio` of views."""
    reference: float
    """Least `sharpness` of references, beyond what Prepare asked of them."""

    def __post_init__(self) -> None:
        check_range(self, "minimum", "ratio", "reference", least=0, option="")


@dataclass(frozen=True, slots=True)
class ExpressionRule:
    """How calm a face must be."""

    reference: float
    """Most `expression` of references, 0 neutral … 1."""

    def __post_init__(self) -> None:
        check_range(self, "reference", least=0, most=1, option="")


@dataclass(frozen=True, slots=True)
class AestheticRule:
    """The least aesthetic scores, on the scale of one scorer."""

    scorer: str
    minimum: float | None = None
    """Least score of views, which come clean from an engine; None asks for none."""
    reference: float | None = None
    """Least score of references, which are frames of compressed video."""

    def __post_init__(self) -> None:
        for key in ("minimum", "reference"):
            value = getattr(self, key)
            _require(key, value, value is None or math.isfinite(value), "a finite number")


@dataclass(frozen=True, slots=True)
class PoseRule:
    """How well the measured pose must match the yaw asked for; degrees."""

    tolerance: float
    """Largest |measured yaw - yaw|, for |yaw| < 90."""
    profile_minimum: float
    """Least measured |yaw|, on the right side, for views at 90."""
    pitch: float
    roll: float
    """Largest |pitch| and |roll| of views up to `level_to`."""
    level_to: float

    def __post_init__(self) -> None:
        check_range(self, "tolerance", above=0, most=45, option="")
        check_range(self, "profile_minimum", least=45, under=PROFILE, option="")
        check_range(self, "pitch", above=0, most=90, option="")
        check_range(self, "roll", above=0, most=180, option="")
        check_range(self, "level_to", least=0, under=PROFILE, option="")

    def within(self, half_spacing: float) -> PoseRule:
        """These rules, tightened so that a view at a neighbouring yaw cannot pass."""
        return PoseRule(
            tolerance=min(self.tolerance, half_spacing),
            profile_minimum=max(self.profile_minimum, PROFILE - half_spacing),
            pitch=self.pitch,
            roll=self.roll,
            level_to=self.level_to,
        )


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """The least cosine to the reference as a function of |yaw|, for one recogniser."""

    recogniser: str
    curve: tuple[tuple[float, float], ...]
    """(|yaw|, cosine), |yaw| rising from 0; straight lines between, constant after the last."""
    verified_to: float
    """Up to this |yaw| the cosine alone tells people apart."""
    judged_to: float
    """Beyond this |yaw| the cosine has no power and is not looked at."""

    def __post_init__(self) -> None:
        yaws = [yaw for yaw, _ in self.curve]
        rising = bool(yaws) and yaws[0] == 0 and all(a < b for a, b in pairwise(yaws))
        shown = [list(point) for point in self.curve]
        _require("curve", shown, rising, "points [|yaw|, cosine] with |yaw| rising from 0")
        _require("curve", shown, yaws[-1] <= PROFILE, "points with |yaw| up to 90")
        inside = all(-1 <= cosine <= 1 for _, cosine in self.curve)
        _require("curve", shown, inside, "points with a cosine from -1 to 1")
        check_range(self, "verified_to", least=0, most=PROFILE, option="")
        check_range(self, "judged_to", least=self.verified_to, most=PROFILE, option="")

    def rests_on(self, yaw: int, yaws: tuple[int, ...]) -> int | None:
        """The nearer yaw of the run whose identity test must pass too; None if there need be none.

        Raises ValueError when one is needed and the run has none on that side (0 is on both).
        """
        if abs(yaw) <= self.verified_to:
            return None
        key = "verified_to" if abs(yaw) <= self.judged_to else "judged_to"
        reach = float(getattr(self, key))
        nearer = [other for other in yaws if other * yaw >= 0 and abs(other) <= reach]
        if not nearer:
            raise ValueError(
                f"{key} is {reach:g}, so identity at {yaw:+d}° rests on a nearer view, "
                f"and the run has none at 0 to {reach:g}° on that side"
            )
        return max(nearer, key=abs)

    def threshold(self, yaw: float) -> float:
        """The least cosine at a yaw, as precise as scores are stored."""
        angle, last = abs(yaw), self.curve[-1]
        for (left, low), (right, high) in pairwise(self.curve):
            if angle <= right:
                return round(low + (high - low) * (angle - left) / (right - left), 4)
        return round(last[1], 4)


@dataclass(frozen=True, slots=True)
class RealViewRule:
    """What a real view must be, beyond the rules for views, to be taken where both are there."""

    tolerance: float
    """Largest |measured yaw - yaw|, degrees."""
    sharpness: float
    """Least `sharpness`."""
    ratio: float
    """Least `sharpness_ratio`."""
    face_size: float
    """Least size of the face, pixels of the view."""

    def __post_init__(self) -> None:
        check_range(self, "tolerance", above=0, most=45, option="")
        check_range(self, "sharpness", "ratio", "face_size", least=0, option="")


@dataclass(frozen=True, slots=True)
class WindowRule:
    """What a span must be in which a person is seen, for training to use it."""

    seconds: float
    """Least length."""
    face_size: float
    """Least median size of the face, pixels of the video."""
    face_min: float
    """Least size of the face at its smallest."""
    others: int
    """Most people seen at once who are no identity of the sample."""
    sharpness: float
    """Least median sharpness of the face; 0 asks for none, also where it was not measured."""
    yaw_span: float
    """Least degrees between the 5th and the 95th percentile of the measured yaw."""

    def __post_init__(self) -> None:
        check_range(self, "seconds", "face_size", "face_min", "others", "sharpness", least=0,
                    option="")  # fmt: skip
        check_range(self, "yaw_span", least=0, most=180, option="")


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides what is kept of a run, resolved for its yaws and its scorers."""

    yaws: tuple[int, ...]
    """The yaws of the run's views."""
    minimum_views: int
    """Least passing views of an identity that is kept."""
    reference_must_pass: bool
    """Whether an identity whose reference fails is left out."""
    prefer_real: bool
    """Whether a real view that passes is taken instead of the synthesised one at its yaw."""
    real: RealViewRule
    sharpness: SharpnessRule
    expression: ExpressionRule
    aesthetic: AestheticRule
    pose: PoseRule
    identity: IdentityRule
    windows: WindowRule

    def __post_init__(self) -> None:
        check_range(self, "minimum_views", least=1, most=len(self.yaws), option="")

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        yaws: Sequence[int] = YAWS,
        recogniser: str = "sface",
        aesthetic_scorer: str = "brisque",
    ) -> Rules:
        """A rules file over the package's defaults; None: the defaults alone.

        The yaws and scorers are by default those of a run without a GPU; `Run.rules(path)` takes
        them from a run. Raises UserError naming the file and the key that is wrong.
        """
        from filters.rules_file import load_rules

        return load_rules(path, yaws=yaws, recogniser=recogniser, aesthetic_scorer=aesthetic_scorer)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: JSON types only."""
        table = asdict(self)
        table["yaws"] = list(self.yaws)
        table["identity"]["curve"] = [list(point) for point in self.identity.curve]
        return table

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Rules:
        """The inverse of `as_dict`, also after a trip through JSON.

        Raises KeyError, TypeError and ValueError when the table is not one of these rules.
        """
        identity = table["identity"]
        curve = tuple((yaw, cosine) for yaw, cosine in identity["curve"])
        return cls(
            yaws=tuple(table["yaws"]),
            minimum_views=table["minimum_views"],
            reference_must_pass=table["reference_must_pass"],
            prefer_real=table["prefer_real"],
            real=RealViewRule(**table["real"]),
            sharpness=SharpnessRule(**table["sharpness"]),
            expression=ExpressionRule(**table["expression"]),
            aesthetic=AestheticRule(**table["aesthetic"]),
            pose=PoseRule(**table["pose"]),
            identity=IdentityRule(**{**identity, "curve": curve}),
            windows=WindowRule(**table["windows"]),
        )


def half_spacing(yaws: tuple[int, ...]) -> float:
    """Half the smallest gap between the yaws of a run; 90 for a single yaw."""
    ordered = sorted(yaws)
    return min((b - a for a, b in pairwise(ordered)), default=180) / 2


def _require(key: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{key} must be {wanted}, not {value!r}")
