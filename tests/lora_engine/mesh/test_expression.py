"""Laws of a reference's expression, on a head whose mouth, eyes and brows move by morphs."""

from dataclasses import replace

import numpy as np
import pytest

from datapipe.faces.landmarks import expressions
from datapipe.faces.light import LightFaces
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import Pose, Sample, Source
from datapipe.stage import Resources
from lora_engine.mesh.head import HeadLook
from lora_engine.mesh.render import HeadShot, Sensor, render
from lora_engine.mesh.studio import HeadParts, background, build, frame
from tests.datapipe.media import write_video

pytestmark = pytest.mark.weights
UNITS = "../../mpfb2-expressions/targets/expression/units/caucasian/"
MORPHS = {
    "open mouth": ("mouth-open",),
    "smile": ("mouth-corner-puller",),
    "pursed lips": ("mouth-pursing",),
    "closed eyes": ("eye-left-closure", "eye-right-closure"),
    "raised brows": ("eyebrows-left-up", "eyebrows-right-up") * 2,
}
REST = ("smile", 0.0)
SIDE = 448


@pytest.fixture(scope="module")
def faces():
    light = LightFaces()
    light.setup()
    return light


@pytest.fixture(scope="module")
def picture(base, portrait, faces):
    """Draws the portrait's person with a morph of some strength, at a yaw."""
    lifted = base.lift(portrait, faces.find([portrait])[0][0])
    skin = lifted.skin
    who = HeadParts(
        *(lifted.fit.shape, skin.albedo, skin.scalp, skin.seen, lifted.style, lifted.palette),
        HeadLook(lifted.iris, lifted.cloth),
    )
    heads, behind = {}, background(lifted)

    def draw(morph, strength, yaw=0.0, seed=0):
        if (morph, strength) not in heads:
            moved = sum(base.anatomy.target(UNITS + unit) for unit in MORPHS[morph])
            heads[morph, strength] = build(
                replace(who, shape=who.shape + strength * moved), base, seed=0
            )
        head = heads[morph, strength]
        shot = HeadShot(head, Pose(yaw, 0, 0), frame(lifted, heads[REST]), skin.light)
        clean = render([shot], (SIDE, SIDE), behind)
        return Sensor()(clean, np.random.default_rng(seed))

    draw(*REST)
    return draw


@pytest.mark.parametrize("morph", MORPHS)
def test_the_order_of_scores_is_that_of_the_morphs_strength(picture, faces, morph):
    """Among pictures of one person; and the strongest has far more than the one at rest."""
    drawn = [picture(morph, strength) for strength in (0.0, 0.5, 1.0)]
    found = expressions([faces.features(one, faces.find([one])[0][0]) for one in drawn])
    assert found == sorted(found)
    assert found[0] < 0.2
    assert found[-1] > 0.3


def test_the_calm_moment_of_a_clip_becomes_the_reference(picture, faces, tmp_path):
    """Also where every other frame is straighter: a fifth of the clip, at a yaw of 6 degrees."""
    looks = [(morph, strength) for morph in list(MORPHS)[:4] for strength in (0.7, 1.0)]
    acted = [picture(*look) for look in looks]
    calm = [picture(*REST, yaw=6.0, seed=seed) for seed in range(2)]
    frames = [acted[index // 4 % len(acted)] for index in range(60)]
    frames[36:48] = [calm[index // 6] for index in range(12)]
    path = write_video(tmp_path / "a.mp4", frames)
    prepare = Prepare(PrepareSettings(), faces, resources=Resources(num_cpus=1))
    prepare.setup()
    try:
        (identity,) = prepare(Sample("a", Source(str(path), ".mp4"))).identities
    finally:
        prepare.close()
    assert 36 <= identity.reference.frame < 48
    assert identity.reference.expression < 0.2
