"""Laws of the Prepare stage, on painted faces of exactly known yaw and on real portraits."""

import math
import pickle
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.errors import BadSample
from datapipe.faces.light import LightFaces
from datapipe.models import model_path
from datapipe.pictures import decode_jpeg
from datapipe.prepare.frontal import FrontalBound
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.prepare.windows import WindowSettings
from datapipe.record import Sample, Source
from datapipe.stage import Resources, apply
from tests.datapipe.media import cut, damaged, decode_all, write_sound, write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

SETTINGS = PrepareSettings(frontal=FrontalBound(min_sharpness=0.2))  # painted skin is crisp
ONE_CPU = Resources(num_cpus=1)


def sample(path, **fields) -> Sample:
    return Sample("key", Source(str(path), path.suffix, **fields))


def stage(settings: PrepareSettings = SETTINGS, faces=None) -> Prepare:
    prepare = Prepare(settings, faces or PaintedFaces(), resources=ONE_CPU)
    prepare.setup()
    return prepare


def swing(index: int, *, period: float = 75, phase: float = 2.2, amplitude: float = 70) -> float:
    return amplitude * math.sin(2 * math.pi * index / period + phase)


def sweep(index: int) -> float:
    """Straight once only."""
    return 1.3 * index - 60


def clip(path, frames: int = 100, *, yaw=swing, side: int = 150, mirror=False, blur=0.0, **video):
    """One person turning the head in the middle of the picture."""
    pictures = (
        paint([Painted(0, yaw(index), side, 165, 80)], blur=blur) for index in range(frames)
    )
    return write_video(path, (p[:, ::-1] if mirror else p for p in pictures), **video)


def crowd(path, people: int, frames: int = 60, side: int = 120):
    """People side by side, larger ones first, each looking straight at another time."""

    def picture(index: int):
        faces = [
            Painted(n, swing(index, phase=1.3 * n), side - 2 * n, 10 + n * 130, 60)
            for n in range(people)
        ]
        return paint(faces, width=20 + 130 * people, height=240)

    return write_video(path, map(picture, range(frames)))


def followed(frames: int) -> int:
    """Samples of a clip of so many frames in which people are followed."""
    return math.ceil(frames / 25 * WindowSettings().rate)


def rejected(prepare: Prepare, path) -> str:
    with pytest.raises(BadSample) as caught:
        prepare(sample(path))
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("gop", [12, 250])
@pytest.mark.parametrize("frames", [30, 100, 400])
def test_a_frontal_frame_is_found_without_looking_at_more_than_allowed(tmp_path, frames, gop):
    """A turning head is caught within 2 degrees of frontal in at most 32 frames looked at, besides
    those in which the person is followed."""
    faces = PaintedFaces()
    prepare = stage(faces=faces)
    path = clip(tmp_path / "a.mp4", frames, gop=gop)
    (identity,) = prepare(sample(path)).identities
    true = swing(identity.reference.frame)
    assert abs(true) <= 4  # the swing moves by 6 degrees a frame there
    assert identity.reference.pose.yaw == pytest.approx(true, abs=1.5)
    assert faces.looked <= prepare.settings.frames + followed(frames)


def test_no_portrait_is_cut_from_a_smeared_frame(tmp_path):
    """Of a damaged clip in HEVC it is the sound clip's at that frame, or none: `damaged`."""
    quiet = {"x265-params": "log-level=none", "crf": "18"}
    path = clip(tmp_path / "a.mp4", 60, codec="libx265", options=quiet, gop=30, bframes=0)
    full, prepare, portraits, reasons = decode_all(path), stage(), 0, set[str]()
    for seed in range(6):
        broken = damaged(path, tmp_path / f"{seed}.mp4", seed)
        try:
            (identity,) = prepare(sample(broken)).identities
        except BadSample as unfit:
            reasons.add(unfit.reason)
            continue
        left, top, right, bottom = identity.reference.crop
        shown = full[identity.reference.frame][top:bottom, left:right].astype(float)
        assert ((decode_jpeg(identity.portrait) - shown) ** 2).mean() < 30
        portraits += 1
    assert portraits > 2
    assert reasons <= {"damaged"}


def test_the_size_of_what_was_prepared_is_kept(tmp_path):
    """A folder's listing does not tell it; pack skips a clip that has another size by then."""
    path = clip(tmp_path / "a.mp4", 30)
    assert stage()(sample(path)).source.size == path.stat().st_size


@pytest.mark.parametrize("frames", [24, 40, 64])
def test_the_budget_is_a_bound_for_crowds_too(tmp_path, frames):
    """With people who are small at first sight and measured at full size, no frame is added."""
    faces = PaintedFaces()
    prepare = stage(replace(SETTINGS, frames=frames, probe_side=320), faces)
    prepare(sample(crowd(tmp_path / "a.mp4", 3)))
    assert faces.looked <= frames + followed(60)


