"""From clips to subjects: whose clips they are, and the split of each person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from datapipe.corpus.names import row_key
from datapipe.files import Folder
from lora_engine.acquire.clips import ClipResult
from lora_engine.pairs import (
    MANIFEST,
    SPLITS,
    PairsFolder,
    Split,
    Subject,
    split_of,
    write_pairs,
)


def people_of(clips: Iterable[ClipResult]) -> dict[str, list[ClipResult]]:
    """Gather the candidates of each person, by the person's key.

    A clip that names nobody is of a person of its own, under the clip's key.
    """
    found: dict[str, list[ClipResult]] = defaultdict(list)
    for clip in clips:
        if clip.picked is not None:
            key = clip.key if clip.subject is None else row_key(clip.subject, clip.subject)
            found[key].append(clip)
    return {key: sorted(some, key=lambda clip: clip.key) for key, some in sorted(found.items())}


def subjects(people: Mapping[str, Sequence[ClipResult]]) -> Iterator[Subject]:
    """Make a subject of every clip, without pictures; the name serves the split only.

    Takes of a person are never mixed: clothes, hair and light change between them.
    """
    for person, clips in people.items():
        for clip in clips:
            if clip.picked is not None:
                of = clip.picked
                yield Subject(clip.key, clip.key, of.frames, person, of.more, of.references)


def write(
    folder: Folder,
    people: Mapping[str, Sequence[ClipResult]],
    where: Mapping[str, Split],
    pictures: Callable[[str], Mapping[str, bytes]],
    settings: Mapping[str, object],
    yaws: Sequence[int],
) -> PairsFolder:
    """Write every person's subjects into the split that `where` gives for the person.

    `pictures` reads the pictures of a clip by its key, each by its frame's name. Raises ValueError
    as `write_pairs` does.
    """
    folder.delete(MANIFEST)
    for split in SPLITS:  # an earlier run may have had more shards
        for name in folder.names(f"{split}/*.tar"):
            folder.delete(name)
    return write_pairs(
        folder,
        ((where[one.person or one.key], _filled(one, pictures)) for one in subjects(people)),
        yaws,
        settings,
    )


def _filled(subject: Subject, pictures: Callable[[str], Mapping[str, bytes]]) -> Subject:
    """Fill in the pictures of a subject's frames."""
    of = pictures(subject.clip)
    kinds = (subject.frames, subject.more, subject.references)
    frames, more, references = (
        tuple(replace(frame, picture=of[frame.name]) for frame in some) for some in kinds
    )
    return replace(subject, frames=frames, more=more, references=references)


def splits(
    people: Mapping[str, Sequence[ClipResult]], validation: float, same_person: float, seed: int
) -> dict[str, Split]:
    """Assign each person to a split, so that nobody, under whatever names, is in both.

    Two names are taken for one person if any of their frontal frames have a cosine of at least
    `same_person`, and names that are linked in this way, directly or through others, form a
    group. Rendered people are trusted to be who their names say, because to a recogniser they look
    alike. A group goes where the hash of its first key sends it, but to train if it is larger than
    the validation share; if the hash sends none to validation, the smallest goes there, unless it
    is the only one.
    """
    groups = _groups(people, same_person)
    room = max(1, round(validation * len(people)))
    chosen = [
        group
        for group in groups
        if len(group) <= room and split_of(group[0], validation, seed) == "validation"
    ]
    if validation > 0 and not chosen and len(groups) > 1:
        chosen = [min(groups, key=lambda group: (len(group), group[0]))]
    held = {key for group in chosen for key in group}
    return {key: "validation" if key in held else "train" for key in people}


def _groups(people: Mapping[str, Sequence[ClipResult]], same_person: float) -> list[list[str]]:
    """Group the keys of those who may be one person; both levels are sorted."""
    known = [
        (key, clip.picked.embedding)
        for key in sorted(people)
        for clip in people[key]
        if clip.picked is not None and not clip.picked.rendered
    ]
    vectors = np.array([vector for _, vector in known], np.float32)
    root = {key: key for key in people}

    def find(key: str) -> str:
        while root[key] != key:
            key = root[key]
        return key

    for place, (key, _) in enumerate(known):
        for other in np.flatnonzero(vectors[:place] @ vectors[place] >= same_person):
            one, two = sorted((find(key), find(known[int(other)][0])))
            root[two] = one
    groups: dict[str, list[str]] = defaultdict(list)
    for key in sorted(people):
        groups[find(key)].append(key)
    return list(groups.values())
