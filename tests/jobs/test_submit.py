"""`harmoview submit` against a real head node with its jobs server."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jobs.submit import main

BIN = Path(sys.executable).parent
PATIENT = """
import sys
from jobs import submit
submit.GIVE_UP = {}
sys.exit(submit.main(["--address", sys.argv[1], "--gpus", "1", "--", "models"]))
"""
TOKEN = "a-token-of-this-test-alone-0123456789"


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    request = urllib.request.Request(
        f"{address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@contextmanager
def started(port, own=None):
    """The address of a head node that wants a token; gone at the end, with what it started."""
    address = f"http://127.0.0.1:{port}"
    # Ray's sockets need a short path, hence not tmp_path
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--port={own or free_port()}", f"--dashboard-port={port}", "--num-cpus=1"]
    command += ["--dashboard-agent-listen-port=0", "--object-store-memory=100000000"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 120
        while not answers(address):
            assert process.poll() is None, "the head node ended"
            assert time.monotonic() < end, "the jobs server does not answer"
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def token():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def own_port():
    """That of the cluster itself, beside the one of its jobs server."""
    return free_port()


@pytest.fixture(scope="module")
def head(token, own_port):
    with started(free_port(), own_port) as address:
        yield address


def submit(head, *arguments, **more):
    command = [sys.executable, "-m", "jobs.submit", "--address", head, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def job_of(text):
    return re.search(r"raysubmit_\w+", text)[0]


@pytest.mark.proof
@pytest.mark.ray
def test_the_log_and_the_exit_status_of_the_job_come_back(head, tmp_path):
    """A command that succeeds ends with 0 and its output, a wrong one with its 2 and message."""
    done = submit(head, "--", "models")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "yunet" in out.lower()
    wrong = submit(head, "--", "stats")
    out, err = wrong.communicate(timeout=120)
    assert wrong.returncode == 2
    assert "RUN" in out
    missing = submit(head, "--", "stats", str(tmp_path / "nowhere"))
    out, _ = missing.communicate(timeout=120)
    assert missing.returncode == 1
    assert "nowhere" in out


@pytest.mark.proof
@pytest.mark.ray
def test_an_interrupt_leaves_the_job_running_and_says_how_to_go_on(head, tmp_path):
    """Ctrl-C ends only the following; --attach tells the log from its beginning."""
    clips = ["--", "subjects", "--out", str(tmp_path / "clips"), "--count", "3", "--seconds", "1"]
    following = submit(head, *clips)
    first = following.stdout.readline()
    time.sleep(3)
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=60)
    assert following.returncode == 130
    assert f"--attach {job_of(first)}" in err
    assert f"ray job stop --address {head} {job_of(first)}" in err
    again = submit(head, "--attach", job_of(first))
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert "3 clips made" in out
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 3


@pytest.mark.proof
@pytest.mark.ray
def test_a_job_may_be_left_at_once(head):
    """--detach prints the id and ends; an unknown id is named."""
    left = submit(head, "--detach", "--", "models")
    out, err = left.communicate(timeout=60)
    assert left.returncode == 0, err
    assert "--attach" in out
    unknown = submit(head, "--attach", "raysubmit_nothing")
    _, err = unknown.communicate(timeout=60)
    assert unknown.returncode == 1
    assert "knows no job raysubmit_nothing" in err


@pytest.mark.proof
@pytest.mark.ray
def test_a_wrong_token_is_said(head):
    """Another token is refused in one message that says what to do."""
    wrong = submit(head, "--", "models", env={**os.environ, "RAY_AUTH_TOKEN": "x" * 40})
    _, err = wrong.communicate(timeout=60)
    assert wrong.returncode == 1
    assert "token" in err
    assert "Traceback" not in err


@pytest.mark.proof
@pytest.mark.ray
def test_a_command_joins_by_this_users_token(head, own_port):
    """--address sends the token wherever there is one; another is refused in one message."""
    code = (
        f"from datapipe.line.cluster import connect\nconnect('127.0.0.1:{own_port}')\n"
        "import ray\nprint(ray.cluster_resources()['CPU'])"
    )
    unsaid = {name: text for name, text in os.environ.items() if name != "RAY_AUTH_MODE"}
    for environment, status, says in (
        (unsaid, 0, "1.0"),
        (unsaid | {"RAY_AUTH_TOKEN": "x" * 40}, 1, "wants a token"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        assert says in done.stdout + done.stderr


@pytest.mark.proof
@pytest.mark.ray
def test_a_head_that_is_killed_ends_the_following(token):
    """While nothing answers it tries again for a while; a head that comes back knows no such job.

    The job asks for a GPU, so that it waits on this head for a node that has one.
    """
    port = free_port()
    with started(port) as address:
        following, hasty = (
            subprocess.Popen(
                [sys.executable, "-c", PATIENT.format(seconds), address],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for seconds in (600, 0)
        )  # fmt: skip
        job, other = (job_of(each.stdout.readline()) for each in (following, hasty))
    _, err = hasty.communicate(timeout=120)
    assert hasty.returncode == 1
    assert err.count("connection lost") == 1
    assert f"harmoview submit --address {address} --attach {other}" in err
    assert "Traceback" not in err
    assert following.poll() is None
    with started(port):
        _, err = following.communicate(timeout=120)
    assert following.returncode == 1
    assert err.count("connection lost") == 1
    assert f"knows no job {job}" in err
    assert "Traceback" not in err


def test_no_server_is_said(capsys):
    """Where nothing answers, the message names the address."""
    address = f"http://127.0.0.1:{free_port()}"
    assert main(["--address", address, "--", "models"]) == 1
    assert address in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--address", "http://head:8265"], "--attach"),
        (["--address", "http://head:8265", "--", "dance"], "dance"),
        (["--address", "http://head:8265", "--", "submit"], "submit"),
        (["--address", "head", "--", "models"], "http://HEAD:8265"),
        (["--address", "http://head", "--attach", "x", "--image"], "--attach"),
        (["--address", "http://head", "--env", "NO_SUCH_NAME", "--", "models"], "NO_SUCH_NAME"),
    ],
)
def test_wrong_arguments_are_named(arguments, named, capsys):
    """What cannot be submitted is refused before anything is sent."""
    assert main(arguments) == 2
    assert named in capsys.readouterr().err
