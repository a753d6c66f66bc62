"""An object store that falters costs time and nothing else; one that stays away ends the run."""

import os
import re
import sys

import fsspec
import pytest
import s3fs
from botocore.retries.standard import ExponentialBackoff

from datapipe import claim, stores
from datapipe.claim import locked
from datapipe.corpus import corpus, open_source
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line import rescore
from datapipe.line.drive import Recorder, Remaining, drive
from datapipe.line.line import LocalLine
from datapipe.run.info import Scoring, load_info, open_run
from datapipe.run.tables import Ledger, ledger_segments
from dataset.pack.pack import ShardLimits, pack
from dataset.pack.verify import verify
from jobs import pack as pack_command
from tests.datapipe import fast_line
from tests.datapipe.fast_line import INFO, Flat, calls, contents, numbers, stages
from tests.datapipe.runs import RULES, TinyRun
from tests.faults.proxy import FAULTS, running

COUNT = 8


@pytest.fixture
def proxy(s3_bucket, monkeypatch):
    """Between this process and the S3 server; without faults until a test asks for some.

    Pauses between requests are short: what is asked again, and how often, is as ever.
    """
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.02)
    with running(os.environ["AWS_ENDPOINT_URL"], seed=5) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def url(s3_bucket, tmp_path):
    return f"{s3_bucket}/{tmp_path.name}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The oracle: the same run on a disk."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    fast_line.work(folder / "run", COUNT, folder / "calls", ray=False)
    return contents(folder / "run")


def work(url, tmp_path, part=500_000):
    """`fast_line.work` on a store: a run of COUNT samples in parts."""
    run = Folder(url)
    manifest = numbers(tmp_path / "run", COUNT)
    with locked(run):
        info = open_run(run, INFO)
        ledger = Ledger(run)
        ledger.recover(info.scoring.generation)
        recorder = Recorder(ledger, info.scoring.labels, 0)
        todo = Remaining(manifest, url, ledger.segments, part=part)
        drive(LocalLine(stages(url, tmp_path / "calls")), todo, recorder, lambda _: None)


def fetched(url, proxy, tmp_path):
    """The run's contents, read without faults."""
    proxy.share, proxy.late = 0.0, 0
    here = tmp_path / "fetched"
    fsspec.filesystem("s3").get(f"{url}/", f"{here}/", recursive=True)
    return contents(here)


@pytest.mark.parametrize("faults", [*((fault,) for fault in FAULTS), FAULTS], ids=" ".join)
def test_a_store_that_falters_changes_nothing(url, proxy, tmp_path, uninterrupted, faults):
    """Candidates and tables are those of a run on a disk, and nothing is synthesised twice."""
    proxy.faults, proxy.share = faults, 0.25
    work(url, tmp_path)
    assert set(proxy.injected) == set(faults)
    assert fetched(url, proxy, tmp_path) == uninterrupted
    assert sorted(calls(tmp_path / "calls")) == [[f"k{n:04d}", "first"] for n in range(COUNT)]


@pytest.mark.slow
def test_score_and_pack_do_not_notice_either(url, proxy, tmp_path):
    """Scores and shards through a faltering store are those of a disk, byte for byte."""
    results = []
    for where in (str(tmp_path / "disk"), url):
        proxy.share = 0.15
        tiny = TinyRun(tmp_path, where)
        for index in range(5):
            tiny.add(f"clip{index}", [{}])
        run = tiny.save(per_segment=2)
        info = rescore.begin_scoring(run, load_info(run), Scoring(labels=fast_line.LABELS))
        assert rescore.rescore(run, info, LocalLine([Flat(tiny.store)]), lambda _: None).scored == 5
        out = run.folder("shards")
        manifest = pack(run, out, RULES, ShardLimits(samples=3), lambda *_: None)
        assert list(verify(out, lambda *_: None)) == []
        results.append((manifest, [out.read(shard.name) for shard in manifest.shards]))
    assert proxy.injected.total() > 10
    assert results[0] == results[1]


def test_listing_and_reading_a_corpus_do_not_notice_either(url, proxy, tmp_path):
    """The same samples, captions and bytes, with half-sent bodies among the answers."""
    fs = fsspec.filesystem("s3")
    clips = {f"{n:02d}": bytes([n]) * (100_000 + n) for n in range(8)}
    fs.pipe({f"{url}/v/{name}.mp4": data for name, data in clips.items()})
    fs.pipe({f"{url}/v/{name}.txt": f"caption {name}".encode() for name in clips})
    proxy.share = 0.3
    samples = list(corpus(f"{url}/v"))
    assert {s.key: s.caption for s in samples} == {name: f"caption {name}" for name in clips}
    for sample in samples:
        with open_source(sample.source) as (file, _):
            assert file.read() == clips[sample.key]
    assert proxy.injected["short"]


