"""Laws of picking frames, on painted faces of exactly known yaw."""

import math
from dataclasses import replace

import numpy as np
import pytest

from datapipe.errors import BadSample
from datapipe.video.decoder import Decoder
from filters.head_pose import PosedFaces
from lora_engine.acquire.pick import pick
from lora_engine.acquire.settings import AcquireSettings
from tests.datapipe.media import cut, write_video
from tests.datapipe.painted import Painted, PaintedFaces, paint

FPS = 25


@pytest.fixture
def decoder():
    with Decoder() as one:
        yield one


def turning(frame, frames=200, amplitude=92.0):
    """From side to side once: eased as people move, at rest in both profiles."""
    return amplitude * math.sin(2 * math.pi * frame / frames)


def clip(path, frames=200, *, yaw=turning, look=None, **video):
    """`look` gives keyword arguments of `paint`, and more faces, by frame."""

    def picture(frame):
        more, options = look(frame) if look else ([], {})
        return paint([Painted(0, yaw(frame), 150, 60, 80), *more], **options)

    return write_video(path, map(picture, range(frames)), fps=FPS, **video)


def at(frame):
    """The frame's index in the clip."""
    return round(frame.timestamp * FPS)


@pytest.mark.parametrize("gop", [12, 250])
@pytest.mark.parametrize("frames", [120, 200, 900])
def test_every_yaw_is_found_without_looking_at_all_frames(tmp_path, decoder, frames, gop):
    """Within the tolerance, the profiles at the turning points; effort hardly grows with length."""
    faces = PaintedFaces()
    path = clip(tmp_path / "a.mp4", frames, yaw=lambda f: turning(f, frames), gop=gop)
    picked = pick(decoder, faces, AcquireSettings(), path, {})
    assert [frame.yaw for frame in picked.frames] == [-90, -60, -30, 0, 30, 60, 90]
    for frame in picked.frames:
        true = turning(at(frame), frames)
        assert abs(true - frame.yaw) <= 3 + 1.5  # the painted faces read to 1.5 degrees
    assert faces.looked == picked.looked <= min(0.75 * frames, 160)


def test_more_frames_and_references_are_kept(tmp_path, decoder):
    """Of a yaw the next best, at another moment; as references, frames that the main job would
    take, of different yaws, the frontal frame first, none with somebody beside."""
    beside = lambda f: ([Painted(1, 0, 130, 300, 90)] if f >= 300 else [], {})  # noqa: E731
    path = clip(tmp_path / "a.mp4", 400, look=beside)
    picked = pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    best = {frame.yaw: frame for frame in picked.frames}
    assert {frame.yaw for frame in picked.more} >= {-30, 0, 30}
    for frame in picked.more:
        assert frame.number == 1
        assert abs(turning(at(frame)) - frame.yaw) <= 3 + 1.5
        assert frame.timestamp != best[frame.yaw].timestamp
    references = picked.references
    assert references[0].picture == best[0].picture
    assert len({frame.timestamp for frame in references}) == len(references) >= 3
    yaws = [turning(at(frame)) for frame in references]
    assert all(abs(yaw) <= 15 + 1.5 for yaw in yaws)
    assert max(yaws) - min(yaws) > 10
    assert all(at(frame) < 300 for frame in references)
    alone = pick(decoder, PaintedFaces(), AcquireSettings(frames=1, references=1), path, {})
    assert not alone.more
    assert len(alone.references) == 1


def test_the_sharper_of_two_passes_is_taken(tmp_path, decoder):
    """The head turns twice, the first time out of focus."""
    blurred = lambda f: ([], {"blur": 2.5 if f < 200 else 0})  # noqa: E731
    path = clip(tmp_path / "a.mp4", 400, look=blurred)
    picked = pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    assert len(picked.frames) == 7
    assert all(at(frame) >= 198 for frame in picked.frames)


def test_frames_with_a_second_face_are_avoided(tmp_path, decoder):
    """The head turns twice, the second time with somebody beside."""
    beside = lambda f: ([Painted(1, 0, 130, 300, 90)] if f >= 200 else [], {})  # noqa: E731
    path = clip(tmp_path / "a.mp4", 400, look=beside)
    picked = pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    assert len(picked.frames) == 7
    assert all(at(frame) < 200 for frame in picked.frames)


def test_all_frames_are_of_one_shot(tmp_path, decoder):
    """Of a clip with a cut, the shot in which the head turns farther; the yaws of the other are
    not taken, though it shows more of the person's frontal face."""
    light = lambda f: ([], {"background": 90 if f < 150 else 200})  # noqa: E731
    path = clip(
        tmp_path / "a.mp4", 350, look=light, gop=50,
        yaw=lambda f: -62 * math.sin(math.pi * f / 150) if f < 150 else turning(f - 150, 200, 45),
    )  # fmt: skip
    picked = pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    assert [frame.yaw for frame in picked.frames] == [-30, 0, 30]
    assert all(at(frame) >= 150 for frame in picked.frames)


