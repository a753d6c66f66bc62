"""Laws of reading clothes off a portrait, on invented people whose clothes are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.prepare.frontal import cut, portrait_square
from datapipe.record import Pose
from lora_engine.mesh.render import HeadShot, Sensor, render
from lora_engine.mesh.studio import build, cut_square
from lora_engine.subjects.clip import camera_for, scene
from lora_engine.subjects.people import CLOTH, invent

pytestmark = pytest.mark.weights
SIZE = 384


def reference(who, gallery, index):
    """Their portrait as the main job cuts it from a clip, and the median colour behind them."""
    rng = np.random.default_rng([3, index])
    place = scene(1.0, rng)
    head = build(who, gallery.studio, index)
    shot = HeadShot(head, Pose(0, 0, 0), camera_for(head, 0, 1, rng), place.light)
    frame = Sensor()(render([shot], (SIZE, SIZE), place.background), rng)
    square = portrait_square(gallery._faces.find([frame])[0][0].box, SIZE, SIZE)
    return cut(frame, square, SIZE), np.median(place.background.reshape(-1, 3), axis=0)


def far(one, other):
    """Between two RGB colours in Lab."""
    pair = np.stack([one, other])[None].astype(np.float32) / 255
    return np.linalg.norm(np.subtract(*cv2.cvtColor(pair, cv2.COLOR_RGB2LAB)[0]))


def invented(gallery, index, **look):
    who = invent(gallery, np.random.default_rng([3, index])).person
    return replace(who, look=replace(who.look, **look))


def mistakes(engine, gallery, index, who):
    """How far the colour found is from the true one, the skin's and the one behind them, in Lab."""
    photo, behind = reference(who, gallery, index)
    read = engine._studio.lift(*cut_square(photo, engine._face(photo)))
    return [far(read.cloth, other) for other in (who.look.cloth, read.masks.skin_colour, behind)]


@pytest.mark.slow
def test_a_shirt_of_any_colour_keeps_it_in_the_main_jobs_crop(engine, gallery):
    """What is found is the shirt's colour, no skin and no wall."""
    for index, colour in list(enumerate(CLOTH))[::3]:
        who = invented(gallery, index, cloth=colour.rgb)
        true, *others = mistakes(engine, gallery, index, who)
        assert true < min(8, *others), colour.name


@pytest.mark.parametrize("index", [1, 3, 7])
def test_a_shirt_of_the_skins_own_colour_is_a_shirt(engine, gallery, index):
    """Below the neck people wear something, even where it looks like skin."""
    skin = np.median(invented(gallery, index).albedo[gallery.cheeks], axis=0)
    assert mistakes(engine, gallery, index, invented(gallery, index, cloth=skin, vee=0.0))[0] < 8


@pytest.mark.parametrize("index", [1, 4, 11])
def test_bare_skin_in_a_low_neckline_does_not_colour_the_shirt(engine, gallery, index):
    """Of a chest that is part skin and part cloth, the cloth is taken."""
    who = invented(gallery, index, neckline=-0.2, vee=0.6)
    true, skin, _ = mistakes(engine, gallery, index, who)
    assert true < 8 < skin
