"""Frames that show a person at a yaw, on painted films of which every frame is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.faces.base import Face
from datapipe.faces.landmarks import turn
from datapipe.pictures import decode_jpeg
from datapipe.prepare.people import RELIABLE_YAW
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.prepare.real_views import RealViewSettings, guesses
from datapipe.prepare.tracks import Look, Track
from datapipe.prepare.turns import AGREE, READS, Front, corrected, turned
from datapipe.record import YAWS, Pose, Sample, Source
from datapipe.stage import Resources
from datapipe.video.decoder import VideoInfo
from tests.datapipe.media import write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

FPS, SIZE = 25, (640, 320)
DEFAULTS = RealViewSettings()


def cut_out(path, pictures, yaws=YAWS, **settings):
    """The real views of each identity, with what their pictures show."""
    write_video(path, pictures)
    own = replace(PrepareSettings(), real=replace(DEFAULTS, **settings))
    stage = Prepare(own, PaintedFaces(), resources=Resources(1), real_yaws=yaws)
    stage.setup()
    try:
        sample = stage(Sample("key", Source(str(path), ".mp4")))
    finally:
        stage.close()
    faces = PaintedFaces()
    return [
        [
            (view, image := decode_jpeg(picture), faces.find([image])[0])
            for view, picture in identity.cutouts
        ]
        for identity in sample.identities
    ]


def who(image, faces):
    return int(PaintedFaces().embed(image, faces[:1])[0].argmax())


def turning(person, k, count, left=200, side=150):
    """A head that stays in front for the first half, then turns to either side and back."""
    half = count // 2
    yaw = 2 * np.sin(k) if k < half else 89 * np.sin(2 * np.pi * (k - half) / (count - half - 1))
    return Painted(person, yaw, side, left, 80)


@pytest.mark.parametrize("seconds", [4, 3], ids=["slow", "fast"])
def test_a_head_that_turns_gives_a_view_at_each_yaw(tmp_path, seconds):
    """Each is within the tolerance, of that moment and person, cut like the reference; a fast turn
    shows yaws between the frames that were sampled."""
    count = round(2 * FPS * seconds)
    truth = [turning(0, k, count).yaw for k in range(count)]
    pictures = [paint([turning(0, k, count)], *SIZE) for k in range(count)]
    (found,) = cut_out(tmp_path / "a.mp4", pictures)
    yaws = [view.yaw for view, _, _ in found]
    assert yaws == [yaw for yaw in YAWS if yaw] or (seconds == 3 and len(yaws) >= 3)
    for view, image, (face,) in found:
        assert abs(truth[view.cutout.frame] - view.yaw) <= DEFAULTS.tolerance / 2 + 1.5
        assert view.timestamp == pytest.approx(view.cutout.frame / FPS, abs=1e-3)
        assert (view.source, view.seed) == ("real", None)
        left, top, right, bottom = view.cutout.crop
        assert image.shape[:2] == (bottom - top, right - left)
        assert face.pose.yaw == pytest.approx(view.cutout.pose.yaw, abs=3)
        middle = (face.box[0] + face.box[2]) / 2 / image.shape[1]
        assert middle == pytest.approx(0.5, abs=0.1)


def test_nobody_elses_face_is_taken(tmp_path):
    """Another person who turns in a later shot, or beside, gives the first one no view."""
    front = [paint([Painted(0, 2 * np.sin(k), 150, 60, 80)], *SIZE) for k in range(80)]
    both = [
        paint([Painted(0, 2 * np.sin(k), 150, 60, 80), turning(1, k, 100, left=400, side=130)],
              *SIZE)
        for k in range(100)
    ]  # fmt: skip
    alone = [paint([turning(2, k + 100, 200)], *SIZE, background=200) for k in range(100)]
    found = cut_out(tmp_path / "a.mp4", front + both + alone)
    shown = [{who(image, faces) for _, image, faces in views} for views in found]
    assert sorted(map(len, shown)) == [0, 1]
    assert shown[0] | shown[1] in ({1}, {2})


@pytest.mark.parametrize(
    ("settings", "side"), [({"min_sharpness": 9.0}, 150), ({"min_face": 200.0}, 150), ({}, 90)]
)
def test_small_and_blurred_faces_give_none(tmp_path, settings, side):
    """Neither by the settings nor where the sharpness of so small a face cannot be told."""
    first = [paint([Painted(0, 0.0, 150, 200, 80)], *SIZE) for _ in range(30)]
    rest = [paint([turning(0, k + 60, 120, side=side)], *SIZE) for k in range(60)]
    (found,) = cut_out(tmp_path / "a.mp4", first + rest, **settings)
    assert found == []


def test_no_yaws_no_views(tmp_path):
    """Nothing is looked for; the reference is the view at 0."""
    pictures = [paint([turning(0, k, 100)], *SIZE) for k in range(100)]
    assert cut_out(tmp_path / "a.mp4", pictures, yaws=()) == [[]]
    assert cut_out(tmp_path / "b.mp4", pictures, yaws=(0,)) == [[]]


def test_the_same_video_gives_the_same_views(tmp_path):
    """To the byte: a candidate that is made again after a crash is the one that was lost."""
    pictures = [paint([turning(0, k, 120)], *SIZE) for k in range(120)]
    write_video(tmp_path / "a.mp4", pictures)
    stage = Prepare(PrepareSettings(), PaintedFaces(), resources=Resources(1), real_yaws=YAWS)
    stage.setup()
    sample = Sample("key", Source(str(tmp_path / "a.mp4"), ".mp4"))
    once, again = (stage(sample).identities for _ in range(2))
    stage.close()
    assert once == again
    assert once[0].cutouts


poses = st.builds(Pose, *[st.floats(-90, 90)] * 3) | st.none()


@given(st.lists(st.tuples(poses, st.integers(60, 300)), min_size=1, max_size=12), st.booleans())
def test_guesses_are_of_the_yaw_or_on_the_way_across_it(faces, judged):
    """And of tracks that a recogniser has judged, of faces that are large enough, two at most."""
    info = VideoInfo(640, 480, np.arange(0, 20, 1 / FPS), 20.0, "h264", (0,))
    looks = [
        Look(8 * n, 8 * n / FPS, Face((9, 9, 9 + size, 9 + size), np.zeros((5, 2)), 0.9, pose), 0.3)
        for n, (pose, size) in enumerate(faces)
    ]
    vector = np.float32([1, 0])
    track = Track(0, looks, [(looks[0], vector)] if judged else [])
    for yaw in YAWS:
        found = guesses([track], yaw, DEFAULTS, info, "painted")
        assert len(found) <= (2 if judged else 0)
        for guess in found:
            near = [k for k in looks if abs(k.frame - guess.frame) < 8 and k.face.pose]
            away = [turned(look.face.pose, "painted") - yaw for look in near]
            assert min(away) <= 0 <= max(away) or min(map(abs, away)) <= DEFAULTS.tolerance / 2
            assert all(look.face.size >= DEFAULTS.min_face for look in near)


@given(st.floats(-90, 90), st.floats(-80, 80), st.floats(-80, 80))
def test_the_yaw_of_a_reading_does_not_depend_on_its_form(yaw, pitch, roll):
    """Two sets of Euler angles for one rotation mean one yaw, to either side alike."""
    for backend in ("painted", *READS):
        straight = turned(Pose(yaw, pitch, roll), backend)
        folded = turned(Pose(math.copysign(180, yaw) - yaw, pitch + 180, roll - 180), backend)
        assert straight == pytest.approx(folded)
        assert turned(Pose(-yaw, pitch, roll), backend) == -straight
        assert abs(straight) <= 90


def test_less_likeness_is_asked_for_the_further_a_head_is_turned():
    """And none where a recogniser cannot judge."""
    least = [DEFAULTS.least_cosine(yaw, 0.4) for yaw in (0, 30, 60)]
    assert least == sorted(least, reverse=True)
    assert least[0] == 0.4
    assert DEFAULTS.least_cosine(int(RELIABLE_YAW) + 1, 0.4) is None


SKIN = np.random.default_rng(0).normal(0, 30, (478, 3)).astype(np.float32)
"""Points of a face: x right, y down, z away."""


def rotated(yaw, pitch=0.0, roll=0.0):
    """The skin of a head at a pose, elsewhere in the picture and of another size."""
    (c, s), (d, t), (e, u) = (
        (np.cos(angle), np.sin(angle)) for angle in np.radians((yaw, pitch, roll))
    )
    about_y = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    about_x = np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    about_z = np.array([[e, -u, 0], [u, e, 0], [0, 0, 1]])
    points = (SKIN - SKIN.mean(axis=0)) @ (about_z @ about_y @ about_x).T
    return (1.7 * points).astype(np.float32)


@given(st.floats(-85, 85), st.floats(-25, 25), st.floats(-20, 20))
def test_the_turn_of_a_rigid_face_is_found(yaw, pitch, roll):
    """By its points in the picture, whatever its pitch, roll and size."""
    assert turn(SKIN - SKIN.mean(axis=0), rotated(yaw, pitch, roll)) == pytest.approx(yaw, abs=0.1)


class Skinned(PaintedFaces):
    """Faces whose skin is turned by `turn`, whatever else is seen of them."""

    turn = 0.0

    def surface(self, image, face):
        return rotated(self.turn)


@given(st.sampled_from([-60, -30, 30, 60]), st.floats(-14, 14), st.floats(-30, 30))
def test_a_yaw_on_which_two_readings_differ_is_not_known(yaw, away, apart):
    """Where they agree it lies between them."""
    first = yaw + away
    faces = Skinned()
    faces.turn = first + apart
    front = Front(faces, SKIN - SKIN.mean(axis=0), 0.0)
    face = Face((0, 0, 9, 9), np.zeros((5, 2), np.float32), 0.9, Pose(first, 0, 0))
    second = corrected(turn(front.surface, rotated(faces.turn)), "landmarks")
    found = front.yaw_of(np.zeros((9, 9, 3), np.uint8), face, yaw)
    if abs(second - first) > AGREE:
        assert found is None
    else:
        assert min(first, second) - 1e-6 <= found <= max(first, second) + 1e-6
    assert front.yaw_of(np.zeros((9, 9, 3), np.uint8), face, 90) == first
