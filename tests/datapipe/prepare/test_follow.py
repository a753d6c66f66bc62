"""Where people are seen, on painted films whose every frame is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.faces.base import Face
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.prepare.shots import SIDE
from datapipe.prepare.tracks import Look, Track, Tracker, recognise
from datapipe.prepare.windows import TRACK, WindowSettings, read_track, seen_runs
from datapipe.record import Pose, Sample, Source
from datapipe.stage import Resources
from datapipe.video.decoder import Decoder
from tests.datapipe.media import write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

FPS = 25
SIZE = 640, 320
WHERE = {0: (60, 90), 1: (330, 90)}
"""Left and top of each person's face, of 150 pixels."""


def film(path, story, **video):
    """A film of (frames, background, people) one after the other; people are numbers or faces."""

    def pictures():
        for frames, background, people in story:
            for k in range(frames):
                faces = [p(k) if callable(p) else still(p, k) for p in people]
                yield paint([f for f in faces if f], *SIZE, background=background)

    return write_video(path, pictures(), **video)


def still(person, k, left=None):
    yaw = 8 * np.sin(k / 9 + person)
    return Painted(person, yaw, 150, WHERE[person % 2][0] if left is None else left, 90)


def prepared(path, windows=None, faces=None):
    """The sample and, for each identity, who it is and the frames of its windows."""
    windows = windows or WindowSettings()
    stage = Prepare(
        replace(PrepareSettings(), windows=windows), faces or PaintedFaces(),
        resources=Resources(num_cpus=1),
    )  # fmt: skip
    stage.setup()
    try:
        return stage(Sample("key", Source(str(path), ".mp4")))
    finally:
        stage.close()


def frames_of(identity):
    return [
        k
        for window in identity.windows
        for k in range(10_000)
        if window.start - 1e-3 <= k / FPS < window.end - 1e-3
    ]


UNSEEN_CUT = "another in the same place"
"""Only the embeddings tell; what lies between two of them that differ is nobody's."""
STORIES = {
    "there all the time": [(100, 90, [0])],
    "enters late": [(47, 90, []), (90, 90, [0])],
    "leaves early": [(83, 90, [0]), (60, 90, [])],
    "is away for a while": [(60, 90, [0]), (41, 90, []), (55, 90, [0])],
    "two, of whom one leaves": [(80, 90, [0, 1]), (60, 90, [0])],
    "leaves just before a cut": [(77, 90, [0]), (5, 90, []), (70, 200, [1])],
    "other shots with others": [(70, 90, [0]), (60, 200, [3]), (80, 30, [0])],
    UNSEEN_CUT: [(70, 90, [0]), (40, 90, [2]), (70, 90, [0])],
}


@pytest.mark.parametrize("short", [20.0, 0.0], ids=["probed", "swept"])
@pytest.mark.parametrize("name", STORIES)
def test_windows_hold_the_frames_that_show_the_person(tmp_path, name, short):
    """To the frame where somebody comes and goes, with the pass for shots and without."""
    story = STORIES[name]
    path = film(tmp_path / "a.mp4", story)
    true = [k for k, (_, _, people) in enumerate(
        part for part in story for _ in range(part[0])) if 0 in people]  # fmt: skip
    sample = prepared(path, WindowSettings(short=short))
    identity = next(i for i in sample.identities if i.reference.frame in true)
    found = frames_of(identity)
    assert set(found) <= set(true)
    slack = 4 * len(story)  # frames around cuts that nobody looks at
    assert len(found) >= (1 if name == UNSEEN_CUT else len(true) - slack)
    cuts = len({part[1] for part in story}) > 1 or name == UNSEEN_CUT
    assert cuts or found == true


def test_of_two_people_each_has_a_window_that_tells_of_the_other(tmp_path):
    """Known ones are company, unknown ones are others."""
    path = film(tmp_path / "a.mp4", [(75, 90, [0, 1])])
    for count, others, together in ((2, 0, 1.0), (1, 1, 0.0)):
        stage = Prepare(PrepareSettings(identities=count), PaintedFaces(),
                        resources=Resources(num_cpus=1))  # fmt: skip
        stage.setup()
        identities = stage(Sample("key", Source(str(path), ".mp4"))).identities
        stage.close()
        assert len(identities) == count
        for identity in identities:
            (window,) = identity.windows
            assert (window.others, window.together) == (others, together)


def test_no_picture_is_cut_from_a_fade(tmp_path):
    """Though the face looks straight, or to 30 degrees, nowhere else."""
    fade = range(75, 105)

    def yaw(k):
        return 50.0 if k < fade.start else 10.0 if k >= fade.stop else 30.0 if k % 15 < 5 else 0.0

    def pictures():
        for k in range(180):
            share = np.clip((k - fade.start) / len(fade), 0, 1)
            face = Painted(0, yaw(k), 150, *WHERE[0])
            yield paint([face], *SIZE, background=round(90 + share * 130))

    path = write_video(tmp_path / "a.mp4", pictures())
    stage = Prepare(replace(PrepareSettings(), windows=WindowSettings(short=0.0)), PaintedFaces(),
                    resources=Resources(num_cpus=1), real_yaws=(30,))  # fmt: skip
    stage.setup()
    (identity,) = stage(Sample("key", Source(str(path), ".mp4"))).identities
    stage.close()
    assert identity.reference.frame >= fade.stop
    assert all(view.cutout.frame not in fade for view, _ in identity.cutouts)


