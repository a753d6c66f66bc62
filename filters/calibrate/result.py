"""What a calibration found, as JSON and as a rules file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datapipe.faces.base import FaceAnalyzer
from filters.calibrate.bounds import Bounds, bounds
from filters.calibrate.comparisons import Comparisons, comparisons, people
from filters.calibrate.identity import YawIdentity, calibrate
from filters.calibrate.impostors import RulesFar, rules_far
from filters.calibrate.intervals import CONFIDENCE, Share
from filters.calibrate.people import Drawn
from filters.calibrate.rules import calibrated
from filters.rules import Rules
from filters.rules_file import as_file, settings

FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """Everything that a calibration reports."""

    recogniser: str
    faces: Mapping[str, object]
    """Provenance of the face models."""
    far: float
    """The false-accept rate that was wanted."""
    least_tar: float
    """The share of genuine pairs that must pass where identity is asked."""
    same_person: float
    """The cosine of references from which they were not taken for two people."""
    identities: int
    """Identities that were compared."""
    lost: int
    """Identities that were drawn, but have no candidate or no face."""
    groups: int
    """Groups of identities that look like one person; as many as identities if none do."""
    identity: Sequence[YawIdentity]
    rules_far: Sequence[RulesFar]
    """What the thresholds of `base` do to the same people."""
    bounds: Bounds
    base: Rules
    """The rules that were calibrated."""
    rules: Rules | None
    """The same with the thresholds that were found; None where none can be given."""
    problem: str
    """Why there are no rules; "" where there are."""
    given: Mapping[str, Any] | None
    """By dotted key what --rules says itself, where identity alone was calibrated; else None."""

    def written(self) -> dict[str, Any]:
        """The settings for the rules file.

        Where there were no scores these are the ones of identity, and what --rules says: the other
        `rules` are the package's, made to fit the yaws of the pairs, which are not a run's.
        """
        found = settings(self.rules) if self.rules is not None else {}
        if self.given is None:
            return found
        of_identity = {key: found[key] for key in found if key.startswith("identity.")}
        return {**self.given, **of_identity}

    def changed(self) -> list[dict[str, Any]]:
        """The settings that the calibration changes."""
        if self.rules is None:
            return []
        before, after = settings(self.base), settings(self.rules)
        return [
            {"key": key, "before": before.get(key), "after": value}
            for key, value in after.items()
            if before.get(key) != value
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON types; docs/calibrate.md describes them."""
        return {
            "format": FORMAT,
            "recogniser": self.recogniser,
            "faces": dict(self.faces),
            "far": self.far,
            "least_tar": self.least_tar,
            "confidence": CONFIDENCE,
            "same_person": self.same_person,
            "identities": self.identities,
            "lost": self.lost,
            "groups": self.groups,
            "identity": [asdict(one) for one in self.identity],
            "rules_far": [asdict(one) for one in self.rules_far],
            "bounds": asdict(self.bounds),
            "changed": self.changed(),
            "rules": None if self.rules is None else self.written(),
            "problem": self.problem or None,
        }


def conclude(
    drawn: Drawn,
    base: Rules,
    faces: FaceAnalyzer,
    *,
    given: Mapping[str, Any],
    far: float,
    least_tar: float,
    same_person: float | None,
) -> tuple[Calibration, list[Comparisons]]:
    """Compare everyone with everyone; returns the comparisons too, for the plot.

    `given` is what --rules says itself, by dotted key; `same_person` None is the threshold of the
    rules at yaw 0, and for virtual people none.
    """
    if same_person is None:
        same_person = 1.0 if drawn.rendered else base.identity.threshold(0)
    who = people(drawn.embedded.references, same_person)
    found = comparisons(drawn.embedded, who)
    identity = calibrate(found, far, least_tar)
    stored = drawn.scores
    by = Bounds() if stored is None else bounds(stored.yaw, stored.columns)
    rules, problem = None, ""
    try:
        rules = calibrated(base, faces.recogniser, identity, by)
    except ValueError as wrong:
        problem = str(wrong)
    result = Calibration(
        recogniser=faces.recogniser,
        faces=faces.provenance(),
        far=far,
        least_tar=least_tar,
        same_person=same_person,
        identities=len(drawn.embedded.references),
        lost=drawn.lost,
        groups=who.groups,
        identity=identity,
        rules_far=rules_far(base.identity, found),
        bounds=by,
        base=base,
        rules=rules,
        problem=problem,
        given=given if drawn.scores is None else None,
    )
    return result, found


def rules_file(result: Calibration) -> str:
    """The rules with what they were found from, as comments."""
    lines = [
        f"harmoview calibrate: {result.identities} identities, {result.recogniser}, false-accept "
        f"rate {result.far:g} wanted; intervals are 95 %",
        f"face models {json.dumps(dict(result.faces), sort_keys=True)}",
        *(_line(one) for one in result.identity),
    ]
    return "".join(f"# {line}\n" for line in lines) + "\n" + as_file(result.written())


def _line(one: YawIdentity) -> str:
    counts = f"{one.yaw} degrees: {one.people} people, {one.genuine} genuine and {one.impostors} "
    if one.threshold is None or one.far is None:
        return f"{counts}impostor pairs; not asked: {one.why}"
    text = (
        f"{counts}impostor pairs; {one.threshold:.4f} ({one.threshold_low:.4f} to "
        f"{one.threshold_high:.4f}), FAR {_share(one.far)}"
    )
    text += "" if one.tar is None else f", TAR {_share(one.tar)}"
    return text if one.asked == "asked" else f"{text}; not asked: {one.why}"


def _share(share: Share) -> str:
    return f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f})"
