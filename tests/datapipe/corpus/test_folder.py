"""A folder gives each video below it once, in a fixed order, whatever else lies there."""

import os
import tarfile

import pytest

from datapipe.corpus import corpus
from datapipe.corpus.captions import MAX_TEXT
from datapipe.corpus.names import VIDEOS, PassedOver
from datapipe.errors import UserError
from tests.datapipe.corpus.folders import passed_over, write


def only(root):
    (sample,) = corpus(str(root))
    return sample


def paths(root):
    return [os.path.relpath(sample.source.path, root) for sample in corpus(str(root))]


def test_all_kinds_are_found_in_any_case_and_depth(tmp_path):
    names = ["a.mp4", "b.MOV", "c/d.Mkv", "c/e/f.webm", "g.avi"]
    more = ["h.m4v", "i.ts", "j.MTS", "k.mpg", "l.mpeg", "m.wmv", "n.flv", "o.3gp", "p.ogv"]
    more += ["q.m2ts", "r.vob", "s.asf", "t.f4v", "u.3g2"]
    write(tmp_path, *names, *more, "notes.pdf", "mp4", "x.mp4.part", "c/picture.jpg")
    assert sorted(paths(tmp_path)) == sorted([*names, *more])
    assert {s.source.suffix for s in corpus(str(tmp_path))} == set(VIDEOS)


def test_what_is_passed_over_is_counted_by_suffix(tmp_path):
    write(tmp_path, "a.mp4", "a.txt", "b/c.MOV", "b/C.json", "d.tar.gz", "e.tgz", "README", "f.gif")
    write(tmp_path, "b/g.GIF", "other.txt", "b/frame.000123", "x.mp4.part", "bad\x1b.\x1b[31m")
    write(tmp_path, ".hidden.mp4", ".cache/x.mp4", "metadata.csv", data=b"file_name,text\n")
    write(tmp_path, "b/metadata.csv", data=b"name,text\n")
    assert passed_over(tmp_path) == {
        ".tar.gz": 1, ".tgz": 1, "no suffix": 1, ".gif": 2, ".txt": 1, "other": 2, ".part": 1,
        "hidden": 2, "unusable metadata.csv": 1,
    }  # fmt: skip


def test_more_suffixes_than_anyone_has_are_counted_together(tmp_path):
    write(tmp_path, "a.mp4", *(f"x.s{n}" for n in range(1200)))
    found = passed_over(tmp_path)
    assert sum(found.values()) == 1200
    assert len(found) < 1100
    assert len(str(PassedOver(found))) < 300


def test_the_order_is_the_same_whatever_the_order_of_creation(tmp_path):
    names = [f"{folder}/{clip}.mp4" for folder in "abc" for clip in "xyz"]
    write(tmp_path / "one", *names)
    write(tmp_path / "two", *reversed(names))
    assert paths(tmp_path / "one") == paths(tmp_path / "two") == sorted(names)


def test_adding_files_changes_no_key(tmp_path):
    write(tmp_path, "b.mp4", "d/e.mp4", "b.mov")
    before = {s.source.path: s.key for s in corpus(str(tmp_path))}
    write(tmp_path, "a.mp4", "B.mp4", "b.avi", "d/a.mp4", "d.mp4", "a/z.mp4")
    after = {s.source.path: s.key for s in corpus(str(tmp_path))}
    assert len(set(after.values())) == len(after) == 9
    assert before.items() <= after.items()


def test_names_that_would_collide_are_both_kept(tmp_path):
    write(tmp_path, "a/b.mp4", "a__b.mp4", "a/b.mov", "a_b.mp4", "a b.mp4", "A/b.mp4")
    keys = [s.key.lower() for s in corpus(str(tmp_path))]
    assert len(set(keys)) == 6


def test_hidden_files_and_folders_are_skipped(tmp_path):
    write(tmp_path, "a.mp4", "._a.mp4", ".cache/b.mp4", ".mp4")
    assert paths(tmp_path) == ["a.mp4"]


