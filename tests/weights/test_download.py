"""Fetching over HTTP from a server of our own: whole, once, checked, and with one clear error where it fails."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from watchme.core.errors import CheckpointError
from watchme.weights import download, http_transfer
from watchme.weights.download import OFFLINE_VARIABLES, fetch, fetch_address
from watchme.weights.model_zoo import PublishedWeights
from weights.file_server import CONTENT, FileServer, send, slowly

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def weights(server: FileServer) -> PublishedWeights:
    server.files["/a.pt"] = CONTENT
    return PublishedWeights(
        name="a.pt",
        engine="yolo",
        architecture="yolo11n",
        file="a.pt",
        trained_on="COCO",
        urls=(f"{server.address}/a.pt",),
        page="https://example.org/page",
        licence="AGPL-3.0",
        size=len(CONTENT),
        sha256=SHA256,
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_AFTER_S", (0.0, 0.0))


def error_of(weights: PublishedWeights) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(weights)
    return str(caught.value)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} if folder.is_dir() else set()


def test_fetches_once_and_records_the_hash_for_sha256sum(
    weights: PublishedWeights, server: FileServer, cache: Path
) -> None:
    path = fetch(weights)
    assert path == cache / "a.pt"
    assert path.read_bytes() == CONTENT
    assert (cache / "a.pt.sha256").read_text() == f"{SHA256}  a.pt\n"
    assert fetch(weights) == path
    assert server.asked == ["/a.pt"]
    assert files_in(cache) == {"a.pt", "a.pt.sha256"}


def test_follows_a_redirect(weights: PublishedWeights, server: FileServer) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/a.pt")
        handler.end_headers()

    server.answers["/old.pt"] = moved
    assert fetch(replace(weights, urls=(f"{server.address}/old.pt",))).read_bytes() == CONTENT


@pytest.mark.parametrize(("size", "expected"), [(None, "its sha256 is"), (5, "102,404 bytes instead of 5")])
def test_another_file_than_the_published_one_is_refused(
    weights: PublishedWeights, cache: Path, size: int | None, expected: str
) -> None:
    text = error_of(replace(weights, size=size, sha256="0" * 64))
    assert expected in text
    assert files_in(cache) == set()


def test_a_truncated_transfer_is_tried_again_and_then_refused(
    weights: PublishedWeights, server: FileServer, cache: Path
) -> None:
    server.answers["/a.pt"] = lambda handler: send(handler, CONTENT, sent=CONTENT[:1000])
    text = error_of(replace(weights, size=None, sha256=None))
    assert "broke off" in text
    assert len(server.asked) == 3
    assert files_in(cache) == set()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_tried_again(weights: PublishedWeights, server: FileServer, status: int) -> None:
    server.answers["/a.pt"] = lambda handler: handler.send_error(status)
    assert f"/a.pt: {status} " in error_of(weights)
    assert len(server.asked) == 1


def test_a_server_error_is_tried_again(weights: PublishedWeights, server: FileServer) -> None:
    def once(handler: BaseHTTPRequestHandler) -> None:
        if len(server.asked) == 1:
            handler.send_error(500)
        else:
            send(handler, CONTENT)

    server.answers["/a.pt"] = once
    assert fetch(weights).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_login_page_is_no_weights_file(weights: PublishedWeights, server: FileServer) -> None:
    server.answers["/a.pt"] = lambda handler: send(handler, b"<html>Log in</html>", kind="text/html; charset=utf-8")
    assert "a web page instead of a file" in error_of(replace(weights, size=None, sha256=None))


def test_the_next_place_is_asked_after_one_that_fails(weights: PublishedWeights, server: FileServer) -> None:
    both = replace(weights, urls=(f"{server.address}/missing.pt", *weights.urls))
    assert fetch(both).read_bytes() == CONTENT
    assert server.asked == ["/missing.pt", "/a.pt"]


def test_a_server_that_does_not_answer_is_given_up_on(
    weights: PublishedWeights, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_BYTE_S", 1.0)
    server.answers["/a.pt"] = server.hang
    assert "no answer within 1 s" in error_of(weights)


def test_a_server_that_hangs_in_the_middle_is_given_up_on(
    weights: PublishedWeights, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transfer, "STALL_S", 0.3)
    server.answers["/a.pt"] = server.hang_in_the_middle
    assert "broke off" in error_of(weights)


def test_without_a_network_one_error_says_everything_within_one_limit_for_all_places(
    weights: PublishedWeights, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listening socket whose queue nobody accepts from behaves as a firewall that drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("WATCHME_WEIGHTS", f"{address}/mirror/")
        assert download.FIRST_BYTE_S <= 9, "the error comes within 10 s"
        monkeypatch.setattr(download, "FIRST_BYTE_S", 4.0)
        started = time.monotonic()
        text = error_of(replace(weights, urls=(f"{address}/hub/a.pt", f"{address}/drive/a.pt")))
        assert time.monotonic() - started < 8, "each of three places may take 4 s"
    for expected in (
        "a.pt (yolo11n trained on COCO)",
        f"{cache / 'a.pt'}: not there",
        f"{address}/mirror/a.pt: no answer",
        f"{address}/hub/a.pt: no answer",
        f"{address}/drive/a.pt: no answer",
        "https://example.org/page",
        "python -m watchme.weights fetch a.pt",
        "WATCHME_WEIGHTS",
        "model.weights=null",
    ):
        assert expected in text


@pytest.mark.parametrize("variable", OFFLINE_VARIABLES)
def test_offline_mode_opens_no_connection(
    weights: PublishedWeights, cache: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    text = error_of(weights)
    assert f"not asked, {variable} is set" in text
    assert f"{cache / 'a.pt'}: not there" in text
    with pytest.raises(CheckpointError, match="not asked"):
        fetch_address("http://127.0.0.1:9/a.pt")
    cache.mkdir(parents=True)
    (cache / "a.pt").write_bytes(CONTENT)
    assert fetch(weights) == cache / "a.pt"


@pytest.mark.parametrize("kind", ["folder", "file address", "http address"])
def test_a_mirror_is_asked_first(
    weights: PublishedWeights, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "the mirror"
    folder.mkdir()
    (folder / "a.pt").write_bytes(CONTENT)
    server.files["/mirror/a.pt"] = CONTENT
    named = {"folder": str(folder), "file address": folder.as_uri(), "http address": f"{server.address}/mirror"}[kind]
    monkeypatch.setenv("WATCHME_WEIGHTS", named)
    if kind != "http address":
        monkeypatch.setenv("WATCHME_OFFLINE", "1")  # a folder needs no network
    assert fetch(weights).read_bytes() == CONTENT
    assert server.asked == (["/mirror/a.pt"] if kind == "http address" else [])


def test_a_mirror_without_the_file_leaves_it_to_the_source(
    weights: PublishedWeights, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHME_WEIGHTS", str(tmp_path))
    assert fetch(weights).read_bytes() == CONTENT
    assert server.asked == ["/a.pt"]


def test_a_proxy_of_the_environment_is_used(
    weights: PublishedWeights, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is asked for the whole address."""
    server.files["http://weights.invalid/a.pt"] = CONTENT
    monkeypatch.setenv("HTTP_PROXY", server.address)
    assert fetch(replace(weights, urls=("http://weights.invalid/a.pt",))).read_bytes() == CONTENT
    assert server.asked == ["http://weights.invalid/a.pt"]


