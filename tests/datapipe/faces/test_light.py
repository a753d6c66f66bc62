"""Laws of the light face pack."""

import itertools
import pickle

import cv2
import numpy as np
import pytest

from datapipe.errors import UserError
from datapipe.faces.light import LightFaces, detection_scale

weights = pytest.mark.weights


def turned(image, degrees):
    """The picture turned so that heads tilt towards image right by that angle."""
    size = image.shape[1], image.shape[0]
    matrix = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), -degrees, 1)
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("bad", [{"min_score": 0}, {"threads": 0}, {"smallest": 0}])
def test_bad_settings_are_refused(bad):
    """Settings out of range are an error where they are written."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        LightFaces(**bad)


def test_missing_models_are_the_users_to_fetch(tmp_path, monkeypatch):
    """Without its files the pack says what to run; what it is made of is known all the same."""
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path))
    faces = pickle.loads(pickle.dumps(LightFaces()))
    with pytest.raises(UserError, match="harmoview models fetch"):
        faces.setup()
    assert len(str(faces.provenance()["recogniser"])) == 64


@pytest.mark.parametrize("side", [64, 320, 640, 720, 1280, 1920, 3840])
def test_pictures_are_shrunk_only_as_far_as_faces_allow(side):
    """No copy is enlarged, none passes 1280, and a 40-pixel face keeps 14 pixels up to 4K."""
    scale = detection_scale(side, 40)
    assert scale <= 1
    assert side * scale <= 1280
    assert 40 * scale >= 13.3


@weights
def test_every_portrait_has_its_face(light, portraits, found):
    """A face is found in each picture, its points in it, in order, near frontal."""
    for key, image in portraits.items():
        face = found[key]
        left, top, right, bottom = face.box
        assert 0.15 * image.shape[1] < face.size < 0.9 * image.shape[1]
        assert ((face.points > [left, top]) & (face.points < [right, bottom])).all()
        eye_left, eye_right, nose, mouth_left, mouth_right = face.points
        assert eye_left[0] < nose[0] < eye_right[0]
        assert mouth_left[0] < mouth_right[0]
        assert eye_left[1] < nose[1] < mouth_left[1]
        assert abs(face.pose.yaw) < 15
        assert abs(face.pose.roll) < 15


@weights
def test_a_mirrored_picture_mirrors_the_pose(light, portraits, found):
    """Mirroring negates yaw and roll and keeps pitch."""
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in portraits.values()]
    for key, faces in zip(portraits, light.find(mirrored), strict=True):
        a, b = found[key].pose, faces[0].pose
        assert b.yaw == pytest.approx(-a.yaw, abs=3)
        assert b.roll == pytest.approx(-a.roll, abs=3)
        assert b.pitch == pytest.approx(a.pitch, abs=3)


@weights
def test_yaw_is_positive_where_the_nose_points_to_image_right(portraits, found):
    """Yaw has the sign of the nose's offset from the middle of the eyes, for turned heads."""
    offsets = []
    for face in found.values():
        eye_left, eye_right, nose, *_ = face.points
        along = (eye_right - eye_left) / np.linalg.norm(eye_right - eye_left)
        offsets.append(float((nose - (eye_left + eye_right) / 2) @ along))
    yaws = [face.pose.yaw for face in found.values()]
    assert np.corrcoef(offsets, yaws)[0, 1] > 0.7
    turned_heads = [(o, y) for o, y in zip(offsets, yaws, strict=True) if abs(y) > 5]
    assert len(turned_heads) >= 3
    assert all(o * y > 0 for o, y in turned_heads)


@weights
def test_pitch_is_positive_where_the_face_looks_up(portraits, found):
    """The nose tip rises from mouth to eyes as pitch grows."""
    heights = []
    for face in found.values():
        eyes, mouth = face.points[:2].mean(axis=0), face.points[3:].mean(axis=0)
        down = (mouth - eyes) / np.linalg.norm(mouth - eyes) ** 2
        heights.append(-float((face.points[2] - eyes) @ down))
    pitches = [face.pose.pitch for face in found.values()]
    assert np.corrcoef(heights, pitches)[0, 1] > 0.5


@weights
@pytest.mark.parametrize("degrees", [-20, 20])
def test_roll_is_positive_where_the_head_tilts_to_image_right(light, portraits, found, degrees):
    """Turning the picture turns roll by as much, with its sign."""
    keys = [key for key in portraits if key[1] == "studio_portrait"]
    for key, faces in zip(
        keys, light.find([turned(portraits[k], degrees) for k in keys]), strict=True
    ):
        assert faces[0].pose.roll - found[key].pose.roll == pytest.approx(degrees, abs=3)


