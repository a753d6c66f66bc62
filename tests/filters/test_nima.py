"""NIMA: reads pyiqa's on-disk format, averages votes, and says what is missing.

The network here is the real one around a small backbone with random weights, except where timm is
installed: there the real backbone is built, saved and read.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from datapipe.errors import UserError
from filters.aesthetic import load_aesthetic
from filters.nima import FILE, Nima, build_network, cached_weights, load_checkpoint, mean_votes

torch = pytest.importorskip("torch", reason="the extra `nima` is not installed")

IMAGES = [
    np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    for seed, shape in enumerate([(512, 512, 3), (299, 299, 3), (400, 320, 3)])
]


def tiny_backbone(seed=0):
    """A feature network with timm's interface: a list of feature maps, and their channels."""
    torch.manual_seed(seed)

    class Backbone(torch.nn.Module):
        feature_info = SimpleNamespace(channels=lambda: [8, 16])

        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 7, stride=7)
            self.second = torch.nn.Conv2d(8, 16, 3, stride=3)

        def forward(self, x):
            first = self.first(x).relu()
            return [first, self.second(first).relu()]

    return Backbone()


def saved(path, network, prefix=""):
    """A checkpoint as pyiqa publishes it: the weights under "params"."""
    torch.save({"params": {prefix + k: v for k, v in network.state_dict().items()}}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_saved_network_reads_back_equal(tmp_path, prefix):
    """Weights written in pyiqa's format give the same votes in a fresh network."""
    made = build_network(tiny_backbone(1)).eval()
    path = saved(tmp_path / FILE, made, prefix)
    read = load_checkpoint(build_network(tiny_backbone(2)), path).eval()
    assert mean_votes(read, IMAGES) == mean_votes(made, IMAGES)


def test_a_score_is_the_mean_of_ten_votes(tmp_path):
    """All votes on n make the score n, whatever the picture; even votes make 5.5."""
    network = build_network(tiny_backbone()).eval()
    last = network.classifier[2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    assert mean_votes(network, IMAGES) == pytest.approx([5.5] * 3)
    for vote in (1, 7, 10):
        last.bias.data = torch.nn.functional.one_hot(torch.tensor(vote - 1), 10) * 100.0
        assert mean_votes(network, IMAGES) == pytest.approx([vote] * 3)


def test_the_centre_square_is_scored():
    """What lies outside the centre square of a wide picture does not count."""
    network = build_network(tiny_backbone()).eval()
    wide = np.random.default_rng(0).integers(0, 255, (299, 499, 3), dtype=np.uint8)
    other = wide.copy()
    other[:, :95], other[:, -95:] = 0, 255
    assert mean_votes(network, [wide]) == mean_votes(network, [other])
    assert mean_votes(network, [wide]) == mean_votes(network, [wide[:, 100:399]])


def test_a_batch_scores_each_picture_as_alone():
    """Pictures of other sizes in a batch change nothing."""
    network = build_network(tiny_backbone()).eval()
    alone = [mean_votes(network, [image])[0] for image in IMAGES]
    assert mean_votes(network, IMAGES) == pytest.approx(alone, abs=1e-6)


def test_another_networks_file_is_refused(tmp_path):
    """Missing weights, other contents and broken files are a user's mistake, named by file."""
    network = build_network(tiny_backbone())
    torch.save({"params": {"classifier.2.weight": torch.zeros(10, 16)}}, tmp_path / "part.pth")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("part", "other", "list", "text", "empty"):
        with pytest.raises(UserError, match=rf"{name}\.pth is not pyiqa's checkpoint"):
            load_checkpoint(network, tmp_path / f"{name}.pth")


def test_a_missing_file_says_how_to_get_it(tmp_path):
    """A path that is not there is named, with what to do."""
    with pytest.raises(UserError, match=rf"gone\.pth is not a file\. .*{FILE}"):
        Nima(tmp_path / "gone.pth").provenance()


def test_the_checkpoint_is_named_by_hash(tmp_path):
    """Provenance does not depend on where the file lies."""
    network = build_network(tiny_backbone())
    one, two = saved(tmp_path / "a.pth", network), saved(tmp_path / "b.pth", network)
    other = saved(tmp_path / "c.pth", build_network(tiny_backbone(9)))
    found = [Nima(path).provenance()["files"][FILE] for path in (one, other)]
    assert found[0] != found[1]
    two.write_bytes(one.read_bytes())
    assert Nima(two).provenance()["files"][FILE] == found[0]


def test_auto_is_brisque_without_weights_and_never_asks_the_hub(tmp_path, monkeypatch):
    """On a machine that does not hold NIMA's weights, `auto` is BRISQUE; offline as well."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cached_weights() is None
    assert load_aesthetic("auto").name == "brisque"
    assert load_aesthetic("brisque").name == "brisque"
    assert load_aesthetic("auto", nima_weights=tmp_path / FILE).name == "nima"


def test_pyiqas_own_cache_counts(tmp_path, monkeypatch):
    """Weights that pyiqa has fetched earlier are found where it keeps them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "hub" / "pyiqa").mkdir(parents=True)
    (tmp_path / "hub" / "pyiqa" / FILE).write_bytes(b"x")
    assert cached_weights() == tmp_path / "hub" / "pyiqa" / FILE


@pytest.mark.slow
def test_the_real_network_reads_a_checkpoint_of_its_shape(tmp_path):
    """InceptionResNetV2 by timm, saved with random weights, loads and scores between 1 and 10."""
    pytest.importorskip("timm", reason="the extra `nima` is not installed")
    from filters.nima import create_backbone

    made = build_network(create_backbone()).eval()
    scorer = Nima(saved(tmp_path / FILE, made), device="cpu")
    scorer.setup()
    scores = scorer(IMAGES)
    assert scores == pytest.approx(mean_votes(made, IMAGES), abs=1e-6)
    assert all(1 <= score <= 10 for score in scores)
