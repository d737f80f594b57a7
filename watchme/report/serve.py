"""A server of the index and reports that follows runs while they train; on the loopback interface unless asked."""

import ipaddress
import json
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from watchme.core.errors import RunFolderError
from watchme.report.index_page import INDEX, render, run_data
from watchme.report.run_page import REPORT
from watchme.report.run_page import render as render_run
from watchme.report.run_reader import find_runs, read_run


class _Handler(SimpleHTTPRequestHandler):
    """Renders `/`, `/runs.json` and `report.html` of a run at each request; other files come as they are."""

    def do_GET(self) -> None:
        """Answer a request, unless a foreign page reached this server by a name that it gave to this address."""
        if not self._is_admitted():
            return
        root = Path(self.directory)
        path = unquote(urlsplit(self.path).path)
        if "\0" in path:
            self.send_error(404)
        elif path in ("/", f"/{INDEX}"):
            self._answer(render(root, find_runs(root), served=True), "text/html")
        elif path == "/runs.json":
            self._answer(json.dumps(run_data(root, find_runs(root)), default=str), "application/json")
        elif path.endswith(f"/{REPORT}") and (page := self._report()) is not None:
            self._answer(page, "text/html")
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        """Answer for a file without its content."""
        if self._is_admitted():
            super().do_HEAD()

    def _is_admitted(self) -> bool:
        admitted = _is_own_name(self.headers.get("Host", ""))
        if not admitted:
            self.send_error(403, "Use the address that the server printed")
        return admitted

    def _report(self) -> str | None:
        folder = Path(self.translate_path(self.path)).parent
        try:
            return render_run(read_run(folder), served=True)
        except RunFolderError:
            return None

    def _answer(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that left before its answer is no error; anything else is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(root: Path, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server of the runs in a folder; call its `serve_forever`.

    A `host` other than the loopback interface shows the runs to the network; `port` 0 takes a free one.

    Raises:
        OSError: If the address is taken or not of this machine.
        OverflowError: If there is no such port.
    """
    return _Server((host, port), partial(_Handler, directory=str(root)))


def _is_own_name(host: str) -> bool:
    """Whether a Host header is localhost or an IP address, which a foreign web page cannot make its own."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