def test_a_changed_cache_file_is_an_error(weights: PublishedWeights, cache: Path) -> None:
    unpinned = replace(weights, size=None, sha256=None)
    fetch(unpinned)
    (cache / "a.pt").write_bytes(CONTENT + b"!")
    assert "no longer the one that was fetched: its sha256 is" in error_of(unpinned)
    (cache / "a.pt").unlink()
    assert fetch(unpinned).read_bytes() == CONTENT


def test_a_changed_source_is_noticed_at_the_next_fetch(
    weights: PublishedWeights, server: FileServer, cache: Path
) -> None:
    unpinned = replace(weights, size=None, sha256=None)
    fetch(unpinned).unlink()
    server.files["/a.pt"] = CONTENT + b"!"
    assert f"expected {SHA256}" in error_of(unpinned)
    (cache / "a.pt.sha256").unlink()
    assert fetch(unpinned).read_bytes() == CONTENT + b"!"


def test_what_a_killed_process_left_is_cleared_away(weights: PublishedWeights, cache: Path) -> None:
    (cache / ".a.pt.part" / "x").mkdir(parents=True)
    (cache / ".a.pt.part" / "x" / "a.pt").write_bytes(CONTENT[:10])
    assert fetch(weights).read_bytes() == CONTENT
    assert files_in(cache) == {"a.pt", "a.pt.sha256"}


def test_a_cache_that_cannot_be_written_is_named(
    weights: PublishedWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WATCHME_CACHE", str(tmp_path / "file"))
    assert "WATCHME_CACHE names another cache folder" in error_of(weights)


def test_ten_processes_at_once_fetch_once(server: FileServer, cache: Path) -> None:
    server.answers["/yolov9t.pt"] = slowly
    command = [sys.executable, "-m", "watchme.weights", "fetch", "yolov9t.pt"]
    environment = {**os.environ, "WATCHME_WEIGHTS": server.address}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert out.strip() == str(cache / "yolov9t.pt")
    assert (cache / "yolov9t.pt").read_bytes() == CONTENT
    assert server.asked == ["/yolov9t.pt"]


def test_addresses(server: FileServer, tmp_path: Path, cache: Path) -> None:
    server.files["/runs/7/best.pt?token=1"] = CONTENT
    server.files["/runs/8/best.pt"] = CONTENT[:-1]
    path = fetch_address(f"{server.address}/runs/7/best.pt?token=1")
    assert path.name == "best.pt"
    assert path.is_relative_to(cache)
    assert path.read_bytes() == CONTENT
    assert fetch_address(f"{server.address}/runs/8/best.pt").read_bytes() == CONTENT[:-1]
    assert fetch_address(f"{server.address}/runs/7/best.pt?token=1") == path
    assert len(server.asked) == 2
    with pytest.raises(CheckpointError, match=r"/none\.pt: 404"):
        fetch_address(f"{server.address}/none.pt")
    own = tmp_path / "my own.pt"
    own.write_bytes(CONTENT)
    assert fetch_address(own.as_uri()) == own
    with pytest.raises(CheckpointError, match="there is no file"):
        fetch_address((tmp_path / "none.pt").as_uri())
