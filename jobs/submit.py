"""`harmoview submit`: any command as a job of a Ray cluster, followed from here."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from datapipe.errors import UserError, check_range
from datapipe.line.cluster import TOKEN, use_token
from jobs.cli import COMMANDS, command
from jobs.console.output import Show, parse, progress

PACKAGES = ("datapipe", "filters", "training", "dataset", "lora_engine", "harmoview", "jobs")
"""The code that goes along with a job."""
PATIENCE = 2.0
"""Seconds before a broken connection to the log is tried again."""
GIVE_UP = 300.0
"""Seconds without an answer after which the job is followed no longer."""


@dataclass(frozen=True)
class SubmitSettings:
    """Submit a harmoview command as a Ray job, follow its log, and end with its exit status.

    harmoview submit --address http://HEAD:8265 -- synthesize s3://corpus --out s3://run

    Ctrl-C leaves the job running. Paths in the command are paths on the cluster.
    """

    address: str
    """The dashboard of the cluster's head, http://HEAD:8265."""
    command: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="-- COMMAND …")
    ] = ()
    """The command with its options, as it would be typed after `harmoview`."""
    image: bool = False
    """The cluster's image has HarmoView installed: ship no code. Without it the code of this
    installation goes along; the image needs the other packages only."""
    gpus: int = 0
    """GPUs for the command's own process, which then runs on a node that has them and not on the
    head: 1 for views, generate and whatever trains in one process."""
    env: tuple[str, ...] = ()
    """Environment variables for the job: NAME=VALUE, or NAME for the value it has here."""
    detach: bool = False
    """Do not follow the log: print the job's id and end."""
    attach: str | None = None
    """Follow this job, submitted earlier, instead of submitting one."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if bool(self.command) == bool(self.attach):
            raise ValueError("submit takes a command after --, or --attach ID")
        if self.attach and (self.image or self.gpus or self.env or self.detach):
            raise ValueError("--attach only follows a job: of the other options it takes --address")
        check_range(self, "gpus", least=0)
        if self.command and (self.command[0] not in COMMANDS or self.command[0] == "submit"):
            raise ValueError(f"there is no command {self.command[0]!r} to submit")
        if not re.match(r"https?://[^/]", self.address):
            raise ValueError(f"--address must be like http://HEAD:8265, not {self.address!r}")
        for name in self.env:
            if "=" not in name and name not in os.environ:
                raise ValueError(f"--env {name}: there is no such variable here; give {name}=VALUE")


def execute(settings: SubmitSettings) -> int:
    """Submit and follow; returns the job's exit status, or 130 when only we were interrupted.

    Raises UserError where the cluster cannot be reached, or does not take the job.
    """
    use_token()
    from ray.exceptions import AuthenticationError

    try:
        return _execute(settings)
    except AuthenticationError as wrong:
        raise UserError(f"the cluster at {settings.address} wants a token: {TOKEN}") from wrong


def _execute(settings: SubmitSettings) -> int:
    client = _client(settings.address)
    if settings.attach:
        job = settings.attach
    else:
        job = _submit(client, settings)
        print(f"job {job}", flush=True)
    follow = f"harmoview submit --address {settings.address} --attach {job}"
    if settings.detach:
        print(f"follow it with: {follow}")
        return 0
    try:
        return _exit_status(job, asyncio.run(_follow(client, job, follow)))
    except KeyboardInterrupt:
        print(
            f"\nThe job goes on. Follow it with: {follow}\n"
            f"Stop it with: ray job stop --address {settings.address} {job}",
            file=sys.stderr,
        )
        return 130


def _client(address: str) -> Any:
    """The client of a cluster's jobs server. Raises UserError where none answers."""
    import requests
    from ray.job_submission import JobSubmissionClient

    logging.disable(logging.INFO)  # its client tells of every package it uploads
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, requests.RequestException, RuntimeError) as wrong:
        raise UserError(
            f"no Ray jobs server answers at {address}: {wrong} It is the address of the head's "
            "dashboard, usually port 8265; is a tunnel or port-forward needed?"
        ) from wrong


def _submit(client: Any, settings: SubmitSettings) -> str:
    name, *arguments = settings.command
    module = f"jobs.{name.replace('-', '_')}"
    try:
        return str(
            client.submit_job(
                entrypoint=shlex.join(["python", "-m", module, *arguments]),
                runtime_env=_runtime_env(settings),
                metadata={"command": shlex.join(settings.command)},
                entrypoint_num_gpus=settings.gpus,
            )
        )
    except RuntimeError as wrong:
        raise UserError(f"the cluster does not take the job: {wrong}") from wrong


