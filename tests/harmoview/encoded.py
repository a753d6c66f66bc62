"""Folders of encoded shards with random tensors, written by the real writers."""

from __future__ import annotations

import torch
from safetensors.torch import save

from datapipe.files import Folder
from datapipe.shards import Shard
from harmoview.encode.manifest import EncodedManifest, write_index
from harmoview.encode.settings import EncodeSettings
from harmoview.encode.shard import NO_TEXT, FragmentWriter, text_file

TEXT = 4
SETTINGS = EncodeSettings(
    base="wan", vit="vit", reference_size=32, vit_layer=0, vit_size=56, text_length=TEXT,
    stored="float32",
)  # fmt: skip


def write_encoded(
    root,
    counts,
    people=lambda n: 1,
    frames=lambda n: 9,
    settings=SETTINGS,
    tower=None,
    views=range(7),
):
    """Shards with `counts` samples; sample n of all has people(n) identities, frames(n) frames.

    Each identity has the views in the slots `views`.
    """
    folder, shards, number = Folder(root), [], 0
    for index, count in enumerate(counts):
        rows = []
        name = f"{index:06d}.tar"
        with folder.create(name) as file:
            writer = FragmentWriter(file)
            for _ in range(count):
                rows.append(
                    _write(writer, name, number, people(number), frames(number), list(views))
                )
                number += 1
            shard = Shard(name, *writer.finish(), count)
        write_index(folder, shard, rows, {})
        shards.append(shard)
    draw = torch.Generator().manual_seed(1)
    folder.put(text_file(NO_TEXT), save({"text": torch.randn(2, 32, generator=draw)}))
    EncodedManifest({}, settings, tuple(shards), {}, tower).write(folder)
    return folder


def _write(writer, shard, number, people, frames, views):
    draw = torch.Generator().manual_seed(number)
    key = f"sample-{number:04d}"
    present = torch.zeros(people, 7, dtype=torch.bool)
    present[:, views] = True
    tensors = {
        "video": torch.randn(16, (frames - 1) // 4 + 1, 4, 4, generator=draw),
        "references": torch.randn(int(present.sum()), 16, 4, 4, generator=draw),
        "present": present,
        "features": torch.randn(people, 4, 128, generator=draw),
    }
    offset, size, crc32 = writer.add({f"{key}.safetensors": save(tensors),
                                       f"{key}.json": b'{"caption_text": "a person"}'})  # fmt: skip
    return {
        "key": key, "shard": shard, "offset": offset, "size": size, "crc32": crc32,
        "caption": NO_TEXT, "frames": frames, "height": 32, "width": 32, "identities": people,
        "views": len(views) if number % 4 else 1, "sharpness": float(number),
        "aesthetic": None if number % 5 == 0 else 50.0 + number, "identity_cosine": 0.5,
    }  # fmt: skip
