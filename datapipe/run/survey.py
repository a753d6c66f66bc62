"""What listing a corpus has shown: its videos, whether they have captions, what is passed over."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from datapipe.corpus.names import PassedOver
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Sample

FILE = "listing.json"
FIRST = 1000
"""Videos whose captions are looked at before the work begins."""


@dataclass
class Survey:
    """Grows while a listing goes on."""

    videos: int = 0
    passed_over: PassedOver = field(default_factory=PassedOver)
    looked_at: int = 0
    """Videos whose captions were looked for."""
    empty: int = 0
    """Those of them without a caption, whether there is none or it cannot be read."""
    problem: str = ""
    """Why the first caption that cannot be read cannot."""
    complete: bool = False
    """Whether the listing came to its end, or to the number of videos that were wanted."""

    def look_at(self, sample: Sample) -> None:
        """Count a sample whose caption was looked for, unless it is no video anyway."""
        if sample.stopped is not None:
            return
        self.looked_at += 1
        self.empty += not sample.caption
        self.problem = self.problem or sample.caption_problem

    def save(self, run: Folder) -> None:
        found = {"videos": self.videos, "passed_over": dict(sorted(self.passed_over.items()))}
        run.put(FILE, (json.dumps(found, indent=1) + "\n").encode())


def load_passed_over(run: Folder) -> PassedOver | None:
    """What the last listing of a run's corpus passed over; None where none came to its end.

    Raises UserError when the file is damaged.
    """
    try:
        found = json.loads(run.read(FILE))["passed_over"]
        return PassedOver({str(suffix): int(count) for suffix, count in found.items()})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise UserError(
            f"{run.path(FILE)} is damaged ({wrong!r}); delete it, and `harmoview synthesize` "
            "writes it again"
        ) from wrong
