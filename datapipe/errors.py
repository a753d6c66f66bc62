"""The ways in which a command's input or a sample is not fit for use."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import ClassVar, Literal

Reason = Literal[
    "unreadable",  # not a video, or nothing in it can be decoded
    "damaged",  # too few frames that are not damaged, nor predicted from damaged ones
    "interlaced",  # two moments in each frame, which cannot be taken apart
    "no_video",  # a media file without a picture stream
    "too_large",  # over a limit on bytes, resolution, duration or frames
    "too_short",  # fewer frames than a reference can be chosen from
    "no_face",  # no face in any probed frame
    "no_frontal",  # faces, but none within the frontal bound
    "too_small",  # frontal faces, but all under the minimum size
    "too_blurred",  # frontal faces, but all under the minimum sharpness
    "engine_refused",  # the view engine cannot use the reference
    "no_turn",  # of pairs out of a run: too few yaws in one shot and one light
]


class UserError(Exception):
    """A mistake the user can mend: says what is wrong with which file or option, and what to do."""


class FinalError(UserError):
    """One that would come again: nothing is to be tried once more."""


MANY = 12
"""Names that a message lists at most."""


def install(extra: str) -> str:
    """What to do where an optional dependency is missing, for messages."""
    return f"pip install -e '.[{extra}]' in HarmoView's folder"


def meant(name: str, known: Iterable[str]) -> str:
    """What may be meant by an unknown name, to end a message: the nearest, or those there are."""
    names = sorted(known)
    if near := difflib.get_close_matches(name.lower(), names, 1):
        return f"did you mean {near[0]}?"
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return f"there are {', '.join(names[:MANY])}{more}" if names else "there are none"


def check_range(
    settings: object,
    *names: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    under: float | None = None,
    option: str = "--",
) -> None:
    """Raises ValueError where a field of some settings is not None and out of its range.

    `option` goes before the field's name to make the option's: "--prepare." for the options of a
    part, "" for a field that is no option.
    """
    bounds = [
        (text, holds, bound)
        for text, holds, bound in (
            ("at least {}", operator.ge, least),
            ("above {}", operator.gt, above),
            ("at most {}", operator.le, most),
            ("finite" if under == math.inf else "under {}", operator.lt, under),
        )
        if bound is not None
    ]
    for name in names:
        value = getattr(settings, name)
        if value is not None and not all(holds(value, bound) for _, holds, bound in bounds):
            wanted = " and ".join(text.format(bound) for text, _, bound in bounds)
            shown = option + name.replace("_", "-") if option else name
            raise ValueError(f"{shown} must be {wanted}, not {value}")


class BadSample(Exception):
    """This sample is not fit for use; it becomes a `rejected` row with a reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadSample], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)


class SampleError(RuntimeError):
    """Work on this sample failed in a way with a name; it becomes an `error` row with a reason."""

    reason: ClassVar[str]
