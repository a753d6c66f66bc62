"""What is left to do is listed without a request for what is done."""

import fsspec
import pytest

from datapipe.files import Folder
from datapipe.line.drive import Remaining
from datapipe.record import Sample, Source
from datapipe.run.tables import Ledger
from tests.datapipe.fast_line import LABELS

COUNT = 12


@pytest.fixture
def captioned(s3_bucket, tmp_path, monkeypatch):
    """A corpus of captioned videos in a bucket, and the captions that were asked for."""
    url, fs = f"{s3_bucket}/{tmp_path.name}", fsspec.filesystem("s3")
    fs.pipe({f"{url}/{n:02}.mp4": b"video" for n in range(COUNT)})
    fs.pipe({f"{url}/{n:02}.txt": f"caption {n:02}".encode() for n in range(COUNT)})
    asked, original = [], type(fs)._cat_file

    async def counted(self, path, *args, **kwargs):
        asked.append(path.rpartition("/")[2])
        return await original(self, path, *args, **kwargs)

    monkeypatch.setattr(type(fs), "_cat_file", counted)
    return url, asked


def record(ledger, *numbers):
    done = (Sample(f"{n:02}", Source(f"{n:02}.mp4", ".mp4")) for n in numbers)
    ledger.append([sample.stop("rejected", "no_face", "") for sample in done], LABELS, 0)


def test_captions_are_read_of_samples_that_will_be_worked_on_and_of_no_other(captioned, tmp_path):
    """A run that is continued does not ask a store for the captions of what it has."""
    url, asked = captioned
    ledger = Ledger(Folder(tmp_path))
    record(ledger, 0, 1, 2, 5)
    todo = Remaining(url, str(tmp_path), ledger.segments, limit=10)
    assert list(todo.left()) == ["03", "04", "06", "07", "08", "09"]
    assert asked == []
    listed = [(sample.key, sample.caption) for sample in todo()]
    assert listed == [(key, f"caption {key}") for key in todo.left()]
    done = {"00.txt", "01.txt", "02.txt", "05.txt"}
    assert len(asked) == len(set(asked)) == COUNT - len(done)
    assert done.isdisjoint(asked)
    asked.clear()
    record(ledger, 3, 4, 6, 8, 10, 11)
    missing = [(sample.key, sample.caption) for sample in todo.missing()]
    assert missing == [("07", "caption 07"), ("09", "caption 09")]
    assert sorted(asked) == ["07.txt", "09.txt"]
