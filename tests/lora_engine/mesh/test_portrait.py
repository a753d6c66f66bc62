"""Laws of telling hair from skin, on invented people whose hair is known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datapipe.record import Pose
from lora_engine.mesh.geometry import Light
from lora_engine.mesh.hair import HairStyle
from lora_engine.mesh.render import HeadShot, Sensor, render
from lora_engine.mesh.studio import build, cut_square
from lora_engine.subjects.clip import camera_for
from lora_engine.subjects.people import HAIR, LONG, invent, random_hair_palette

pytestmark = pytest.mark.weights
SIZE = 384
TURNED = (-90, -60, 60, 90)
LIGHT = Light.from_direction(np.array([0.2, 0.4, 0.8]), key=0.3)
GREY = np.full((64, 64, 3), 100, np.float32)
BLOND = next(colour.rgb for colour in HAIR if colour.name == "blond")


@pytest.fixture(scope="module", params=(8, 10))
def somebody(gallery, request):
    """An invented person in grey."""
    who = invent(gallery, np.random.default_rng([7, request.param])).person
    return replace(who, look=replace(who.look, cloth=np.full(3, 90.0)))


def with_hair(who, colour):
    return replace(who, style=LONG, palette=random_hair_palette(colour, np.random.default_rng(0)))


def without_hair(who):
    return replace(who, style=HairStyle(length=0.0, density=0.0), scalp=0 * who.scalp)


def picture(who, gallery, yaw=0):
    """As a camera sees them, turned by `yaw`, in front of a grey wall."""
    head = build(who, gallery.studio, 0)
    shot = HeadShot(head, Pose(yaw, 0, 0), camera_for(head, 0, 1, np.random.default_rng(0)), LIGHT)
    return Sensor()(render([shot], (SIZE, SIZE), GREY), np.random.default_rng(0))


def lifted(engine, photo):
    return engine._studio.lift(*cut_square(photo, engine._face(photo)))


def lab(photo):
    return cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def share(photo, hair, skin):
    """Of pixels whose hue is the hair's rather than the skin's or grey."""
    hues = lab(photo)[..., 1:]
    far = [np.linalg.norm(hues - hue, axis=2) for hue in (hair, skin, np.zeros(2))]
    return (np.argmin(far, axis=0) == 0).mean()


def test_blond_hair_as_bright_as_the_skin_stays_in_every_view(engine, gallery, somebody):
    """Turned views have at least 60 % of the blond pixels that the person has when they turn."""
    skin = np.median(somebody.albedo[gallery.cheeks], axis=0)
    blond = with_hair(somebody, BLOND * skin.mean() / BLOND.mean())
    bare = without_hair(somebody)
    front, bald = picture(blond, gallery), picture(bare, gallery)
    where = np.abs(front.astype(int) - bald).sum(axis=2) > 60
    hair = np.median(lab(front)[where], axis=0)[1:]
    skin = np.median(lab(bald)[where & (lab(bald)[..., 1] > 6)], axis=0)[1:]
    views = engine(front, TURNED, range(len(TURNED)))
    for yaw, view in zip(TURNED, views, strict=True):
        true = share(picture(blond, gallery, yaw), hair, skin)
        assert true > 0.05
        assert share(view, hair, skin) > 0.6 * true
        assert share(picture(bare, gallery, yaw), hair, skin) < 0.2 * true


def test_hair_of_the_skins_own_colour_is_told_by_its_strands(engine, gallery, somebody):
    """Neither brighter nor of another hue, it still is no bare skin."""
    skin = np.median(somebody.albedo[gallery.cheeks], axis=0)
    found = lifted(engine, picture(with_hair(somebody, 1.1 * skin), gallery)).masks
    near = lab(np.rint(np.stack([found.skin_colour, found.hair_colour])[None]))[0]
    assert np.linalg.norm(near[0] - near[1]) < 14
    assert not found.bald


def test_bald_people_stay_bald(engine, gallery, somebody):
    """Without hair in the portrait there is none on the head."""
    found = lifted(engine, picture(without_hair(somebody), gallery))
    assert found.masks.bald
    assert found.style.density == 0
    assert found.skin.scalp.max() == 0