def test_a_shot_without_anybody_is_never_the_one(tmp_path, decoder):
    """Not even where the other shows no yaw that is wanted, and no head alone."""

    def picture(frame):
        if frame < 100:
            return paint([], background=200)
        return paint([Painted(0, 45, 150, 60, 80), Painted(1, 45, 130, 300, 90)])

    path = write_video(tmp_path / "a.mp4", map(picture, range(160)), fps=FPS)
    with pytest.raises(BadSample) as caught:
        pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    assert caught.value.reason == "no_frontal"


def test_a_turn_that_is_not_complete_gives_the_yaws_it_has(tmp_path, decoder):
    """No frame stands for a yaw that the head does not reach."""
    path = clip(tmp_path / "a.mp4", yaw=lambda f: turning(f, amplitude=45))
    picked = pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
    assert [frame.yaw for frame in picked.frames] == [-30, 0, 30]


def test_pictures_are_of_one_size_and_the_head_keeps_its_scale(tmp_path, decoder):
    """A head that comes nearer in profile is larger there by just that."""
    path = clip(tmp_path / "a.mp4")
    picked = pick(decoder, PaintedFaces(), AcquireSettings(side=200), path, {})
    images = [frame.image() for frame in picked.frames]
    assert {image.shape for image in images} == {(200, 200, 3)}
    vivid = [(np.ptp(image, axis=2) > 60).sum() for image in images]
    shown = [count for frame, count in zip(picked.frames, vivid, strict=True)
             if abs(frame.yaw) < 60]  # fmt: skip  # at the side the square is at the clip's edge
    assert max(shown) < 1.05 * min(shown)


class Leaning:
    """A pose estimator that reads 8 degrees less than the painted faces do."""

    def setup(self):
        pass

    def provenance(self):
        return {"name": "leaning"}

    def __call__(self, image, face):
        return replace(face.pose, yaw=face.pose.yaw - 8)


def test_another_pose_model_decides_where_it_is_given(tmp_path, decoder):
    """Frames are picked, and their yaw is measured, by its readings; its files are in the mark."""
    faces = PosedFaces(PaintedFaces(), Leaning())
    path = clip(tmp_path / "a.mp4")
    picked = pick(decoder, faces, AcquireSettings(yaws=(-60, 0, 60)), path, {})
    assert [frame.yaw for frame in picked.frames] == [-60, 0, 60]
    for frame in picked.frames:
        assert abs(turning(at(frame)) - 8 - frame.yaw) <= 3 + 1.5
        assert abs(frame.measured_yaw - frame.yaw) <= 3
    assert faces.provenance()["pose"] == {"name": "leaning"}


def test_the_truth_decides_where_that_is_asked_for(tmp_path, decoder):
    """A head whose pose reads 8 degrees too far is picked by what the clip's file says."""
    truth = {frame: turning(frame) - 8 for frame in range(200)}
    path = clip(tmp_path / "a.mp4")
    settings = AcquireSettings(yaws=(-60, 0, 60), truth=True)
    picked = pick(decoder, PaintedFaces(), settings, path, truth)
    assert [frame.yaw for frame in picked.frames] == [-60, 0, 60]
    for frame in picked.frames:
        assert frame.true_yaw == truth[at(frame)]
        assert abs(frame.true_yaw - frame.yaw) <= 3
        assert frame.measured_yaw == pytest.approx(frame.true_yaw + 8, abs=1.5)


def test_clips_that_give_no_subject_are_rejected_with_the_reason(tmp_path, decoder):
    """Nobody facing the camera, nobody at all, too few frames, too small, not a video."""
    cases = {
        "no_frontal": clip(tmp_path / "a.mp4", yaw=lambda f: 50 + turning(f) / 4),
        "no_face": write_video(tmp_path / "b.mp4", [paint([])] * 30, fps=FPS),
        "too_short": clip(tmp_path / "c.mp4", 5),
        "too_small": write_video(
            tmp_path / "d.mp4", (paint([Painted(0, turning(f), 80, 60, 80)]) for f in range(200))
        ),
        "too_blurred": clip(
            tmp_path / "f.mp4", yaw=lambda _: 0, frames=40, look=lambda _: ([], {"blur": 4.5})
        ),
        "unreadable": cut(clip(tmp_path / "e.mp4", 60), tmp_path / "g.mp4", 0.3),
    }
    for reason, path in cases.items():
        with pytest.raises(BadSample) as caught:
            pick(decoder, PaintedFaces(), AcquireSettings(), path, {})
        assert caught.value.reason == reason
