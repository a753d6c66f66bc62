import torch
from safetensors import safe_open

from lora_engine.flux.adapter import tensor_bytes


def test_equal_content_gives_equal_bytes():
    """Neither the order of tensors nor that of the metadata shows, ten keys or one."""
    tensors = {f"t{i}": torch.full((3, i), float(i)) for i in range(4)}
    header = {f"key{i}": "x" * i for i in range(10)}
    data = tensor_bytes(tensors, header)
    for _ in range(5):
        mixed = dict(reversed(tensors.items())), dict(reversed(header.items()))
        assert tensor_bytes(*mixed) == data


def test_the_library_reads_it_back(tmp_path):
    """Tensors and metadata survive, views and other strides too."""
    tensor = torch.arange(12.0).view(3, 4).T
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensor_bytes({"a": tensor, "b": tensor[:2]}, {"k": "ü"}))
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("a"), tensor)
        assert torch.equal(file.get_tensor("b"), tensor[:2])
        assert file.metadata() == {"format": "pt", "k": "ü"}