def _runtime_env(settings: SubmitSettings) -> dict[str, Any]:
    variables = dict(_variable(name) for name in settings.env)
    variables.setdefault("PYTHONUNBUFFERED", "1")
    env: dict[str, Any] = {"env_vars": variables}
    if not settings.image:
        root = Path(__file__).parents[1]
        env["py_modules"] = [str(root / package) for package in PACKAGES]
        env["excludes"] = ["__pycache__"]
    return env


def _variable(name: str) -> tuple[str, str]:
    key, given, value = name.partition("=")
    return key, value if given else os.environ[key]


async def _follow(client: Any, job: str, again: str) -> Mapping[str, Any]:
    """Print the log to its end; after a broken connection go on where it broke.

    Returns what the cluster says of the job then. Raises UserError when the cluster does not know
    the job, or has not answered for `GIVE_UP` seconds; `again` is the command that follows it then.
    """
    import aiohttp

    log, lost = JobLog(), None
    try:
        while True:
            log.rewind()  # the server tells the log from its beginning each time
            with suppress(RuntimeError, OSError, aiohttp.ClientError):
                async for text in client.tail_job_logs(job):
                    log.write(text)
            try:
                info = _info(client, job)
            except (RuntimeError, OSError) as wrong:
                if lost is None:
                    lost = time.monotonic()
                    print("harmoview submit: connection lost, trying again", file=sys.stderr)
                if time.monotonic() - lost >= GIVE_UP:
                    raise UserError(
                        f"no answer for {GIVE_UP:g} s ({wrong}). The job goes on if its cluster "
                        f"does; is a tunnel or port-forward gone? Follow it with: {again}"
                    ) from wrong
            else:
                if info is None:
                    raise UserError(
                        f"the cluster knows no job {job}. A head that was started anew has "
                        "forgotten its jobs, which ended with it: submit the command again, it "
                        "goes on where it was"
                    )
                if info["status"].is_terminal():
                    return info
                lost = None
            await asyncio.sleep(PATIENCE)
    finally:
        log.close()


def _info(client: Any, job: str) -> Mapping[str, Any] | None:
    """What the cluster says of the job; None where it answers that it knows none of that name.

    Raises RuntimeError or OSError where it does not answer.
    """
    try:
        return dict(vars(client.get_job_info(job)))
    except RuntimeError:
        if any(job in (known.submission_id, known.job_id) for known in client.list_jobs()):
            raise
        return None


def _exit_status(job: str, info: Mapping[str, Any]) -> int:
    if info["status"] == "SUCCEEDED":
        return 0
    code = info["driver_exit_code"]
    ended = f"ended with status {code}" if code else str(info["message"])
    print(f"harmoview submit: job {job} {info['status'].lower()}: {ended}", file=sys.stderr)
    return int(code) if code and code > 0 else 1


class JobLog:
    """Prints a job's log as it arrives; its progress is drawn as it would be where the job runs.

    The log may be told again from its beginning, after a broken connection: it is printed once.
    """

    def __init__(self) -> None:
        self._known = 0
        self._skip = 0
        self._line = ""
        self._bars = ExitStack()
        self._title: str | None = None
        self._show: Show | None = None

    def rewind(self) -> None:
        """Hear that the log comes from its beginning now: what was printed is not printed again."""
        self._skip = self._known

    def write(self, text: str) -> None:
        """Print the next piece of the log."""
        new = text[self._skip :]
        self._skip = max(0, self._skip - len(text))
        self._known += len(new)
        if not sys.stderr.isatty():
            print(new, end="", flush=True)
            return
        *lines, self._line = (self._line + new).split("\n")
        for line in lines:
            self._tell(line)

    def close(self) -> None:
        """Print what has no line end yet, and leave no bar."""
        self._end_bar()
        if self._line:
            print(self._line, flush=True)

    def _tell(self, line: str) -> None:
        found = parse(line)
        if found is None:
            self._end_bar()
            print(line, flush=True)
            return
        title, outcomes, total = found
        if self._show is None or title != self._title:
            self._end_bar()
            self._title, self._show = title, self._bars.enter_context(progress(title, quiet=False))
        self._show(outcomes, total)

    def _end_bar(self) -> None:
        self._bars.close()
        self._show = None


main = command(__name__, SubmitSettings, execute)
