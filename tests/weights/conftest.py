"""A file server on the loopback, and a cache and environment of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from watchme.weights.download import MIRROR_VARIABLE, OFFLINE_VARIABLES
from weights.file_server import FileServer

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of fetched weights."""
    for name in (*OFFLINE_VARIABLES, MIRROR_VARIABLE, *PROXIES, *(name.upper() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WATCHME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"