@weights
def test_a_batch_of_pictures_embeds_as_one_by_one(light, portraits, found):
    """One face of each picture, in order; what else is in the batch moves no stored decimal."""
    keys = list(portraits)[:6]
    each = light.embed_each([portraits[key] for key in keys], [found[key] for key in keys])
    alone = [light.embed(portraits[key], [found[key]])[0] for key in keys]
    np.testing.assert_allclose(each, alone, atol=1e-5)
    assert light.embed_each([], []).shape == (0, 128)


@weights
def test_one_person_is_nearer_than_two(light, portraits, found):
    """Studio portrait and selfie of one person agree more than most pairs of two people."""
    vectors = {key: light.embed(image, [found[key]])[0] for key, image in portraits.items()}
    people = sorted({person for person, _ in vectors})
    same = [vectors[p, "studio_portrait"] @ vectors[p, "amateur_selfie"] for p in people]
    pairs = [(a, b) for a, b in itertools.combinations(vectors, 2) if a[0] != b[0]]
    different = np.array([vectors[a] @ vectors[b] for a, b in pairs])
    assert min(same) > 0.6
    assert np.mean(same) > 0.68
    assert np.mean(different) < 0.32
    assert np.mean(different > min(same)) < 0.05


@weights
def test_embeddings_are_unit_rows_in_order(light, portraits, found):
    """One unit row a face, in the order given, the same alone as in a batch; none for no face."""
    key = ("P005", "studio_portrait")
    image, face = portraits[key], found[key]
    other = light.find([turned(image, 5)])[0][0]
    both = light.embed(image, [face, other])
    assert both.shape == (2, 128)
    assert both.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(both[1], light.embed(image, [other])[0], atol=1e-4)
    assert light.embed(image, []).shape == (0, 128)


@weights
def test_faces_come_largest_first(light, portraits):
    """Two people in one picture are two faces, the larger one first, in the picture's pixels."""
    small = cv2.resize(
        portraits["P001", "studio_portrait"], (256, 256), interpolation=cv2.INTER_AREA
    )
    large = portraits["P007", "studio_portrait"]
    scene = np.full((512, 1024, 3), 128, np.uint8)
    scene[100:356, :256], scene[:, 512:] = small, large
    faces = light.find([scene])[0]
    assert len(faces) == 2
    assert faces[0].size > faces[1].size
    assert faces[0].box[0] > 512
    assert faces[1].box[2] < 256


@weights
def test_large_pictures_give_faces_in_their_own_pixels(light, portraits, found):
    """What is found in an enlarged picture is the same face, enlarged."""
    key = ("P002", "studio_portrait")
    large = cv2.resize(portraits[key], None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    face = light.find([large])[0][0]
    np.testing.assert_allclose(face.box, np.multiply(found[key].box, 5), atol=0.1 * face.size)
    np.testing.assert_allclose(face.points, found[key].points * 5, atol=0.03 * face.size)


@weights
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (3840, 2160)])
def test_small_faces_are_found(light, portraits, found, width, height):
    """A face of 45 pixels is found in frames up to 4K."""
    missed = 0
    for key, image in list(portraits.items())[::3]:
        scale = 45 / found[key].size
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        frame = np.full((height, width, 3), 90, np.uint8)
        frame[200 : 200 + small.shape[0], 400 : 400 + small.shape[1]] = small
        missed += not light.find([frame])[0]
    assert missed == 0


@weights
def test_no_face_is_no_face(light):
    """A flat picture has none, and neither has one pixel."""
    flat = np.full((300, 400, 3), 128, np.uint8)
    assert light.find([flat, flat[:1, :1]]) == [[], []]


@weights
def test_the_same_picture_gives_the_same_numbers(portraits):
    """Two instances, whatever their threads, agree: boxes to the last bit, the rest nearly."""
    image = portraits["P009", "amateur_selfie"]
    results = []
    for threads in (1, 2):
        faces = LightFaces(threads=threads)
        faces.setup()
        face = faces.find([image])[0][0]
        results.append((face, faces.embed(image, [face])))
    (one, first), (two, second) = results
    assert one.box == two.box
    assert one.pose.yaw == pytest.approx(two.pose.yaw, abs=1e-3)
    np.testing.assert_allclose(first, second, atol=1e-5)


@weights
def test_a_quick_look_finds_the_same_faces(light, portraits, found):
    """With a pose that is a few degrees off at most."""
    for key, image in portraits.items():
        face = light.find([image], quick=True)[0][0]
        assert (face.box, face.score) == (found[key].box, found[key].score)
        for name in ("yaw", "pitch", "roll"):
            assert abs(getattr(face.pose, name) - getattr(found[key].pose, name)) < 6
