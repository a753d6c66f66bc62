"""Which views the rules would have made again."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.faces.light import LightFaces
from datapipe.models import model_path
from datapipe.pictures import decode_jpeg
from filters.aesthetic import Brisque
from filters.rules_file import load_rules
from filters.score import RulesJudge
from tests.datapipe.runs import REFERENCE

pytestmark = pytest.mark.weights
CALM = replace(REFERENCE, expression=0.0)
RULES = load_rules(None, yaws=(0, 30), recogniser="sface", aesthetic_scorer="brisque")


def portrait(who):
    path = model_path("portraits") / who / "assets" / "studio_portrait.jpg"
    image = decode_jpeg(path.read_bytes())
    return cv2.resize(image, (512, 512), interpolation=cv2.INTER_AREA)


def judge(rules=RULES):
    made = RulesJudge(rules, LightFaces(), Brisque())
    made.setup()
    return made


def test_a_view_has_the_more_merit_the_better_it_is():
    """The right person facing ahead passes; another person, a blurred one and nobody do not, in
    this order."""
    own, other, blank = portrait("P002"), portrait("P005"), np.full((512, 512, 3), 90, np.uint8)
    blurred = cv2.GaussianBlur(own, (0, 0), 6)
    by = judge()
    verdicts = [by(CALM, own)({0: view})[0] for view in (own, blurred, other, blank)]
    assert verdicts[0] >= 1 > verdicts[1] > verdicts[2] > verdicts[3]
    assert by(CALM, own)({30: own})[30] < 1  # who was asked to turn has not


def test_where_the_reference_fails_nothing_is_made_again():
    """Its views would not be kept anyhow, unless the rules say so."""
    own = portrait("P002")
    blank = np.full((512, 512, 3), 90, np.uint8)
    assert judge()(CALM, blank)({0: own})[0] >= 1
    assert judge()(replace(CALM, expression=None), own)({0: blank})[0] >= 1
    lenient = replace(RULES, reference_must_pass=False)
    assert judge(lenient)(CALM, blank)({0: own})[0] < 1


def test_a_reference_is_measured_once_for_all_attempts():
    """However often its views are made again, only they are looked at again."""
    own = portrait("P002")
    by, looked = judge(), []
    found = by.faces.find
    by.faces.find = lambda images: looked.append(len(images)) or found(images)
    merits = by(CALM, own)
    assert merits({0: own}) == merits({0: own})
    assert looked == [1, 1, 1]