def test_the_reference_tells_the_truth_about_the_full_size_frame(tmp_path):
    """Box, time and crop are the full-size frame's, though faces are sought in small ones."""
    path = clip(tmp_path / "a.mp4")
    for probe_side in (240, 640):
        prepare = stage(replace(SETTINGS, probe_side=probe_side))
        (identity,) = prepare(sample(path)).identities
        reference = identity.reference
        assert reference.box == pytest.approx((165, 80, 315, 230), abs=2)
        assert reference.timestamp == pytest.approx(reference.frame / 25, abs=1e-3)
        left, top, right, bottom = reference.crop
        assert 0 <= left < right <= 480
        assert 0 <= top < bottom <= 320
        assert right - left == bottom - top
        portrait = decode_jpeg(identity.portrait)
        assert portrait.shape == (right - left, right - left, 3)
        shown = paint([Painted(0, swing(reference.frame), 150, 165, 80)])[top:bottom, left:right]
        assert np.abs(portrait.astype(int) - shown).mean() < 12


def test_portraits_are_scaled_down_but_never_up(tmp_path):
    """The portrait's side is the crop's or the setting, whichever is smaller."""
    path = clip(tmp_path / "a.mp4", 20, yaw=lambda _: 0)
    for side, expected in ((100, 100), (2000, 320)):
        (identity,) = stage(replace(SETTINGS, portrait_side=side))(sample(path)).identities
        assert decode_jpeg(identity.portrait).shape == (expected, expected, 3)


def test_a_mirrored_clip_gives_the_same_frame_with_mirrored_yaw(tmp_path):
    """Left and right are treated alike."""
    straight, mirrored = (
        stage()(sample(clip(tmp_path / f"{mirror}.mp4", yaw=sweep, mirror=mirror)))
        .identities[0]
        .reference
        for mirror in (False, True)
    )
    assert straight.frame == mirrored.frame
    assert straight.pose.yaw == pytest.approx(-mirrored.pose.yaw, abs=1)


def test_the_same_video_gives_the_same_bytes(tmp_path):
    """Twice in one process and once in another object: equal identities, portraits included."""
    path = crowd(tmp_path / "a.mp4", 2)
    prepare = stage()
    first = prepare(sample(path)).identities
    assert first == prepare(sample(path)).identities == stage()(sample(path)).identities


def test_two_people_are_two_identities_the_larger_first(tmp_path):
    """Each has its own reference, cut around its own face."""
    done = stage()(sample(crowd(tmp_path / "a.mp4", 2)))
    boxes = [identity.reference.box for identity in done.identities]
    assert [box[0] for box in boxes] == pytest.approx([10, 140], abs=3)
    assert done.others == 0


def test_of_five_people_three_are_counted_as_others(tmp_path):
    """The two largest stay; nobody is lost from the count."""
    done = stage()(sample(crowd(tmp_path / "a.mp4", 5)))
    assert len(done.identities) == 2
    assert done.others == 3


