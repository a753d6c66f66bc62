"""Which fresh views the rules would reject, so that the engine tries them again at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from datapipe.faces.base import FaceAnalyzer
from datapipe.record import Image, Reference, Scores
from datapipe.stage import MeritOfViews
from filters.aesthetic import AestheticScorer
from filters.checks import compile_rules
from filters.head_pose import PoseEstimator
from filters.judge import first_failure
from filters.rules import Rules
from filters.score import MeasuredPicture, measure

WORST = -1.0
"""The merit of a view without a face; others have half their cosine."""
PASSED = 2.0
"""What a view that passes has beyond that."""


class RulesJudge:
    """A `datapipe.stage.ViewJudge` by a run's rules.

    Each view is judged by itself: one that fails only because a nearer view does would gain nothing
    by another attempt. Where the reference fails, its views are not worth another one either.
    """

    def __init__(
        self,
        rules: Rules,
        faces: FaceAnalyzer,
        aesthetic: AestheticScorer,
        pose: PoseEstimator | None = None,
    ) -> None:
        self.rules, self.faces, self.aesthetic, self.pose = rules, faces, aesthetic, pose

    def setup(self) -> None:
        """Raises UserError when a model is missing."""
        self._turns = threading.Lock()
        self._checks = compile_rules(self.rules)
        self.faces.setup()
        self.aesthetic.setup()
        if self.pose is not None:
            self.pose.setup()

    def __call__(self, reference: Reference, portrait: Image) -> MeritOfViews:
        """As the protocol has it; among views alike in that, a larger cosine has more merit."""
        (own,) = self._measured([portrait])
        verdict = first_failure(self._checks.reference, own.alone(reference.expression))
        if self._checks.reference_must_pass and not verdict.passed:
            return lambda views: dict.fromkeys(views, PASSED)

        def merits(views: Mapping[int, Image]) -> dict[int, float]:
            measured = self._measured(list(views.values()))
            scores = {yaw: one.against(own) for yaw, one in zip(views, measured, strict=True)}
            return {yaw: self._merit(yaw, found) for yaw, found in scores.items()}

        return merits

    def _measured(self, pictures: Sequence[Image]) -> list[MeasuredPicture]:
        with self._turns:
            return measure(pictures, self.faces, self.aesthetic, self.pose)

    def _merit(self, yaw: int, scores: Scores) -> float:
        cosine = scores.identity_cosine
        merit = WORST if cosine is None else cosine / 2
        return merit + PASSED * first_failure(self._checks.views[yaw].own, scores).passed
