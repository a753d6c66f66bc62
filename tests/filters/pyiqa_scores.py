"""Scores pictures with pyiqa in a process of its own, for test_pyiqa.py; prints one line of JSON.

pyiqa lies beside this environment's packages (see the Makefile). torchvision of the package index
is made for CUDA's torch: beside the one for CPUs its operators are missing, and it does not import
unless they are declared. No metric here calls them.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

from datapipe.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
FINE = cv2.resize(NOISE, (192, 192), interpolation=cv2.INTER_CUBIC)
IMAGES = [FINE, cv2.GaussianBlur(FINE, (0, 0), 3), np.ascontiguousarray(FINE[:, :160]), FINE // 8]


def main(folder):
    """Everything that test_pyiqa.py looks at."""
    if find_spec("pyiqa") is None:
        sys.path.append(str(Path(sys.prefix) / "iqa"))
    if not torch.cuda.is_available():
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from filters.pyiqa_metric import PyiqaMetric

    found = {}
    for metric in ("entropy", "piqe"):
        scorer = PyiqaMetric(metric)
        scorer.setup()
        found[metric] = {
            "name": scorer.name,
            "together": scorer(IMAGES),
            "alone": [scorer([image])[0] for image in IMAGES],
            "pyiqa": [own(metric, image) for image in IMAGES],
            "provenance": scorer.provenance(),
        }
    found["nima"] = nima(folder)
    found["refused"] = {name: refused(PyiqaMetric(name)) for name in ("topiq_ia", "lpips", "musiq")}
    sys.stdout.write(json.dumps(found))


def own(metric, image):
    """The score by pyiqa's own call."""
    import pyiqa

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return float(pyiqa.create_metric(metric, device="cpu")(pixels))


def nima(folder):
    """The real network with random weights, saved as pyiqa publishes them, and read."""
    from pyiqa.archs.nima_arch import NIMA

    from filters.pyiqa_metric import PyiqaMetric, _no_backbones

    torch.manual_seed(0)
    with _no_backbones():
        made = NIMA("inception_resnet_v2", pretrained=False).eval()
    state = made.state_dict()
    torch.save({"params": state}, folder / "one.pth")
    state["classifier.2.bias"] += 1e-3
    torch.save({"params": {f"module.{k}": v for k, v in state.items()}}, folder / "two.pth")
    torch.save({"params": {"classifier.2.bias": torch.zeros(10)}}, folder / "part.pth")
    torch.save({"state_dict": object}, folder / "code.pth")
    (folder / "text.pth").write_text("<html>not found</html>")
    scorer = PyiqaMetric("nima", folder / "one.pth")
    first = scorer.provenance()
    scorer.setup()
    other = PyiqaMetric("nima", folder / "two.pth")
    hashes = [first["weights"], other.provenance()["weights"]]
    other.weights = folder / "one.pth"  # as if another worker held other weights
    pixels = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in IMAGES]
    with torch.no_grad():
        state["classifier.2.bias"] -= 1e-3
        expected = [float(made(picture)) for picture in pixels]
    names = ("part", "code", "text", "gone")
    return {
        "name": scorer.name,
        "scores": scorer(IMAGES),
        "expected": expected,
        "hashes": hashes,
        "changed": refused(other),
        "refused": {n: refused(PyiqaMetric("nima", folder / f"{n}.pth")) for n in names},
    }


def refused(scorer):
    """What the scorer complains of."""
    try:
        scorer.setup()
    except UserError as wrong:
        return str(wrong)
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
