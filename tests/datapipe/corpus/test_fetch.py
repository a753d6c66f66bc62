"""A video's bytes arrive exactly, or the reason why not."""

import io
import os
import tarfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import stores
from datapipe.corpus import corpus, local_copy, open_source
from datapipe.errors import BadSample, UserError
from datapipe.record import Source

DATA = bytes(range(256)) * 100


def reason(source, max_bytes=10**9):
    with pytest.raises(BadSample) as bad, local_copy(source, max_bytes) as copy:
        copy.read_bytes()
    return bad.value.reason


@pytest.fixture
def video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(DATA)
    return Source(str(tmp_path / "a.mp4"), ".mp4")


@pytest.fixture
def member(tmp_path, video):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(video.path, "../b/x.mov")
        tar.add(video.path, "z.mp4")
    return next(iter(corpus(str(tmp_path / "t.tar")))).source


def test_a_local_video_is_used_where_it_is(video):
    with local_copy(video, 10**6) as copy:
        assert copy == Path(video.path)
    assert Path(video.path).exists()


def test_a_member_is_copied_and_the_copy_removed(member):
    with local_copy(member, 10**6) as copy:
        assert copy.read_bytes() == DATA
        assert copy.suffix == ".mov"
        assert copy.parent != Path(member.path).parent
    assert not copy.exists()


def test_the_copy_is_removed_when_its_user_fails(member):
    with pytest.raises(RuntimeError), local_copy(member, 10**6) as copy:
        raise RuntimeError
    assert not copy.exists()


@given(st.lists(st.integers(1, 9000), max_size=20))
def test_a_stream_gives_the_same_bytes_however_it_is_read(tmp_path_factory, sizes):
    path = tmp_path_factory.getbasetemp() / "stream.bin"
    path.write_bytes(b"before" + DATA + b"after")
    source = Source(str(path), ".mp4", "m.mp4", 6, len(DATA))
    with open_source(source) as (file, size):
        read = b"".join(file.read(n) for n in sizes)
        assert read + file.read() == DATA
        assert file.read() == b""
    assert size == len(DATA)


def test_a_video_over_the_limit_is_too_large(video, member):
    for source in (video, member):
        assert reason(source, len(DATA) - 1) == "too_large"
        with local_copy(source, len(DATA)) as copy:
            assert copy.read_bytes() == DATA


@pytest.mark.parametrize(
    "path",
    ["missing.mp4", "a.mp4/below.mp4", "x" * 300, "x/" * 3000, "nul\0.mp4", "half\ud800.mp4", "."],
)
def test_a_path_that_leads_to_no_file_is_unreadable(tmp_path, video, path):
    assert reason(Source(f"{tmp_path}/{path}", ".mp4")) == "unreadable"


def test_what_is_no_regular_file_is_unreadable_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("pipe.mp4", "loop.mp4"):
        assert reason(Source(str(tmp_path / name), ".mp4")) == "unreadable"
    assert reason(Source("/dev/zero", ".mp4")) == "unreadable"


def test_an_empty_file_is_unreadable(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert reason(Source(str(tmp_path / "a.mp4"), ".mp4")) == "unreadable"


def test_a_tar_that_became_shorter_is_unreadable(member):
    os.truncate(member.path, member.offset + 10)
    assert reason(member) == "unreadable"


def test_a_scheme_that_does_not_exist_is_unreadable():
    assert reason(Source("nonsense://a/b.mp4", ".mp4")) == "unreadable"


def test_an_error_of_the_user_of_a_copy_stays_what_it_is(video, member):
    """A missing file of someone else is not a missing video."""
    for source in (video, member):
        with pytest.raises(FileNotFoundError), local_copy(source, 10**6):
            Path("/does/not/exist").read_bytes()


@pytest.fixture
def objects(s3_bucket):
    """A video and a tar in a bucket."""
    fs = fsspec.filesystem("s3")
    big = DATA * 700  # more than two requests
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("a.mp4", "b.mp4"):
            info = tarfile.TarInfo(name)
            info.size = len(big)
            tar.addfile(info, io.BytesIO(big))
    fs.pipe_file(f"{s3_bucket}/fetch/t.tar", file.getvalue())
    fs.pipe_file(f"{s3_bucket}/fetch/v.mp4", big)
    yield f"{s3_bucket}/fetch", big
    fs.rm(f"{s3_bucket}/fetch", recursive=True)


def test_objects_and_members_in_a_bucket_arrive_exactly(objects):
    url, big = objects
    sources = [s.source for s in corpus(url)]
    assert len(sources) == 3
    for source in [*sources, Source(f"{url}/v.mp4", ".mp4")]:
        with local_copy(source, len(big)) as copy:
            assert copy.read_bytes() == big
        assert not copy.exists()
        assert reason(source, len(big) - 1) == "too_large"


def test_an_object_that_is_not_there_is_unreadable(objects):
    url, _ = objects
    assert reason(Source(f"{url}/gone.mp4", ".mp4")) == "unreadable"
    assert reason(Source(f"{url}/gone.mp4", ".mp4", size=5)) == "unreadable"
    assert reason(Source(url, ".mp4")) == "unreadable"


def test_a_store_that_does_not_answer_is_no_fault_of_the_video(objects, monkeypatch):
    """Else an outage would reject, for good, every video that it meets."""
    s3 = pytest.importorskip("s3fs")
    url, _ = objects
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(stores, "PATIENCE", 0.0)
    s3.S3FileSystem.clear_instance_cache()
    try:
        for size in (None, 5):
            with (
                pytest.raises(UserError, match="Could not connect"),
                local_copy(Source(f"{url}/v.mp4", ".mp4", size=size), 10**9),
            ):
                pass
    finally:
        s3.S3FileSystem.clear_instance_cache()
