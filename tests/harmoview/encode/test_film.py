"""What is trained on shows the people it names: films of virtual people who come and go."""

from __future__ import annotations

import pytest

from benchmarks.windows import Counts, compare
from datapipe.faces.light import LightFaces
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import Sample, Source
from datapipe.stage import Resources
from lora_engine.subjects.distinct import distinct_people
from lora_engine.subjects.film import Actor, Cast, FilmShot

A, B = 0, 1


@pytest.mark.slow
def test_every_trained_frame_shows_whom_it_names(gallery, tmp_path):
    """Late, at the side, in shots with another; with the middle cut, most frames do not."""
    faces = LightFaces()
    faces.setup()
    found = distinct_people(gallery, faces, 7, 0.42)
    cast = Cast([next(found), next(found)])
    stories = (
        [FilmShot(7, (Actor(A, 0.16, 0.8, enters=3.0),))],
        [FilmShot(3, (Actor(A),)), FilmShot(4, (Actor(B, 0.4, leaves=2.5),)), FilmShot(4)],
    )
    prepare = Prepare(PrepareSettings(same_person=0.5), faces, resources=Resources(1.0))
    prepare.setup()
    total = Counts()
    for number, shots in enumerate(stories):
        film = cast.film(shots, (768, 432), seed=number)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(film.video)
        counts = compare(path, film, prepare(Sample("film", Source(str(path), ".mp4"))))
        for name, value in vars(counts).items():
            setattr(total, name, getattr(total, name) + value)
    prepare.close()
    assert total.both >= 0.95 * total.true
    assert total.both >= 0.95 * total.found
    assert total.trained > 0
    assert total.shown == total.trained
    assert total.middle_shown < 0.6 * total.middle
