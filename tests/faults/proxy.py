"""A proxy in front of an S3 server that injects faults by a seeded plan."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

FAULTS = ("slowdown", "unavailable", "reset", "lost", "short", "slow")
"""503 SlowDown; 500 InternalError; reset before the request is passed on; reset after it, so that
the answer is lost; half a body, then the end; a body that trickles."""

_SLOWDOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"


class Proxy(ThreadingHTTPServer):
    """Forwards to a server; a fault meets the `share` of requests that the seed picks.

    The pick depends on the seed, the request and how often it was made before: not on threads. The
    same request gets at most `row` faults in a row, so that patience always wins.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.seed, self.share, self.row = seed, 0.0, 4
        self.faults: tuple[str, ...] = FAULTS
        self.away = False
        """Whether every connection is reset."""
        self.late = 0
        """How many of the latest keys a listing leaves out."""
        self.denied: re.Pattern[str] | None = None
        """Keys that answer 403 AccessDenied."""
        self.injected: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self._made: Counter[tuple[str, str]] = Counter()
        self._running: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, method: str, path: str) -> str | None:
        """What shall happen to this request."""
        request = (method, path)
        with self._lock:
            self.requests[method, urlsplit(path).path] += 1
            self._made[request] += 1
            text = f"{self.seed} {method} {path} {self._made[request]}"
            number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
            met = number / 2**64 < self.share and self._running[request] < self.row
            self._running[request] = self._running[request] + 1 if met else 0
            kind = self.faults[number % len(self.faults)] if met else None
            if kind:
                self.injected[kind] += 1
            return kind

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.server.away:
            return self._reset()
        if self.server.denied and self.server.denied.search(unquote(urlsplit(self.path).path)):
            denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            return self._answer(403, [], denied)
        fault = self.server.fault(self.command, self.path)
        if fault == "slowdown":
            return self._answer(503, [], _SLOWDOWN)
        if fault == "unavailable":
            return self._answer(500, [], _INTERNAL)
        if fault == "reset":
            return self._reset()
        status, headers, data = self._forward(body)
        if fault == "lost":
            return self._reset()
        if self.server.late and self.command == "GET" and "list-type=2" in self.path:
            data = _without_latest(data, self.server.late)
        return self._answer(status, headers, data, fault or "")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, fault: str = ""
    ) -> None:
        skipped = {"transfer-encoding", "connection", "date", "server"}
        if self.command != "HEAD":
            skipped.add("content-length")
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in skipped:
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        elif not headers:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "short" and data:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif fault == "slow" and data:
            step = -(-len(data) // 5)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(data)

    def _reset(self) -> None:
        """End the connection as a crashed host does: RST, not FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Tests count in `injected`."""


def _without_latest(listing: bytes, count: int) -> bytes:
    """As a store whose index lags behind lists: without its last `count` keys."""
    text = listing.decode()
    entries = re.findall(r"\s*<Contents>.*?</Contents>", text, re.DOTALL)
    by_key = sorted(entries, key=lambda entry: re.search(r"<Key>(.*?)</Key>", entry)[1])  # type: ignore[index]
    for entry in by_key[-count:]:
        text = text.replace(entry, "", 1)
    return text.encode()


@contextmanager
def running(target: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy that serves while the block lasts."""
    proxy = Proxy(target, seed)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
