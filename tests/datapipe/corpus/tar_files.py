"""Tars made of bytes and of headers that lie."""

import io
import tarfile

from datapipe.corpus import open_source


def tar_bytes(*members, form=tarfile.GNU_FORMAT):
    """A tar of (name, bytes) pairs and ready-made TarInfos."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def header(name, size, kind=tarfile.REGTYPE):
    """One raw header with any size, negative ones included, and a right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def read(sample):
    with open_source(sample.source) as (file, size):
        data = file.read()
    assert len(data) == size
    return data