def test_a_store_that_stays_away_ends_the_run_which_then_continues(
    url, proxy, tmp_path, uninterrupted, monkeypatch, capsys
):
    """One message within the time that is promised; the rerun loses and repeats nothing."""
    monkeypatch.setattr(stores, "PATIENCE", 1.0)
    monkeypatch.setattr(claim, "SETTLE", 0.3)
    monkeypatch.setattr(claim, "STALE", 0.0)  # the lock cannot be taken away from a store so far
    run_engine = fast_line.Roll.for_key

    def until_the_fifth(engine, key):
        run_engine(engine, key)
        proxy.away = key == "k0004"

    monkeypatch.setattr(fast_line.Roll, "for_key", until_the_fifth)
    with pytest.raises(UserError, match=r"has not answered for \d+ s.*run the same command again"):
        work(url, tmp_path)
    assert pack_command.main([url, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "has not answered" in told
    assert "Traceback" not in told
    proxy.away = False
    monkeypatch.setattr(fast_line.Roll, "for_key", run_engine)
    work(url, tmp_path)
    assert fetched(url, proxy, tmp_path) == uninterrupted
    assert {kind for _, kind in calls(tmp_path / "calls")} == {"first"}


@pytest.mark.slow
def test_a_listing_that_lags_behind_loses_and_doubles_nothing(
    url, proxy, tmp_path, uninterrupted, monkeypatch
):
    """Neither the last segments of the ledger nor their scores, by any rerun."""
    patience = iter([4, 2, COUNT])  # samples until the next interruption
    engine = fast_line.Roll.for_key

    def interrupted(self, key):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        engine(self, key)

    monkeypatch.setattr(fast_line.Roll, "for_key", interrupted)
    for left in patience:
        proxy.late = 2
        try:
            work(url, tmp_path, part=2)
        except KeyboardInterrupt:
            assert left < COUNT
    run = Folder(url)
    assert len(ledger_segments(run)) > len(run.names("ledger/*.parquet"))
    assert fetched(url, proxy, tmp_path) == uninterrupted
    assert {kind for _, kind in calls(tmp_path / "calls")} == {"first"}


def test_rescoring_by_listings_that_lag_behind_scores_each_candidate_once(
    url, proxy, tmp_path, monkeypatch
):
    """New segments never take the place of those that a listing does not show yet."""
    tiny = TinyRun(tmp_path, url)
    for index in range(4):
        tiny.add(f"clip{index}")
    run = tiny.save(per_segment=2)
    proxy.late = 2
    info = rescore.begin_scoring(run, load_info(run), Scoring(labels=fast_line.LABELS))
    with monkeypatch.context() as patch:
        patch.setattr(rescore, "SEGMENT_ROWS", 1)
        assert rescore.rescore(run, info, LocalLine([Flat(tiny.store)]), lambda _: None).scored == 4
    manifest = pack(run, run.folder("shards"), RULES, ShardLimits(), lambda *_: None)
    assert manifest.totals.candidates == 4


def test_the_first_writer_of_a_candidate_is_the_only_one(url, proxy):
    """A worker that counts as dead and yet lives cannot change what was scored meanwhile."""
    run = Folder(url)
    proxy.faults, proxy.share = ("lost",), 1.0
    proxy.row = 2
    assert run.put_new("candidates/a.tar", b"first")
    assert not run.put_new("candidates/a.tar", b"second")
    assert run.read("candidates/a.tar") == b"first"


def test_a_caption_that_may_not_be_read_is_the_matter_of_one_sample(url, proxy):
    """It is an error row, to be tried again when the right is granted; the others go on."""
    fs = fsspec.filesystem("s3")
    fs.pipe({f"{url}/v/{name}.{end}": b"x" for name in "abc" for end in ("mp4", "txt")})
    proxy.denied = re.compile(r"/b\.txt$")
    samples = {sample.key: sample for sample in corpus(f"{url}/v")}
    assert [samples[key].caption for key in "ac"] == ["x", "x"]
    assert (samples["b"].outcome, samples["b"].stopped.reason) == ("error", "caption_denied")


def test_a_run_that_may_not_be_written_is_told_at_once(url, proxy, capsys):
    """Access denied is no outage: nobody waits for it."""
    proxy.denied = re.compile(url.rpartition("/")[2])
    with pytest.raises(UserError, match=r"Access Denied.*whether these credentials may use it"):
        Folder(url).put("a", b"x")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("s3://no-such-bucket-anywhere/run", "bucket does not exist"),
        ("gs://bucket/run", r"pip install -e '\.\[gcs\]'"),
        ("nonsense://x/run", "Use a local path, s3:// or gs://"),
    ],
)
def test_a_wrong_address_is_told_in_a_sentence(s3_bucket, monkeypatch, where, told):
    """The run's folder is named, and what to do."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    with pytest.raises(UserError, match=told) as wrong, locked(Folder(where)):
        pass
    assert str(wrong.value).startswith(where)


def test_missing_credentials_are_told_in_a_sentence(s3_bucket, monkeypatch, tmp_path, capsys):
    """Which variables to set, for the run and for the corpus alike."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        for ask in (lambda: Folder(s3_bucket).read("run.json"), lambda: corpus(s3_bucket)):
            with pytest.raises(UserError, match=r"credentials.*AWS_ACCESS_KEY_ID"):
                ask()
        assert pack_command.main([f"{s3_bucket}/run"]) == 1
        assert "Traceback" not in capsys.readouterr().err
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