def test_a_caption_is_read_from_text_before_json(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4")
    write(tmp_path, "a.txt", data=b"from text\n")
    write(tmp_path, "a.json", "b.json", "d.json", "e.json", data=b'{"caption": "from json"}')
    write(tmp_path, "d.txt", data=b" \n")
    write(tmp_path, "e.txt", "f.txt", data=b"caf\xe9")
    captions = {s.key: s.caption for s in corpus(str(tmp_path))}
    json = "from json"
    assert captions == {"a": "from text", "b": json, "c": "", "d": json, "e": json, "f": ""}
    problems = {s.key: s.caption_problem for s in corpus(str(tmp_path)) if s.caption_problem}
    assert list(problems) == ["f"]
    assert "f.txt is not UTF-8 (byte 0xe9 at 3)" in problems["f"]


def test_a_named_field_comes_before_text(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    write(tmp_path, "a.txt", "b.txt", data=b"text")
    write(tmp_path, "a.json", data=b'{"caption": "short", "long": "long"}')
    write(tmp_path, "c.json", data=b'{"caption": "short"}')
    assert [s.caption for s in corpus(str(tmp_path), "long")] == ["long", "text", ""]


@pytest.mark.parametrize(
    ("video", "caption"),
    [
        ("Clip.MP4", "clip.txt"),
        ("clip.mp4", "CLIP.TXT"),
        ("clip.mp4", "clip.Txt"),
        ("caf\u00e9.mp4", "cafe\u0301.txt"),
        ("CAFE\u0301.mp4", "caf\u00e9.TXT"),
        ("v1.2 final.mov", "V1.2 Final.txt"),
        ("clip.mp4", "clip.mp4.txt"),
        ("Clip.MP4", "clip.mp4.TXT"),
    ],
)
def test_a_caption_is_found_in_any_letter_case_and_normal_form(tmp_path, video, caption):
    write(tmp_path, "first.mp4", video, "zz.mp4")
    write(tmp_path, caption, data=b"a caption")
    assert [s.caption for s in corpus(str(tmp_path)) if s.source.path.endswith(video)] == [
        "a caption"
    ]
    assert passed_over(tmp_path) == {}


def test_names_that_differ_in_case_only_have_captions_of_their_own(tmp_path):
    write(tmp_path, "a.mp4", "A.mp4", "b.mp4", "B.mp4", "c.mp4", "c.MP4")
    write(tmp_path, "a.txt", data=b"small")
    write(tmp_path, "A.txt", "c.MP4.txt", data=b"large")
    write(tmp_path, "b.txt", data=b"small")
    found = {os.path.basename(s.source.path): s.caption for s in corpus(str(tmp_path))}  # noqa: PTH119
    assert found == {
        "a.mp4": "small", "A.mp4": "large", "b.mp4": "small", "B.mp4": "",
        "c.mp4": "", "c.MP4": "large",
    }  # fmt: skip


def test_all_captions_of_a_list_are_kept(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path, "a.json", data=b'{"caption": ["one", "two"]}')
    write(tmp_path, "b.json", data=b'{"caption": {"en": "one", "zh": null}}')
    a, b = corpus(str(tmp_path))
    assert (a.caption, a.captions) == ("one", ("one", "two"))
    assert (b.caption, b.captions) == ("one", ())


def test_an_unreadable_caption_file_says_so(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "a.txt").write_bytes(b"x")
    (tmp_path / "a.txt").chmod(0)
    found = only_key(tmp_path, "a")
    assert found.caption == "x" or "a.txt cannot be read" in found.caption_problem  # root reads all


def only_key(root, key):
    (sample,) = (s for s in corpus(str(root)) if s.key == key)
    return sample


def test_a_huge_caption_is_cut(tmp_path):
    write(tmp_path, "a.mp4")
    write(tmp_path, "a.txt", data=b"x" * 10**7)
    assert len(only(tmp_path).caption) == MAX_TEXT


def test_a_caption_that_is_no_file_is_no_caption(tmp_path):
    write(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "a.json").symlink_to("nowhere")
    assert only(tmp_path).caption == ""


def test_loops_of_links_end(tmp_path):
    write(tmp_path, "a/x.mp4", "b/y.mp4")
    (tmp_path / "a/self").symlink_to("../a")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "b/to_a").symlink_to("../a")
    found = paths(tmp_path)
    assert "a/x.mp4" in found
    assert "b/to_a/x.mp4" in found  # a link that does not come back is a folder like any other
    assert len(found) == len(set(found)) < 10


def test_folders_deeper_than_a_path_can_say_are_a_rejected_row(tmp_path):
    write(tmp_path, "a.mp4")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    good, deep = corpus(str(tmp_path))
    assert (good.outcome, deep.outcome, deep.stopped.reason) == (
        "candidate",
        "rejected",
        "unreadable",
    )
    assert "too long" in deep.stopped.detail


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("nowhere"), "broken link"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (os.mkfifo, "not a regular file"),
    ],
)
def test_an_entry_that_is_no_file_is_a_rejected_row(tmp_path, make, reason):
    write(tmp_path, "good.mp4")
    make(tmp_path / "bad.mp4")
    bad, good = corpus(str(tmp_path))
    assert (bad.key, bad.outcome, bad.stopped.reason) == ("bad", "rejected", "unreadable")
    assert reason in bad.stopped.detail
    assert (good.key, good.outcome) == ("good", "candidate")


