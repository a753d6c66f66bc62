"""What is no corpus is refused with the reason and what to do."""

import os
import subprocess
import sys

import fsspec
import pytest

from datapipe.corpus import corpus
from datapipe.errors import UserError


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("missing", "no such file or folder"),
        ("x" * 5000, "File name too long"),
        ("missing.parquet", "no such file or folder"),
        ("{0..3}.mp4", "stands for .tar files"),
        ("{0..3.tar", "a brace is not closed"),
        ("clip.mp4", "a single video"),
        ("notes.txt", "not a corpus"),
        ("list.csv.gz", "Decompress it"),
        ("nonsense://x", "Use a local path, s3:// or gs://"),
        ("s3://no-such-bucket-at-all/x", "no such file or folder"),
    ],
)
def test_what_is_no_corpus_is_the_users_mistake(tmp_path, monkeypatch, s3_bucket, url, message):
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "notes.txt", "list.csv.gz"):
        (tmp_path / name).write_bytes(b"content")
    with pytest.raises(UserError) as wrong:
        corpus(url)
    assert message in str(wrong.value)
    assert str(wrong.value).startswith(url)


def test_a_path_with_braces_that_exists_is_a_path(tmp_path):
    (tmp_path / "{a,b}").mkdir()
    (tmp_path / "{a,b}/x.mp4").touch()
    assert [s.key for s in corpus(f"{tmp_path}/{{a,b}}")] == ["x"]


def test_each_iteration_gives_the_same_samples(tmp_path):
    for n in range(300):
        (tmp_path / f"{n:03}.mp4").touch()
    found = corpus(str(tmp_path))
    assert list(found) == list(found.samples())
    assert len(list(found)) == 300


def test_any_fsspec_file_system_will_do():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/corpus/a/b.mp4", b"video")
    fs.pipe_file("/corpus/a/b.txt", b"caption")
    (sample,) = corpus("memory://corpus")
    assert (sample.key, sample.caption) == ("a__b", "caption")


def test_stopping_early_leaves_no_thread_behind(s3_bucket):
    fs = fsspec.filesystem("s3")
    for n in range(40):
        fs.pipe_file(f"{s3_bucket}/early/{n}/a.mp4", b"video")
    code = (
        "import threading; from datapipe.corpus import corpus\n"
        f"samples = iter(corpus('{s3_bucket}/early')); next(samples); samples.close()\n"
        "assert not [t for t in threading.enumerate() if t.name.startswith('corpus')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_store_without_its_package_names_what_to_install():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from datapipe.corpus import corpus\n"
        "from datapipe.errors import UserError\n"
        "try: corpus('s3://bucket')\n"
        "except UserError as wrong: print(wrong)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install -e '.[s3]'" in done.stdout


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", ""])
def test_a_store_that_cannot_be_reached_is_told_in_one_sentence(endpoint):
    """Nothing listens on the endpoint; or it is Amazon's, and there are no credentials."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": endpoint}
    code = (
        "from datapipe import files; files._FIRST_LOOK = 1.0\n"
        "from datapipe.corpus import corpus\n"
        "from datapipe.errors import UserError\n"
        "try: corpus('s3://bucket')\n"
        "except UserError as wrong: print(wrong)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        **(keys if endpoint else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert "Check credentials, endpoint and network" in done.stdout


def test_importing_the_corpus_loads_nothing_heavy():
    code = (
        "import sys, datapipe.corpus\n"
        "print({'torch', 'ray', 'pyarrow', 's3fs', 'cv2', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
