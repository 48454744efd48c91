"""Files over HTTPS: resumed where a connection broke, from one host only, never larger than agreed."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cpxt_hpc import __version__
from cpxt_hpc.errors import ConfigError, DataError, MissingInput, OutputError

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

MOST_REDIRECTS = 5
MOST_BREAKS = 100
"""Breaks of one file's transfer after which it is given up, even where each try brought a few bytes more."""
LARGEST_PAGE_BYTES = 4_000_000
LONGEST_PAUSE_S = 60.0
BLOCK_BYTES = 1 << 17
_FOR_NOW = (408, 425, 429, 500, 502, 503, 504)


class Patience(NamedTuple):
    """How long a server is waited for.

    Attributes
    ----------
    timeout_s : float
        Without an answer or any byte [s].
    attempts : int
        Tries in a row that bring nothing.
    pause_s : float
        After the first of them; each further pause is twice as long [s].
    """

    timeout_s: float = 60.0
    attempts: int = 5
    pause_s: float = 2.0


class Stopped(Exception):
    """The transfer was asked to stop."""


class _Broken(Exception):
    """A try failed, the next may not."""


def check_base_url(url: str, where: str) -> str:
    """Address without trailing slash; it must be https, or http to this machine.

    Parameters
    ----------
    url : str
    where : str
        What it is called in messages: ``[archive] base_url``.

    Raises
    ------
    ConfigError
        It is no such address.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_valid = urllib.parse.urlsplit(""), False
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(parts.hostname))
    if not (is_safe and parts.hostname and port_is_valid) or parts.username or parts.query or parts.fragment:
        raise ConfigError(
            f"{where} = {url!r}: expected an address such as https://cxc.cfa.harvard.edu/cdaftp (https; no user, "
            "password or query)."
        )
    return url.strip().rstrip("/")


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def get_page(url: str, patience: Patience, stop: threading.Event) -> str | None:
    """Text of a page; None where the server says that there is none.

    Raises
    ------
    MissingInput
        The server cannot be reached, or refuses.
    DataError
        The page is too large, or sends elsewhere.
    """

    def read() -> str | None:
        with _answer(url, {}, patience) as response:
            if response.status_code in (404, 410):
                return None
            _check_status(response, url, (200,))
            content = b""
            for block in response.raw.stream(BLOCK_BYTES, decode_content=True):
                content += block
                if len(content) > LARGEST_PAGE_BYTES:
                    raise DataError(f"{url}: more than {LARGEST_PAGE_BYTES / 1e6:g} MB, expected a list of files.")
            _check_length(len(content), _length(response), url, response)
            return content.decode("utf-8", errors="replace")

    return _patiently(read, lambda: 0, url, patience, stop)


def download(
    url: str,
    part: Path,
    patience: Patience,
    *,
    max_bytes: int,
    stop: threading.Event,
    on_size: Callable[[int], None] = lambda size: None,
) -> None:
    """Fetch a file into ``part``, going on behind what is there already.

    Parameters
    ----------
    url : str
    part : Path
        Unfinished file; kept where the transfer fails, so that the next one goes on from there.
    patience : Patience
    max_bytes : int
        Larger files are refused.
    stop : threading.Event
        Once set, the transfer ends with `Stopped`.
    on_size : callable
        Told the number of bytes there, after each block.

    Raises
    ------
    MissingInput
        The server cannot be reached, has no such file, or breaks off again and again.
    DataError
        The file is too large, or the server sends to another host.
    OutputError
        ``part`` cannot be written.
    Stopped
    """

    def size() -> int:
        return part.stat().st_size if part.is_file() else 0

    def fetch() -> None:
        _fetch_rest(url, part, size(), patience, max_bytes, stop, on_size)

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _patiently(fetch, size, url, patience, stop)
    except OSError as error:
        raise OutputError(
            f"{part}: cannot be written ({error.strerror or error}). Make room or get write permission, then run again."
        ) from error


def _patiently(action: Callable, size: Callable[[], int], url: str, patience: Patience, stop: threading.Event):
    """Call until it succeeds; give up after tries in a row without a byte more."""
    import requests
    import urllib3.exceptions

    in_a_row = 0
    for _ in range(MOST_BREAKS):
        before = size()
        try:
            return action()
        except (_Broken, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            in_a_row = 1 if size() > before else in_a_row + 1
            reason = error
            if in_a_row >= patience.attempts:
                break
            pause_s = min(patience.pause_s * 2.0 ** (in_a_row - 1), LONGEST_PAUSE_S)
            logger.info("%s: %s; tried again in %.0f s", url, _reason(error), pause_s)
            if stop.wait(pause_s):
                raise Stopped from error
    raise MissingInput(
        f"{url}: {_reason(reason)}, {in_a_row} times in a row. Is there a network? Run again: it goes on from here."
    ) from reason


def _reason(error: Exception) -> str:
    import requests
    import urllib3.exceptions

    if isinstance(error, _Broken):
        return str(error)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate cannot be trusted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke"
    return "no connection to the server"


def _fetch_rest(
    url: str,
    part: Path,
    have: int,
    patience: Patience,
    max_bytes: int,
    stop: threading.Event,
    on_size: Callable[[int], None],
) -> None:
    with _answer(url, {"Range": f"bytes={have}-"} if have else {}, patience) as response:
        if response.status_code in (404, 410):
            raise MissingInput(f"{url}: the server has no such file any more. Run again to list its files anew.")
        if response.status_code == 416 and _range(response)[1] == have:
            return
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Broken("the unfinished file is longer than the server's")
        _check_status(response, url, (200, 206))
        first, total = (0, _length(response)) if response.status_code == 200 else _range(response)
        if first not in (0, have) or (response.status_code == 206 and first != have):
            part.unlink(missing_ok=True)
            raise _Broken("the server sent another part than was asked for")
        if total is not None and total > max_bytes:
            raise _too_large(url, f"{total / 1e6:.1f} MB", max_bytes)
        have = first
        with open(part, "ab" if first else "wb") as stream:
            # read1: what came before a stall is kept, where read would wait for a whole block and lose it.
            while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
                if stop.is_set():
                    raise Stopped
                have += len(block)
                if have > max_bytes:
                    raise _too_large(url, "at least that", max_bytes)
                stream.write(block)
                on_size(have)
            stream.flush()
            os.fsync(stream.fileno())
        _check_length(have, total, url, response)


def _too_large(url: str, found: str, max_bytes: int) -> DataError:
    return DataError(
        f"{url}: {found}, expected at most {max_bytes / 1e6:g} MB for one file. Raise [archive] max_file_gb if that is "
        "right."
    )


def _check_length(found: int, expected: int | None, url: str, response: requests.Response) -> None:
    if expected is not None and found != expected and not response.headers.get("Content-Encoding"):
        raise _Broken(f"{found} of {expected} bytes came")


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _range(response: requests.Response) -> tuple[int, int | None]:
    """First byte and total size of ``Content-Range``; -1 and None where it does not say."""
    found = re.fullmatch(
        r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(?:(\d{1,18})|\*)", response.headers.get("Content-Range", "")
    )
    if found is None:
        return -1, None
    return int(found[1] or -1), None if found[2] is None else int(found[2])


def _check_status(response: requests.Response, url: str, accepted: tuple[int, ...]) -> None:
    code = response.status_code
    if code in accepted:
        return
    if code in _FOR_NOW:
        raise _Broken(f"the server answers {code} {response.reason}")
    raise MissingInput(f"{url}: the server answers {code} {response.reason}. Check [archive] base_url.")


@contextmanager
def _answer(url: str, headers: dict[str, str], patience: Patience) -> Iterator[requests.Response]:
    """Answer to a GET, its body unread; redirects are followed on the same host only."""
    import requests

    # identity: a body that is packed on the way cannot be resumed, and its length is not the file's.
    headers = {"User-Agent": f"cpxt_hpc/{__version__}", "Accept-Encoding": "identity", **headers}
    with requests.Session() as session:
        # Proxies of the environment are used, passwords of a .netrc are not.
        session.auth = lambda request: request
        # requests would read the body of a redirect, however long, and stumble over a bad address.
        session.get_redirect_target = lambda response: None
        for _ in range(MOST_REDIRECTS + 1):
            with session.get(
                url, headers=headers, stream=True, allow_redirects=False, timeout=patience.timeout_s
            ) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = _redirected(url, response.headers["Location"])
    raise DataError(f"{url}: more than {MOST_REDIRECTS} redirects. Check [archive] base_url.")


def _redirected(url: str, location: str) -> str:
    try:
        target = urllib.parse.urljoin(url, location)
    except ValueError:
        target = location
    if _origin(target) != _origin(url):
        raise DataError(f"{url}: sends to {target}, another server. If that is right, set [archive] base_url to it.")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None
