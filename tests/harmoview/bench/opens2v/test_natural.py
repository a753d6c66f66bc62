"""Laws of the Natural score, asked of a real HTTP server that answers as it is told."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from datapipe.errors import UserError
from harmoview.bench.opens2v import natural
from harmoview.bench.opens2v.natural import ask, frame_indices, parse, rubric
from harmoview.bench.opens2v.scorers import NaturalScorer
from harmoview.bench.opens2v.weights import Endpoint, read_weights
from harmoview.bench.score import outdated, score
from harmoview.bench.store import read_scores
from tests.harmoview.bench.gsb.studies import write_run


@contextmanager
def server(*answers):
    """Answers the n-th request with the n-th answer, the last one again and again.

    A text is a reply's content, None a refusal, a number an HTTP status, bytes a whole body.
    """
    seen, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                seen.append((self.path, dict(self.headers), json.loads(body)))
                answer = answers[min(len(seen), len(answers)) - 1]
            status, data = 200, answer
            if isinstance(answer, int):
                status, data = answer, b'{"error": "told to"}'
            elif not isinstance(answer, bytes):
                choice = {"message": {"role": "assistant", "content": answer}}
                data = json.dumps({"model": "server-1", "choices": [choice]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", seen
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (90, 160, 3), np.uint8) for _ in range(16)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(natural, "WAITS", (0.0, 0.0))


def test_three_requests_hold_the_frames_and_the_rubric(pictures):
    """Sixteen JPEGs, long side 512, in order, then the rubric; key, model, no temperature."""
    with server("4", "4", "3") as (url, seen):
        replies = ask(Endpoint(url, "some-model", key="secret", workers=1), pictures)
    assert [reply.score for reply in replies] == [4, 4, 3]
    assert {reply.model for reply in replies} == {"server-1"}
    assert len(seen) == 3
    path, headers, body = seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert set(body) == {"model", "stream", "messages"}
    *images, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": rubric()}
    assert len(images) == 16
    first = base64.b64decode(images[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    decoded = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (288, 512, 3)


@pytest.mark.parametrize(
    "answer",
    ["I cannot help with that.", "", "6", "0", "3.5", "four", "5 because", None, b"{}", b"no JSON",
     b'{"choices": []}', b"[]", 400, 401],
)  # fmt: skip
def test_a_bad_reply_is_none_and_kept_as_it_came(pictures, answer):
    """Refusals, chatter, numbers off the scale, other bodies and errors are no scores."""
    with server(answer) as (url, _):
        replies = ask(Endpoint(url, "m"), pictures)
    assert [reply.score for reply in replies] == [None] * 3
    if isinstance(answer, str):
        assert replies[0].raw == answer
    elif isinstance(answer, int):
        assert f"HTTP {answer}" in replies[0].raw
        assert "told to" in replies[0].raw


def test_a_server_that_falters_is_asked_again_and_one_that_refuses_is_not(pictures):
    """503 and 429 are tried again up to five times, 400 once."""
    with server(503, 429, "2") as (url, seen):
        replies = ask(Endpoint(url, "m", workers=1), pictures)
        assert [reply.score for reply in replies] == [2, 2, 2]
        assert len(seen) == 5
    with server(500) as (url, seen):
        assert ask(Endpoint(url, "m", workers=1), pictures)[0].score is None
        assert len(seen) == 15
    with server(400) as (url, seen):
        ask(Endpoint(url, "m", workers=1), pictures)
        assert len(seen) == 3


def test_no_server_at_all_is_a_reply_with_the_reason(pictures):
    """Nobody listens on the port."""
    with server("3") as (url, _):
        pass
    (reply, *_) = ask(Endpoint(url, "m"), pictures)
    assert (reply.score, reply.served) == (None, False)
    assert "refused" in reply.raw


@pytest.mark.parametrize("answer", [401, 404, None])
def test_a_server_that_serves_nobody_stops_the_run(tmp_path, answer):
    """After the first video, not after each; one that refuses a video is a row with its reason."""
    run = write_run(tmp_path)
    with server(*[answer] * 3) as (url, seen):
        scorers = [NaturalScorer(Endpoint(url, "m"))]
        tasks = list(outdated(run, scorers))[:2]
        if answer is None:
            score(run, tasks, 1)
            assert len(seen) == 6
        else:
            with pytest.raises(UserError, match=f"does not serve m: HTTP {answer}"):
                score(run, tasks, 1)
            assert len(seen) == 3
    rows = read_scores(run.folder)
    assert len(rows) == (2 if answer is None else 0)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "file:///etc", "http://", "ftp://host/v1"])
def test_an_address_that_is_no_web_address_is_told_before_any_video(tmp_path, url):
    """In the words of the file in which it stands."""
    file = tmp_path / "weights.toml"
    file.write_text(f'[opens2v_natural]\nurl = "{url}"\nmodel = "m"\n')
    with pytest.raises(UserError, match="url must begin with http"):
        read_weights(file)


def test_the_frames_are_those_that_opens2v_looks_at():
    """60 of 69, 75 of 81, 105 of 121 is the last; a short video is seen whole."""
    for total, last in ((69, 60), (81, 75), (121, 105)):
        assert frame_indices(total)[-1] == last
        assert len(frame_indices(total)) == 16
    assert frame_indices(9) == list(range(9))


def test_a_score_is_one_whole_number_from_one_to_five():
    """With white space around it or a trailing zero, and nothing else."""
    assert [parse(text) for text in ("4", " 4\n", "4.0", "4.")] == [4] * 4
    assert [parse(text) for text in ("4/5", "45", "-4", "4.2", "４")] == [None] * 5
