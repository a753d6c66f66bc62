"""Object stores: opened alike everywhere, and asked again while they falter."""

from __future__ import annotations

import errno
import io
import logging
import random
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import fsspec

from datapipe.errors import UserError, install

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PATIENCE = 120.0
"""Seconds for which a store that falters is asked again; then the run ends and can be continued."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between the first two tries, and between two later ones, at most."""

_S3_CONFIG = {
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "connect_timeout": 5,
    "read_timeout": 15,
}
_S3_RETRIES = 2
"""s3fs repeats what fails in its hands, a body that ends early too, and botocore each of its tries:
with their own defaults, 125 requests and half an hour for one read of a silent store."""

_ABOUT_THE_FILE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_BUSY = {
    errno.EBUSY, errno.EIO, errno.EAGAIN, errno.EPIPE, errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip
_FALTERING = {
    *("HTTPClientError", "ConnectionError", "IncompleteReadError", "ResponseParserError"),
    *("ClientConnectionError", "ClientPayloadError"),
    "HttpError",
}
"""Errors of botocore, of aiohttp and of gcsfs, by name: a package is there only where its store is
used."""
_CREDENTIALS = {
    "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}  # fmt: skip
_T = TypeVar("_T")
_pauses = random.Random()  # workers must not ask in step; nothing else depends on it
log = logging.getLogger(__name__)


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it.

    Listings are not kept: they would hide new files. Raises ValueError for an unknown scheme,
    ImportError for a package that is not installed.
    """
    options: dict[str, Any] = {}
    if url.startswith(("s3://", "s3a://")):
        own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {**_S3_CONFIG, **own}
    if "://" in url:
        options["use_listings_cache"] = False
    fs, path = fsspec.core.url_to_fs(url, **options)
    if "config_kwargs" in options:
        fs.retries = _S3_RETRIES
    return fs, str(path)


def user_store(url: str) -> tuple[Any, str]:
    """The same for a URL that a user named. Raises UserError."""
    try:
        return open_store(url)
    except ImportError as missing:
        extra = {"s3": "s3", "gs": "gcs"}.get(url.split("://")[0])
        todo = install(extra) if extra else str(missing)
        raise UserError(f"{url}: this kind of storage needs one more package: {todo}") from missing
    except (ValueError, RuntimeError) as unknown:
        raise UserError(f"{url}: {unknown}. Use a local path, s3:// or gs://") from unknown
    except Exception as fault:
        if type(fault).__module__ == "builtins":
            raise
        raise _refused(url, fault) from fault  # gcsfs looks for credentials at once


def with_retries(
    url: str, ask: Callable[..., _T], *args: Any, patience: float | None = None, **named: Any
) -> _T:
    """The store's answer to a request that may be repeated for `patience` (PATIENCE) seconds.

    Errors about one file are raised as they are, PermissionError too. Raises UserError when the
    store stays away, or refuses the credentials.
    """
    start, longest = time.monotonic(), FIRST_PAUSE
    patience = PATIENCE if patience is None else patience
    while True:
        try:
            return ask(*args, **named)
        except Exception as fault:
            _raise_lasting(url, fault)
            waited = time.monotonic() - start
            if waited >= patience:
                raise UserError(
                    f"{url}: the store has not answered for {waited:.0f} s: {_text(fault)}. Check "
                    "credentials, endpoint and network; then run the same command again: it "
                    "continues"
                ) from fault
            if longest == 8 * FIRST_PAUSE:  # after some seconds
                log.warning("%s: %s; asking again for %.0f s", url, _text(fault), patience - waited)
        time.sleep(_pauses.uniform(longest / 2, longest))
        longest = min(2 * longest, LONGEST_PAUSE)


def _raise_lasting(url: str, fault: Exception) -> None:
    """Raise what asking again would not change; else return."""
    if isinstance(fault, _ABOUT_THE_FILE) and code_of(fault) != "NoSuchUpload":
        raise fault
    if isinstance(fault, PermissionError) and code_of(fault) not in _CREDENTIALS:
        raise fault
    if str(fault).startswith("Forbidden: "):  # gcsfs has an OSError for it
        raise PermissionError(errno.EACCES, str(fault).replace("\n", ": ")) from fault
    if type(fault).__module__ == "builtins" and not isinstance(fault, OSError):
        raise fault  # a mistake of the program
    if not _may_pass(fault):
        raise _refused(url, fault) from fault


def denied(url: str, fault: PermissionError) -> UserError:
    """The error to raise where a whole folder or bucket refuses access."""
    return UserError(
        f"{url}: {_text(fault)}. Check the address and whether these credentials may use it"
    )


def code_of(fault: BaseException) -> str:
    """The S3 error code of an error as s3fs translates it; "" where there is none."""
    answer = getattr(fault.__cause__, "response", None)
    return str(answer["Error"].get("Code", "")) if isinstance(answer, dict) else ""


def _may_pass(fault: Exception) -> bool:
    if isinstance(fault, TimeoutError | ConnectionError):
        return True
    if isinstance(fault, OSError) and fault.errno in _BUSY:
        return True
    if code_of(fault) == "NoSuchUpload":  # completed or gone: the whole upload is made again
        return True
    return any(kind.__name__ in _FALTERING for kind in type(fault).__mro__)


def _refused(url: str, fault: Exception) -> UserError:
    todo = "Check credentials, endpoint and network"
    if url.startswith("s3"):
        todo += (
            " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; AWS_ENDPOINT_URL for "
            "other stores than Amazon's)"
        )
    if url.startswith(("gs", "gcs")):
        todo += " (GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`)"
    return UserError(f"{url}: {_text(fault)}. {todo}")


def _text(fault: Exception) -> str:
    text = (isinstance(fault, OSError) and fault.strerror) or str(fault)
    return text.rstrip(".") or type(fault).__name__


class _StoredFile(io.RawIOBase):
    """An object, read in ranges; each request is repeated while the store falters."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        self._fs, self._path, self._url = fs, path, url
        self._size = int(with_retries(url, fs.info, path)["size"])
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Raises ValueError before the object's first byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Raises OSError where the object changed, and as `with_retries` does."""
        view = memoryview(buffer)
        end = min(self._position + len(view), self._size)
        if end <= self._position:
            return 0
        read = self._fs.cat_file
        data = with_retries(self._url, read, self._path, start=self._position, end=end)
        if not 0 < len(data) <= end - self._position:
            raise OSError(errno.EIO, f"{self._url} changed while it was read")
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_object(fs: Any, path: str, url: str, block: int) -> IO[bytes]:
    """An object as a file to read; `block` is what one request fetches, bytes.

    Raises FileNotFoundError, PermissionError, and UserError as `with_retries` does.
    """
    return cast("IO[bytes]", io.BufferedReader(_StoredFile(fs, path, url), block))
