"""An archive on this machine that can be told to break, stall, truncate, redirect and lie."""

from __future__ import annotations

import contextlib
import http.server
import threading


class ArchiveServer:
    """Files by path below ``/byobsid``, and what is wrong with the server.

    Attributes
    ----------
    files : dict of str to bytes
        ``/byobsid/7/7/primary/NAME`` and its content. Folders list themselves.
    faults : dict of str to list
        For a path, what happens to its next requests, one after the other: a function of the handler and the content
        that answers itself and returns True, or None for a right answer.
    extra_names : list of str
        Further links on every page.
    requests : list of (str, str)
        Path and Range header of every request.
    """

    def __init__(self):
        self.files = {}
        self.faults = {}
        self.extra_names = []
        self.requests = []
        self.release = threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                owner._answer(self)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/cdaftp"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_for(self, name):
        """Range headers of the requests of a file, in their order."""
        return [asked for path, asked in self.requests if path.endswith("/" + name)]

    def _answer(self, handler):
        path = handler.path.removeprefix("/cdaftp")
        self.requests.append((path, handler.headers.get("Range", "")))
        content = self.files.get(path)
        faults = self.faults.get(path, [])
        fault = faults.pop(0) if faults else None
        with contextlib.suppress(ConnectionError):
            if fault is not None and fault(handler, content):
                return
            if path.endswith("/"):
                names = [name.removeprefix(path) for name in self.files if name.startswith(path)]
                self._page(handler, [*names, *self.extra_names] if names else None)
            else:
                send(handler, content)

    def _page(self, handler, names):
        if names is None:
            handler.send_error(404)
            return
        links = "".join(f'<li><a href="{name}">{name}</a></li>' for name in ["../", *names])
        body = f"<html><body><ul>{links}</ul></body></html>".encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def send(handler, content, *, honest_range=True, length=None, stated=None, cut=None):
    """Send a file, the rest of it where a Range is asked for.

    ``length`` is a false Content-Length, ``stated`` a false Content-Range, ``cut`` the bytes after which the connection
    closes.
    """
    if content is None:
        handler.send_error(404)
        return True
    asked = handler.headers.get("Range", "")
    first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and honest_range else 0
    if asked and honest_range and first >= len(content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(content)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True
    body = content[first:]
    if asked and honest_range:
        handler.send_response(206)
        handler.send_header("Content-Range", stated or f"bytes {first}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body if cut is None else body[:cut])
    if cut is not None or length is not None:
        handler.wfile.flush()
        handler.close_connection = True
    return True


def breaks_after(n_bytes):
    return lambda handler, content: send(handler, content, cut=n_bytes)


def ignores_range(handler, content):
    return send(handler, content, honest_range=False)


def states_length(length):
    return lambda handler, content: send(handler, content, length=length)


def states_range(text):
    return lambda handler, content: send(handler, content, stated=text)


def sends(other):
    """Other content than the file's."""
    return lambda handler, content: send(handler, other, honest_range=False)


def answers(code, **headers):
    def answer(handler, content):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return answer


def redirects(target):
    return answers(302, Location=target)


def redirects_with_endless_body(target):
    def answer(handler, content):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 65536)
        return True

    return answer


def closes(handler, content):
    """End the connection without an answer."""
    handler.close_connection = True
    return True


def endless(handler, content):
    """Send without end, and without saying how much."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)
    return True


def stalls_after(server, n_bytes):
    """Send a part, then nothing, until the test ends."""

    def answer(handler, content):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:n_bytes])
        handler.wfile.flush()
        server.release.wait()
        handler.close_connection = True
        return True

    return answer


def without_length(handler, content):
    """HTTP/1.0: the end of the connection is the end of the file."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)
    handler.close_connection = True
    return True


def calls_it_packed(handler, content):
    """What some servers add to every .gz file, though it is the file itself that is packed."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "x-gzip")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True
