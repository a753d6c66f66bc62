"""Samples per second: the training loader against the plain WebDataset loop on the same shards.

    python benchmarks/loader.py [--samples 200] [--megabytes 4]

Writes shards of random latents of that size per sample, then reads each once with both, in turn,
from a warm page cache, in one process. The plain loop reads the tars from end to end and decodes
safetensors; the loader also shuffles everything, checks each sample's checksum and makes batches,
and reads ahead in two threads. CPU time tells more than rates on a machine that others use.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
import webdataset as wds
from safetensors.torch import load, save

from datapipe.files import Folder
from datapipe.shards import Shard
from harmoview.data.encoded import EncodedShards
from harmoview.data.loader import batches
from harmoview.data.plan import plan_of
from harmoview.encode.manifest import EncodedManifest, write_index
from harmoview.encode.settings import EncodeSettings
from harmoview.encode.shard import NO_TEXT, FragmentWriter, text_file

PER_SHARD = 50
ROUNDS = 4


def write(root: Path, samples: int, megabytes: float) -> None:
    """Shards of random samples: the video is all of the size."""
    folder, shards = Folder(root), []
    width = max(1, int(megabytes * 1e6 / 2 / (16 * 21 * 60)))
    video = torch.randn(16, 21, 60, width).bfloat16()
    tensors = {"video": video, "references": torch.zeros(7, 16, 8, 8).bfloat16(),
               "present": torch.ones(1, 7, dtype=torch.bool)}  # fmt: skip
    data = save(tensors)
    for first in range(0, samples, PER_SHARD):
        rows, name = [], f"{first // PER_SHARD:06d}.tar"
        with folder.create(name) as file:
            writer = FragmentWriter(file)
            for number in range(first, min(samples, first + PER_SHARD)):
                key = f"sample-{number:06d}"
                offset, size, crc32 = writer.add({f"{key}.safetensors": data, f"{key}.json": b"{}"})
                rows.append({"key": key, "shard": name, "offset": offset, "size": size,
                             "crc32": crc32, "caption": NO_TEXT, "frames": 81, "height": 480,
                             "width": width * 8, "identities": 1, "views": 7})  # fmt: skip
            shard = Shard(name, *writer.finish(), len(rows))
        write_index(folder, shard, rows, {})
        shards.append(shard)
    folder.put(text_file(NO_TEXT), save({"text": torch.zeros(20, 4096).bfloat16()}))
    EncodedManifest({}, EncodeSettings("wan", "none"), tuple(shards), {}).write(folder)


def plain(data: EncodedShards) -> int:
    """The loop of the WebDataset manual."""
    urls = [str(data.folder.path(shard.name)) for shard in data.manifest.shards]
    return sum(1 for s in wds.WebDataset(urls, shardshuffle=False) if load(s["safetensors"]))


def ours(data: EncodedShards, size: int) -> int:
    """One epoch of the loader."""
    plan = plan_of(data, range(len(data.keys)), size, seed=0)
    return sum(
        len(b) for b in islice(batches(data, plan, features=False), -(-len(data.keys) // size))
    )


def main() -> None:
    """Write, measure all in turn, several times, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=4.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.samples, options.megabytes)
        data = EncodedShards(folder)
        cases = {
            "plain WebDataset": lambda: plain(data),
            "loader, batch 1": lambda: ours(data, 1),
            "loader, batch 4": lambda: ours(data, 4),
        }
        times = [{name: _timed(run) for name, run in cases.items()} for _ in range(ROUNDS)]
        for name in cases:
            wall, cpu = (min(each[name][kind] for each in times) for kind in (0, 1))
            rate = options.samples / wall
            print(
                f"{name:<18} {rate:6.0f} samples/s {rate * options.megabytes:6.0f} MB/s"
                f" {cpu / options.samples * 1e3:6.2f} ms of CPU a sample"
            )


def _timed(run: Callable[[], int]) -> tuple[float, float]:
    """Seconds of wall time and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
