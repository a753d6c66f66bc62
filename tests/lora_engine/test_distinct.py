"""Laws of people who can be told apart."""

from itertools import islice

import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.faces.light import LightFaces
from lora_engine.subjects import distinct
from lora_engine.subjects.clip import ClipFormat, portrait_clip
from lora_engine.subjects.distinct import SIDE, distinct_people, portrait
from lora_engine.subjects.write import apart, tasks

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def faces():
    faces = LightFaces()
    faces.setup()
    return faces


@pytest.fixture(scope="module")
def people(gallery, faces):
    return list(islice(distinct_people(gallery, faces, seed=0, most=0.45), 3))


def test_no_two_are_alike_to_the_recogniser(people, faces):
    """Of every pair the cosine is at most what was asked."""
    pictures = [portrait(one.head, 0.0, SIDE) for one in people]
    vectors = np.stack([faces.embed(p, faces.find([p])[0][:1])[0] for p in pictures])
    assert (vectors @ vectors.T)[np.triu_indices(3, 1)].max() <= 0.45


def test_clips_show_the_people_that_were_drawn(people, gallery, faces):
    """The same seed draws the same people for them; a caption may name a beard."""
    wanted = apart(tasks(1, 1, 0, seed=0), faces, 0, 0.45)
    assert [seed for task in wanted for seed in task.chosen] == [one.seed for one in people]
    task, kind = wanted[0], ClipFormat(seconds=0.5, fps=4, size=96)
    clip = portrait_clip(gallery, task.people, kind, task.seed, task.chosen)
    assert people[0].invented.words in clip.caption.replace("A ", "a ").replace("The ", "the ")
    again = portrait_clip(gallery, task.people, kind, task.seed, task.chosen)
    assert again.video == clip.video


def test_too_many_people_are_an_error_and_not_an_endless_search(gallery, faces, monkeypatch):
    """It says how many fit."""
    monkeypatch.setattr(distinct, "DRAWS", 2)
    with pytest.raises(UserError, match="only 1 people fit"):
        list(islice(distinct_people(gallery, faces, seed=0, most=-0.9), 2))
