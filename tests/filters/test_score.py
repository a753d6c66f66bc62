"""The Score stage, with the light models on stored candidates."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.faces import face_analyzer
from datapipe.faces.base import Face
from datapipe.files import Folder
from datapipe.models import model_path
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.record import Identity, Pose, Reference, Sample, Source, View
from datapipe.run.store import CandidateStore
from datapipe.stage import Resources, apply
from filters.aesthetic import Brisque
from filters.head_pose import PoseEstimator
from filters.score import Score, rounded, subject

REFERENCE = Reference(
    0.0, 0, (0, 0, 1, 1), (0, 0, 1, 1), Pose(0, 0, 0), score=1, sharpness=0.3, seen=1
)
BLANK = np.full((512, 512, 3), 200, np.uint8)


def portrait(person, picture="studio_portrait"):
    path = model_path("portraits") / person / "assets" / f"{picture}.jpg"
    return cv2.resize(decode_jpeg(path.read_bytes()), (512, 512), interpolation=cv2.INTER_AREA)


def stage(store, pose=None):
    made = Score(store, face_analyzer("light"), Brisque(), resources=Resources(1), pose=pose)
    made.setup()
    return made


def stored(store, key, *people):
    """A sample whose candidate holds for each person a reference and views by yaw."""
    identities = tuple(
        Identity(REFERENCE, tuple(View(yaw, 0) for yaw in views), portrait=encode_jpeg(reference))
        for reference, views in people
    )
    pictures = [{yaw: encode_jpeg(image) for yaw, image in views.items()} for _, views in people]
    return store.put(Sample(key, Source("a.mp4", ".mp4"), identities=identities), pictures, {})


@pytest.fixture
def store(tmp_path):
    return CandidateStore(Folder(tmp_path), "settings")


pytestmark = pytest.mark.weights


@pytest.fixture
def scored(store):
    own, other = portrait("P005"), portrait("P001")
    views = {-30: own, 0: other, 30: cv2.GaussianBlur(own, (0, 0), 4), 60: BLANK}
    return stage(store)(stored(store, "one", (own, views)))


def test_every_view_has_scores_and_nothing_else_changes(store, scored):
    """Scoring fills in scores and the reference's embedding, and keeps everything else."""
    (identity,) = scored.identities
    assert identity.scores is not None
    assert all(view.scores is not None for view in identity.views)
    assert np.linalg.norm(identity.embedding) == pytest.approx(1, abs=1e-3)
    bare = tuple(replace(view, scores=None) for view in identity.views)
    identity = replace(identity, views=bare, scores=None, embedding=())
    assert replace(scored, identities=(identity,)) == store.read(scored.candidate).sample


def test_scores_tell_the_same_another_a_blurred_and_no_face_apart(scored):
    """Each fault moves its own score."""
    same, another, blurred, blank = (view.scores for view in scored.identities[0].views)
    assert same.identity_cosine > 0.99
    assert same.sharpness_ratio == pytest.approx(1, abs=0.05)
    assert abs(same.measured_yaw) < 10
    assert another.identity_cosine < 0.6
    assert blurred.sharpness_ratio < 0.6
    assert blurred.aesthetic < same.aesthetic - 20
    assert not blank.detected


def test_what_could_not_be_measured_is_none(scored):
    """Without a face there is nothing to measure but the picture; on a flat one not even that."""
    blank = scored.identities[0].views[3].scores
    assert (blank.sharpness, blank.identity_cosine, blank.measured_yaw) == (None, None, None)
    assert (blank.aesthetic, blank.face_size) == (None, None)


def test_a_reference_without_a_face_leaves_the_views_without_a_cosine(store):
    """Nothing can be compared with a reference that shows nobody."""
    sample = stage(store)(stored(store, "one", (BLANK, {0: portrait("P005")})))
    (identity,) = sample.identities
    assert not identity.scores.detected
    assert identity.embedding == ()
    scores = identity.views[0].scores
    assert scores.detected
    assert scores.identity_cosine is None
    assert scores.sharpness_ratio is None


def test_two_identities_are_measured_against_their_own_reference(store):
    """Each identity's views have its own reference to compare with."""
    first, second = portrait("P005"), portrait("P007")
    sample = stored(store, "two", (first, {0: first}), (second, {0: second}))
    for identity in stage(store)(sample).identities:
        assert identity.views[0].scores.identity_cosine > 0.99


def test_scoring_again_gives_equal_scores(store, scored):
    """A second run over the stored candidate measures the same numbers."""
    assert stage(store)(store.read(scored.candidate).sample) == scored


def test_mirrored_pictures_have_mirrored_yaw_and_roll(store):
    """The project's signs: yaw and roll change with the mirror, pitch does not."""
    own = portrait("P007", "amateur_selfie")
    mirrored = np.ascontiguousarray(own[:, ::-1])
    (identity,) = stage(store)(stored(store, "m", (own, {-30: own, 30: mirrored}))).identities
    here, there = (view.scores for view in identity.views)
    assert here.measured_yaw == pytest.approx(-there.measured_yaw, abs=1)
    assert here.measured_roll == pytest.approx(-there.measured_roll, abs=1)
    assert here.measured_pitch == pytest.approx(there.measured_pitch, abs=1)


class Straight(PoseEstimator):
    """Says of every face that it looks at the camera, 1 degree off."""

    name = "straight"

    def setup(self):
        pass

    def provenance(self):
        return {"name": self.name}

    def __call__(self, image, face):
        return Pose(1.0, 2.0, 3.0)


def test_a_pose_estimator_replaces_the_face_backends_pose(store):
    """Its numbers and its name are the ones that are stored."""
    judge = stage(store, Straight())
    (identity,) = judge(stored(store, "p", (portrait("P005"), {60: portrait("P005")}))).identities
    scores = identity.views[0].scores
    assert (scores.measured_yaw, scores.measured_pitch, scores.measured_roll) == (1, 2, 3)
    assert judge.labels()["pose_estimator"] == "straight"
    assert stage(store).labels() == {
        "aesthetic_scorer": "brisque",
        "recogniser": "sface",
        "pose_estimator": "light",
    }


def test_provenance_is_known_before_setup(store):
    """The run folder names the judges' files before any worker has loaded them."""
    judge = Score(store, face_analyzer("light"), Brisque(), resources=Resources(1))
    text = repr(judge.provenance())
    assert "brisque" in text
    assert str(model_path("brisque-svm").parent) not in text


def test_a_stopped_sample_is_not_scored(store):
    """What was rejected earlier passes through untouched."""
    sample = Sample("r", Source("r.mp4", ".mp4")).stop("rejected", "no_face", "nobody")
    assert apply(stage(store), sample).stopped == sample.stopped


def face(left, top, side):
    return Face((left, top, left + side, top + side), np.zeros((5, 2), np.float32), 0.9)


def test_the_subject_is_large_and_central():
    """The larger of two faces, unless it stands at the edge."""
    image = np.zeros((500, 500, 3), np.uint8)
    central, small, edge = face(170, 170, 160), face(230, 230, 40), face(-60, -60, 200)
    assert subject(image, [central, small]) is central
    assert subject(image, [edge, central]) is central
    assert subject(image, [edge]) is edge
    assert subject(image, []) is None


def test_numbers_are_stored_at_a_fixed_precision():
    """Rounding leaves no digits that differ between machines, and no negative zero."""
    found = rounded({"measured_yaw": -0.001, "identity_cosine": 0.123456, "aesthetic": np.nan})
    assert found == {"measured_yaw": 0.0, "identity_cosine": 0.1235, "aesthetic": None}
    assert str(found["measured_yaw"]) == "0.0"
