"""Synthesize: the reference as the frontal view, and attempts where a judge rejects a view."""

import numpy as np
import pytest

from datapipe.files import Folder
from datapipe.line.stages import Synthesize, view_seed
from datapipe.pictures import decode_jpeg
from datapipe.record import Cutout, Identity, Pose, Sample, Source, View
from datapipe.run.store import CandidateStore
from datapipe.stage import Resources
from tests.datapipe.runs import REFERENCE, picture

YAWS = (-30, 0, 30)


class Plain:
    """An engine whose views are grey, as light as their seed says; it remembers what was asked."""

    name = "plain"

    def __init__(self):
        self.asked = []

    def setup(self):
        """Nothing to load."""

    def __call__(self, reference, yaws, seeds):
        self.asked.append(tuple(yaws))
        return [np.full((16, 16, 3), seed % 200, np.uint8) for seed in seeds]


class Light:
    """A judge that passes light views."""

    def __init__(self, least):
        self.least = least

    def setup(self):
        """Nothing to load."""

    def __call__(self, reference, portrait):
        return lambda views: {yaw: view.mean() / self.least for yaw, view in views.items()}


CUTOUT = Cutout(7, 1, (1.0, 2.0, 3.0, 4.0), (0, 0, 9, 9), Pose(29.0, 1.0, 2.0), 0.9, 0.3, 0.7)


def sample(turned=False):
    """Two people; where they are said to, the first one turns to +30 in the clip."""
    real = View(30, None, source="real", timestamp=0.5, cutout=CUTOUT), picture(9)
    people = [
        Identity(REFERENCE, portrait=picture(seed), cutouts=(real,) if turned and not seed else ())
        for seed in range(2)
    ]
    return Sample("clip", Source("clip.mp4", ".mp4"), identities=tuple(people))


def made(tmp_path, **options):
    """The stored candidate, and the engine."""
    engine, turned = options.pop("engine", Plain()), options.pop("turned", False)
    store = CandidateStore(Folder(tmp_path), "settings")
    stage = Synthesize(
        engine, store, yaws=YAWS, run_seed=0, provenance={}, resources=Resources(1.0), **options
    )
    stage.setup()
    done = stage(sample(turned))
    found = store.read(done.candidate)
    assert [i.views for i in found.sample.identities] == [i.views for i in done.identities]
    return found, engine


def lightness(key, identity, yaw, attempt):
    return view_seed(0, key, identity, yaw, attempt) % 200


def test_the_reference_is_the_frontal_view_and_nobody_makes_another(tmp_path):
    """It has the views' size, no seed, and the moment of its frame."""
    found, engine = made(tmp_path, real_frontal=True)
    assert engine.asked == [(-30, 30)] * 2
    for identity, pictures in zip(found.sample.identities, found.pictures, strict=True):
        assert [view.yaw for view in identity.views] == list(YAWS)
        front = identity.views[1]
        assert (front.source, front.seed, front.timestamp) == ("real", None, REFERENCE.timestamp)
        assert {decode_jpeg(data).shape for data in pictures.views.values()} == {(16, 16, 3)}


def test_without_an_engine_the_reference_is_all(tmp_path):
    """Nothing is synthesised; the one view is the reference, byte for byte."""
    found, _ = made(tmp_path, engine=None, real_frontal=True)
    for identity, pictures in zip(found.sample.identities, found.pictures, strict=True):
        assert [(view.yaw, view.source) for view in identity.views] == [(0, "real")]
        assert pictures.views == {0: pictures.reference}


def test_only_what_is_rejected_is_made_again(tmp_path):
    """Each attempt has its own seed; the first that passes stays, or else the best of all."""
    least, most = 150, 4
    found, engine = made(tmp_path, judge=Light(least), attempts=most)
    rounds = []
    for index, identity in enumerate(found.sample.identities):
        for view in identity.views:
            lights = [lightness("clip", index, view.yaw, n) for n in range(1, most + 1)]
            passing = [n for n, light in enumerate(lights, 1) if light > least + 1]
            best = passing[0] if passing else 1 + int(np.argmax(lights))
            assert view.attempt == best
            assert view.seed == view_seed(0, "clip", index, view.yaw, best)
            shown = decode_jpeg(found.pictures[index].views[view.yaw]).mean()
            assert shown == pytest.approx(lights[best - 1], abs=1)
        for n in range(1, most + 1):
            again = tuple(
                yaw
                for yaw in YAWS
                if all(lightness("clip", index, yaw, k) <= least + 1 for k in range(1, n))
            )
            rounds += [again] if again else []
    assert engine.asked == rounds
    assert len(rounds) > 2


def test_the_first_attempt_is_what_one_attempt_makes(tmp_path):
    """A judge that passes everything changes no byte."""
    one, _ = made(tmp_path / "one")
    other, engine = made(tmp_path / "other", judge=Light(1e-9), attempts=3)
    assert engine.asked == [YAWS] * 2
    assert [p.views for p in one.pictures] == [p.views for p in other.pictures]
    assert one.sample == other.sample


def test_a_reference_of_another_size_is_scaled(tmp_path):
    """It is the same picture with the views' sides."""
    found, _ = made(tmp_path, real_frontal=True)
    own = decode_jpeg(found.pictures[0].reference)
    front = decode_jpeg(found.pictures[0].views[0])
    assert own.shape != front.shape
    assert abs(own.mean() - front.mean()) < 10


def test_real_views_are_stored_beside_the_synthesised_ones(tmp_path):
    """Under a name of their own, with their moment and place in the video."""
    found, engine = made(tmp_path, turned=True)
    assert engine.asked == [YAWS] * 2
    first, second = found.sample.identities
    assert [(v.yaw, v.source) for v in first.views] == [
        *((yaw, "synthesised") for yaw in YAWS), (30, "real"),
    ]  # fmt: skip
    assert [v.source for v in second.views] == ["synthesised"] * 3
    assert (first.views[-1].timestamp, first.views[-1].cutout) == (0.5, CUTOUT)
    assert found.pictures[0].real == {30: picture(9)}
    assert found.pictures[0].of(30, "real") == picture(9)
    assert found.pictures[0].of(30, "synthesised") == found.pictures[0].views[30] != picture(9)


@pytest.mark.parametrize("frontal", [False, True])
def test_what_the_video_shows_is_not_made(tmp_path, frontal):
    """Instead of a yaw's synthesised view; everything else has the bytes that it had."""
    found, engine = made(
        tmp_path, turned=True, judge=Light(1e-9), instead=True, real_frontal=frontal
    )
    asked = (-30,) if frontal else (-30, 0)
    assert engine.asked == [asked, (*asked, 30)]
    beside, _ = made(tmp_path / "beside", turned=True, real_frontal=frontal)
    for one, other in zip(found.pictures, beside.pictures, strict=True):
        assert one.real == other.real
        assert one.views == {yaw: other.views[yaw] for yaw in one.views}
    assert found.sample.identities[1] == beside.sample.identities[1]


def test_no_yaw_is_lost_to_a_real_view_that_is_refused(tmp_path):
    """It is synthesised, as if real views were kept."""
    found, engine = made(tmp_path, turned=True, judge=Light(1e9), instead=True)
    beside, _ = made(tmp_path / "beside", turned=True)
    assert engine.asked == [YAWS] * 2
    assert (found.sample, found.pictures) == (beside.sample, beside.pictures)
