"""A bucket is listed as the same folder would be."""

import fsspec
import pytest

from datapipe.corpus import corpus, open_source
from tests.datapipe.corpus.folders import passed_over, write


@pytest.fixture
def stored(s3_bucket):
    """A folder in a bucket, with the file system to fill it."""
    fs = fsspec.filesystem("s3")
    yield f"{s3_bucket}/folder", fs
    fs.rm(f"{s3_bucket}/folder", recursive=True)


def test_a_bucket_gives_the_keys_that_the_same_folder_gives_locally(tmp_path, stored):
    url, fs = stored
    write(tmp_path, "a.mp4", "b/C d.MOV", "b/c.webm", ".hidden/x.mp4", "b/notes.md")
    write(tmp_path, "a.txt", data="in a word: é".encode())
    write(tmp_path, "b/c.json", data=b'{"caption": "json"}')
    write(tmp_path, "b/C d.txt", data=b"")
    write(tmp_path, "b/c d.JSON", data=b'{"text": ["x", "y"]}')
    write(tmp_path, "metadata.csv", data=b"file_name,text\na.mp4,no\nb/e.mp4,from the table\n")
    write(tmp_path, "b/e.mp4", "b/f.mp4")
    write(tmp_path, "b/f.txt", data=b"caf\xe9")
    fs.put(f"{tmp_path}/", url, recursive=True)
    fs.touch(f"{url}/b/")  # how a web console marks a folder
    local, remote = (
        [(s.key, s.caption, s.captions, s.caption_problem, s.source.suffix) for s in corpus(where)]
        for where in (str(tmp_path), url)
    )
    assert local == remote
    assert sum(bool(caption) for _, caption, *_ in local) == 4
    assert passed_over(tmp_path) == passed_over(url) == {"hidden": 1, ".md": 1}
    assert all(s.source.path.startswith(f"{url}/") for s in corpus(url))


def test_captions_in_a_bucket_are_asked_for_only_where_the_listing_has_them(stored, monkeypatch):
    url, fs = stored
    fs.pipe({f"{url}/{n:03}.mp4": b"video" for n in range(300)})
    fs.pipe_file(f"{url}/007.txt", b"seven")
    asked = []
    original = type(fs)._cat_file

    async def counted(self, path, *args, **kwargs):
        asked.append(path)
        return await original(self, path, *args, **kwargs)

    monkeypatch.setattr(type(fs), "_cat_file", counted)
    samples = list(corpus(url))
    assert len(samples) == 300
    assert samples[7].caption == "seven"
    assert asked == [f"{url.removeprefix('s3://')}/007.txt"]


def test_new_objects_are_seen_by_the_next_listing(stored):
    url, fs = stored
    fs.pipe_file(f"{url}/a.mp4", b"video")
    found = corpus(url)
    assert [s.key for s in found] == ["a"]
    fs.pipe_file(f"{url}/b.mp4", b"video")
    assert [s.key for s in found] == ["a", "b"]


def test_an_empty_name_on_the_way_to_an_object_is_a_folder_like_any_other(stored):
    url, fs = stored
    keys = ["a.mp4", "c/x.mp4", "c//x.mp4", "c//d/y.mp4", "c///z.mp4", "c//d//w.mp4", "c//.h/v.mp4"]
    fs.pipe({f"{url}/{key}": key.encode() for key in keys})
    fs.pipe_file(f"{url}/c//x.txt", b"of the empty folder")
    fs.pipe_file(f"{url}/c/x.txt", b"of the folder")
    found = list(corpus(url))
    assert sorted(s.source.path.removeprefix(f"{url}/") for s in found) == sorted(keys[:-1])
    assert len({s.key for s in found}) == len(found)
    assert {s.caption for s in found} == {"", "of the folder", "of the empty folder"}
    for sample in found:
        with open_source(sample.source) as (file, _):
            assert file.read() == sample.source.path.removeprefix(f"{url}/").encode()
    below = [s.source.path.removeprefix(f"{url}/") for s in corpus(f"{url}/c//d")]
    assert sorted(below) == ["c//d//w.mp4", "c//d/y.mp4"]
    assert passed_over(url) == {"hidden": 1}


def test_an_empty_name_may_come_first(s3_bucket):
    fs = fsspec.filesystem("s3")
    bucket = "s3://harmoview-slashes"
    fs.mkdir(bucket)
    fs.pipe({f"{bucket}//a.mp4": b"1", f"{bucket}//b/c.mp4": b"2", f"{bucket}/b/d.mp4": b"3"})
    found = [s.source.path.removeprefix(f"{bucket}/") for s in corpus(bucket)]
    assert sorted(found) == ["/a.mp4", "/b/c.mp4", "b/d.mp4"]
    assert len({s.key for s in corpus(bucket)}) == 3
