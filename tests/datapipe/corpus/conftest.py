"""What tests of tars share."""

import pytest

from datapipe.corpus import corpus


@pytest.fixture
def listed_tar(tmp_path):
    """Lists a tar given as bytes."""

    def list_it(data, name="t.tar"):
        (tmp_path / name).write_bytes(data)
        return list(corpus(str(tmp_path / name)))

    return list_it
