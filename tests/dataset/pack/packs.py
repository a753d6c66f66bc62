"""Packing in one line, and the bytes of what is packed."""

from datapipe.record import YAWS
from dataset.pack.pack import ShardLimits, pack
from tests.datapipe.runs import RULES, good

BAD = {yaw: good(yaw, detected=False) for yaw in YAWS}
"""A person without a face in any view."""


def packed(run, out=None, limits=None, **options):
    where = out or run.folder("shards")
    return pack(run, where, RULES, limits or ShardLimits(), lambda *_: None, **options)


def contents(folder):
    """Every file of a folder of shards."""
    return {name: folder.read(name) for name in folder.names("*")}