def test_a_window_tells_the_truth_about_the_face(tmp_path):
    """Its size, where it moves, how fast, and how it turns, in pixels of the full picture."""

    def walks(k):
        return Painted(0, -30 + 60 * k / 99, 150, 60 + 3 * k, 90)

    path = film(tmp_path / "a.mp4", [(100, 90, [walks])])
    (identity,) = prepared(path).identities
    (window,) = identity.windows
    assert (window.start, window.end) == (0.0, 4.0)
    assert window.face_size == pytest.approx(150, abs=3)
    assert window.box == pytest.approx((60, 90, 507, 240), abs=4)
    assert (window.yaw_low, window.yaw_high) == pytest.approx((-27, 27), abs=6)
    assert window.motion == pytest.approx(75 / 150, rel=0.1)
    assert window.others == 0
    track = read_track(identity.track)
    assert track.shape == (window.frames_seen, len(TRACK))
    true = -30 + 60 * track[:, TRACK.index("time")] * FPS / 99
    assert track[:, TRACK.index("yaw")] == pytest.approx(true, abs=4)


def test_a_face_under_the_least_size_is_not_seen(tmp_path):
    """Somebody who walks away ends the window when small."""

    def goes(k):
        side = max(20, 150 - k)
        return Painted(0, 0, side, 200, 90)

    path = film(tmp_path / "a.mp4", [(120, 90, [goes])])
    (identity,) = prepared(path, WindowSettings(min_face=100.0)).identities
    assert 36 <= len(frames_of(identity)) <= 52


def test_a_sweep_holds_few_frames(tmp_path, monkeypatch):
    """However long the video: what is decoded and not yet looked at stays a handful."""
    held, most = [0], [0]
    sweep, find = Decoder.sweep, PaintedFaces.find

    def counted(self, *told, **more):
        for number, frame in sweep(self, *told, **more):
            held[0] += frame.image.shape[1] > SIDE
            most[0] = max(most[0], held[0])
            yield number, frame

    def looked(self, images, *, quick=False):
        held[0] = max(0, held[0] - len(images))
        return find(self, images)

    monkeypatch.setattr(Decoder, "sweep", counted)
    monkeypatch.setattr(PaintedFaces, "find", looked)
    path = film(tmp_path / "a.mp4", [(150, 90, [0]), (150, 200, [0]), (150, 90, [0])])
    prepared(path, WindowSettings(short=0.0))
    assert most[0] <= 16


def look(frame, left, *, yaw=0.0, side=100.0, rate=3.0):
    face = Face((left, 50.0, left + side, 50.0 + side), np.zeros((5, 2), np.float32), 0.9,
                Pose(yaw, 0.0, 0.0))  # fmt: skip
    return Look(frame, frame / rate, face, None)


@given(st.sets(st.integers(0, 60), min_size=1))
@settings(max_examples=60)
def test_runs_keep_their_promise(frames):
    """No look is lost or there twice; a run misses few samples in a row, and few in all."""
    rules = WindowSettings()
    looks = [look(frame, 10) for frame in sorted(frames)]
    times = [k / 3 for k in range(61)]
    runs = [run for _, run in seen_runs([Track(0, looks)], times, rules)]
    assert [k for run in runs for k in run] == looks
    for run in runs:
        inside = run[-1].frame - run[0].frame + 1
        assert len(run) >= rules.min_share * inside
        assert all(b.frame - a.frame <= 3 for a, b in pairwise(run))


def test_a_face_that_flickers_for_an_hour_is_parted_all_the_same():
    """Seen in every other sample, it makes no window longer than one look."""
    looks = [look(frame, 10) for frame in range(0, 3 * 3600, 2)]
    times = [k / 3 for k in range(3 * 3600)]
    runs = seen_runs([Track(0, looks)], times, WindowSettings())
    assert [run for _, run in runs] == [[one] for one in looks]


def test_people_are_told_apart_by_their_tracks_means():
    """Tracks go to whom they are like; of two at once only one can be the same person."""
    e = np.eye(3, dtype=np.float32)
    tracker = Tracker()
    seen = {0.0: e[0], 200.0: e[1], 400.0: 0.6 * e[0] + 0.8 * e[2]}
    for frame in range(6):
        looks = [look(frame, left) for left in seen]
        tracker.add(0, looks, lambda face: seen[face.box[0]])
    first, second, third = tracker.tracks
    assert recognise(tracker.tracks, [e[0], e[1]], 0.4) == {0: [first], 1: [second]}
    assert third.looks[0].face.box[0] == 400.0


def test_somebody_else_in_the_same_place_begins_a_new_track():
    """What lies between the last sure look and the first of the stranger is nobody's."""
    e = np.eye(2, dtype=np.float32)
    tracker = Tracker()
    for frame in range(40):
        tracker.add(0, [look(frame, 10)], lambda _, k=frame: e[0 if k < 20 else 1])
    one, other = tracker.tracks
    assert one.last.frame < 20 <= other.looks[0].frame