def test_a_person_stays_one_person_across_cuts(tmp_path):
    """Two people who alternate in the same place are told apart, and each is one."""
    pictures = [
        paint([Painted(n // 40 % 2, swing(n), 150, 165, 80)], background=60 + n // 40 * 40)
        for n in range(160)
    ]
    done = stage()(sample(write_video(tmp_path / "a.mp4", pictures)))
    assert len(done.identities) == 2
    assert done.others == 0


def test_one_person_without_a_reference_does_not_cost_the_other(tmp_path):
    """The one who never looks straight is counted in `others`."""
    pictures = [
        paint([Painted(0, 60, 150, 10, 80), Painted(1, swing(index), 130, 300, 80)])
        for index in range(60)
    ]
    done = stage()(sample(write_video(tmp_path / "a.mp4", pictures)))
    assert [round(identity.reference.box[0], -1) for identity in done.identities] == [300]
    assert done.others == 1


def test_every_unfit_video_is_rejected_for_its_reason(tmp_path):
    """What is wrong with a video decides its reason; the stage stays fit for the next one."""
    prepare = stage()
    good = clip(tmp_path / "good.mp4", 20)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("text" * 1000)
    nobody = write_video(tmp_path / "nobody.mp4", [paint([])] * 20)
    cases = {
        "unreadable": [
            tmp_path / "empty.mp4",
            tmp_path / "text.mp4",
            cut(good, tmp_path / "c.mp4", 0.5),
            tmp_path / "gone.mp4",
        ],
        "no_video": [write_sound(tmp_path / "sound.mp4")],
        "too_short": [clip(tmp_path / "one.mp4", 1), clip(tmp_path / "seven.mp4", 7)],
        "no_face": [nobody],
        "no_frontal": [clip(tmp_path / "profile.mp4", 30, yaw=lambda index: 50 + index)],
        "too_small": [clip(tmp_path / "small.mp4", 20, side=100)],
        "too_blurred": [clip(tmp_path / "blurred.mp4", 20, blur=3)],
    }
    for reason, paths in cases.items():
        for path in paths:
            assert rejected(prepare, path) == reason, path
    assert len(prepare(sample(good)).identities) == 1


def test_a_face_cut_off_by_the_frame_is_no_reference(tmp_path):
    """Looking straight is not enough where a part of the face is outside."""
    whole = [paint([Painted(0, 0, 150, 165, 80)])] * 20
    half = [picture[:150] for picture in whole]
    prepare = stage(faces=Overhanging())
    assert rejected(prepare, write_video(tmp_path / "half.mp4", half)) == "no_frontal"
    assert len(prepare(sample(write_video(tmp_path / "whole.mp4", whole))).identities) == 1


class Overhanging(PaintedFaces):
    """Completes faces that are cut off below, as detectors do."""

    def find(self, images, *, quick=False):
        return [
            [
                replace(face, box=(*face.box[:3], face.box[1] + face.box[2] - face.box[0]))
                for face in faces
            ]
            for faces in super().find(images)
        ]


def test_a_truncated_clip_is_used_as_far_as_it_goes(tmp_path):
    """Two thirds of a clip are still a clip."""
    whole = clip(tmp_path / "a.mp4", 120, gop=20, container={"movflags": "faststart"})
    done = stage()(sample(cut(whole, tmp_path / "cut.mp4", 0.7)))
    assert abs(swing(done.identities[0].reference.frame)) < 6


def test_a_member_of_a_tar_is_a_video_like_any_other(tmp_path):
    """The same bytes in a tar give the same identities."""
    path = clip(tmp_path / "a.mp4", 30)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(path, "a.mp4")
    with tarfile.open(tmp_path / "a.tar") as tar:
        member = tar.getmember("a.mp4")
    packed = Sample(
        "key",
        Source(str(tmp_path / "a.tar"), ".mp4", "a.mp4", member.offset_data, member.size),
    )
    assert stage()(packed).identities == stage()(sample(path)).identities


def test_a_video_that_hangs_its_decoder_is_an_error_row(tmp_path):
    """The row names what happened; the next video is unharmed."""
    slow = clip(tmp_path / "a.mp4", 100)
    row = apply(stage(replace(SETTINGS, request_seconds=0.01)), sample(slow))
    assert (row.outcome, row.stopped.reason) == ("error", "timed_out")
    assert "no answer within" in row.stopped.detail


def test_the_stage_travels_before_it_is_set_up(tmp_path):
    """A pickled copy does the same work."""
    prepare = Prepare(SETTINGS, PaintedFaces(), resources=ONE_CPU)
    copy = pickle.loads(pickle.dumps(prepare))
    for each in (prepare, copy):
        each.setup()
    video = sample(clip(tmp_path / "a.mp4", 20))
    assert prepare(video) == copy(video)


@pytest.mark.weights
def test_the_light_faces_find_two_portraits_in_one_clip(tmp_path):
    """Each reference shows its own person, framed by the rule, and nobody else's face."""
    people = [
        cv2.resize(decode_jpeg(file.read_bytes()), (480, 480), interpolation=cv2.INTER_AREA)
        for name in ("P005", "P002")
        for file in [model_path("portraits") / name / "assets" / "studio_portrait.jpg"]
    ]
    still = np.hstack(people)
    pictures = [np.roll(still, index % 5, axis=0) for index in range(24)]
    faces = LightFaces()
    done = stage(PrepareSettings(), faces)(sample(write_video(tmp_path / "a.mp4", pictures)))
    assert len(done.identities) == 2
    assert done.others == 0
    for identity in done.identities:
        portrait = decode_jpeg(identity.portrait)
        ((face, *strangers),) = faces.find([portrait])
        assert not strangers
        person = people[identity.reference.box[0] > 480]
        ((expected,),) = faces.find([person])
        own = faces.embed(portrait, [face])[0] @ faces.embed(person, [expected])[0]
        assert own > 0.8
        assert abs(identity.reference.pose.yaw) < 8


@pytest.mark.weights
@pytest.mark.parametrize("side", [400, 260])
@pytest.mark.parametrize("mirror", [True, False])
def test_a_mirror_or_the_same_picture_again_makes_no_second_person(tmp_path, mirror, side):
    """Beside themselves a person is one, as large or smaller, and is counted once."""
    file = model_path("portraits") / "P005" / "assets" / "studio_portrait.jpg"
    person = cv2.resize(decode_jpeg(file.read_bytes()), (400, 400), interpolation=cv2.INTER_AREA)
    again = np.full((400, side, 3), 90, np.uint8)
    small = cv2.resize(person, (side, side), interpolation=cv2.INTER_AREA)
    again[:side] = small[:, ::-1] if mirror else small
    pictures = [np.hstack([person, again])] * 12
    done = stage(PrepareSettings(), LightFaces())(sample(write_video(tmp_path / "a.mp4", pictures)))
    assert len(done.identities) == 1
    assert done.others == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 10},
        {"identities": 0},
        {"probe_side": 10},
        {"same_person": 1.0},
        {"request_seconds": 0},
        {"min_frames": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    """ValueError names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PrepareSettings(**wrong)