def test_a_name_that_is_not_utf8_is_a_rejected_row_that_can_be_written(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb"):  # noqa: PTH123, PTH118
        pass
    sample = only(tmp_path)
    assert sample.outcome == "rejected"
    assert "UTF-8" in sample.stopped.detail
    (sample.source.path + sample.stopped.detail).encode()


@pytest.mark.parametrize(
    "name", ["a\nb.mp4", "a::b.mp4", "{a,b}.mp4", "[a]*?.mp4", "-a.mp4", "é.mp4"]
)
def test_strange_names_are_names(tmp_path, name):
    write(tmp_path, name)
    assert only(tmp_path).source.path == str(tmp_path / name)
    assert only(tmp_path).outcome == "candidate"


def test_a_folder_named_like_a_video_is_searched(tmp_path):
    write(tmp_path, "clip.mp4/inner.mp4")
    assert paths(tmp_path) == ["clip.mp4/inner.mp4"]


def test_videos_and_tars_in_one_folder_are_one_corpus(tmp_path):
    write(tmp_path, "a.mp4", "t/x.mp4")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "a.mp4", "x.mp4")
    assert {s.key for s in corpus(str(tmp_path))} == {"a", "t__x", "t--x"}


def test_a_relative_folder_gives_absolute_paths(tmp_path, monkeypatch):
    write(tmp_path, "clips/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert only("clips").source.path == str(tmp_path / "clips/a.mp4")
    assert only(f"file://{tmp_path}/clips").source.path == str(tmp_path / "clips/a.mp4")


def test_a_folder_without_videos_is_the_users_mistake(tmp_path):
    write(tmp_path, "notes.txt", "shards/0.tar.gz")
    with pytest.raises(UserError, match=r"not read\. There are: 1 \.tar\.gz, 1 \.txt"):
        list(corpus(str(tmp_path)))


def test_listing_holds_names_of_one_folder_only(tmp_path):
    """The first sample comes before later folders are opened."""
    write(tmp_path, "a/x.mp4", "b/y.mp4")
    samples = iter(corpus(str(tmp_path)))
    assert next(samples).key == "a__x"
    write(tmp_path, "b/z.mp4")
    assert [sample.key for sample in samples] == ["b__y", "b__z"]
