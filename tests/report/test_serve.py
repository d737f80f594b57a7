"""The server of the index and reports."""

import http.client
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from report.conftest import add_run
from tracking.made_up import Tracked, make_config
from watchme.report.__main__ import _serve
from watchme.report.serve import make_server


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server of a folder with one run, beside a file that it must not serve."""
    root = tmp_path_factory.mktemp("served")
    (root / "secret.txt").write_text("secret")
    add_run(root / "outputs", "run", 0.1)
    with make_server(root / "outputs") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def status(port: int, path: str, host: str = "localhost", method: str = "GET") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status


def test_server_follows_a_run_and_answers_only_by_its_own_name(tmp_path: Path) -> None:
    run = Tracked.begin(tmp_path / "run", make_config())
    run.epochs(1, 1, pictures=False)
    with make_server(tmp_path) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"

        def get(path: str, host: str | None = None) -> str:
            request = urllib.request.Request(address + path, headers={"Host": host} if host else {})
            with urllib.request.urlopen(request, timeout=20) as answer:
                return str(answer.read().decode())

        assert json.loads(get("/runs.json"))[0]["epochs"] == 1
        run.epochs(2, 3, pictures=False)
        (shown,) = json.loads(get("/runs.json"))
        assert (shown["epochs"], shown["last"], shown["status"]) == (3, 0.57, "running")
        assert 'data-served="1"' in get("/")
        assert "location.reload()" in get("/run/report.html")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get("/", "evil.example:80")
        server.shutdown()
    run.end("finished", run.result())
    assert "location.reload()" not in (run.folder / "report.html").read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/run/..%2f..%2fsecret.txt",
        "/%00",
        "/run%00/report.html",
        "/gone/report.html",
    ],
)
def test_what_is_not_in_the_folder_is_not_found(port: int, path: str) -> None:
    assert status(port, path) == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", ["evil.example", "[::1", ""])
def test_other_names_are_refused(port: int, host: str, method: str) -> None:
    assert status(port, "/run/report.html", host, method) == 403


def test_a_browser_that_leaves_is_no_error(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    with closing(socket.create_connection(("127.0.0.1", port))) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset on close
        browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(port, "/") == 200
    for answering in set(threading.enumerate()) - threads:
        answering.join(20)
    assert capsys.readouterr().err == ""


def test_an_address_that_cannot_be_had_is_said_in_two_lines(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for taken in (port, 99999):
        assert _serve(tmp_path, "127.0.0.1", taken) == 2
        first, fix = capsys.readouterr().err.splitlines()
        assert first.startswith(f"Cannot listen on 127.0.0.1:{taken}: ")
        assert fix == "    Choose another --port, or 0 for a free one"
