"""Fetches published weights once into watchme's cache, checked by size and sha256; never where offline mode forbids it.

pooch's own registry is not used, only its downloader (http_transfer.py): it cannot record hashes at first use, nor try
several places, nor lock.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from watchme.core.errors import CheckpointError
from watchme.io.cache import cache_dir
from watchme.io.files import locked
from watchme.weights.checksum import difference, record, record_path, recorded, sha256_of
from watchme.weights.http_transfer import BrokenTransferError, TransferError, transfer_file
from watchme.weights.model_zoo import PublishedWeights

log = logging.getLogger(__name__)

OFFLINE_VARIABLES: Final = ("WATCHME_OFFLINE", "HF_HUB_OFFLINE", "YOLO_OFFLINE")
MIRROR_VARIABLE: Final = "WATCHME_WEIGHTS"
FIRST_BYTE_S = 9.0  # for all places together, so that without network the error comes within 10 s
RETRY_AFTER_S = (1.0, 3.0)  # after a 5xx or a broken transfer; a server that cannot be reached is not retried


def weights_dir() -> Path:
    """The cache folder of fetched weights, and of files that a user puts there by hand."""
    return cache_dir() / "weights"


def offline() -> str | None:
    """The environment variable that forbids the use of the network; None where none does."""
    enabled = {"1", "true", "yes", "on"}
    return next((name for name in OFFLINE_VARIABLES if os.environ.get(name, "").lower() in enabled), None)


def is_address(text: str) -> bool:
    """Whether a text is an http(s) or file address."""
    return text.lower().startswith(("http://", "https://", "file://"))


def fetch(weights: PublishedWeights) -> Path:
    """Return published weights from the cache, fetching them first where they are not there.

    Raises:
        CheckpointError: If they cannot be fetched; it names every place that was asked and what each answered. Also if
            the cached file is not the published one, or no longer the one that was fetched.
    """
    ways_out = (
        f"with network, here or elsewhere: python -m watchme.weights fetch {weights.key}",
        f"by a browser: {weights.page}, then into {weights_dir()}",
        f"from a folder or server that has it: {MIRROR_VARIABLE}=<folder or address>",
        "random weights: model.weights=null",
    )
    path = weights_dir() / weights.file
    places = [*_mirror(weights.file), *weights.urls]
    return _Download(path, places, weights.size, weights.sha256, str(weights), ways_out).result()


def fetch_address(address: str) -> Path:
    """Return the file of an http(s) address from the cache, fetching it first; a file address gives its own path.

    Raises:
        CheckpointError: As for `fetch`, or if a file address names no file.
    """
    if address.lower().startswith("file://"):
        path = _local(address)
        if not path.is_file():
            raise CheckpointError(f"{address}: there is no file {path}")
        return path
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name or "weights"
    path = weights_dir() / "addresses" / hashlib.sha256(address.encode()).hexdigest()[:12] / name
    ways_out = ("a file: model.weights=<file>", "random weights: model.weights=null")
    return _Download(path, [address], None, None, name, ways_out).result()


@dataclass(frozen=True)
class _Download:
    """A file of the cache, and where to get it from."""

    path: Path
    places: list[str]
    size: int | None
    sha256: str | None
    what: str
    ways_out: tuple[str, ...]

    def result(self) -> Path:
        if not self.path.is_file():
            if offline() and all(place.lower().startswith("http") for place in self.places):
                self.give_up([f"{place}: not asked, {offline()} is set" for place in self.places])
            with self.alone():
                if not self.path.is_file():  # else another process has fetched it meanwhile
                    self.from_any_place()
        return self.checked()

    def checked(self) -> Path:
        """Compare the file with the published hash, or with the recorded one, which is written at first use."""
        if found := difference(self.path, self.size, self.sha256 or recorded(self.path)):
            raise CheckpointError(
                f"{self.path} is not the published file, or no longer the one that was fetched: {found}. Delete it to "
                f"fetch it again, together with {record_path(self.path).name} if the published file has changed."
            )
        if recorded(self.path) is None:
            record(self.path, sha256_of(self.path))
        return self.path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the file's lock, so that of many processes one fetches and the others wait for it."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with contextlib.ExitStack() as held:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    held.enter_context(locked(lock, wait=False))
                except BlockingIOError:
                    log.info("Another process fetches %s; waiting for it", self.what)
                    held.enter_context(locked(lock))
            except OSError as error:
                raise CheckpointError(
                    f"{self.what} cannot be fetched into {self.path.parent}: {error.strerror}. WATCHME_CACHE names "
                    "another cache folder."
                ) from None
            yield

    def from_any_place(self) -> None:
        parts = self.path.with_name(f".{self.path.name}.part")
        shutil.rmtree(parts, ignore_errors=True)  # of a process that was killed
        answers: list[str] = []
        left = FIRST_BYTE_S
        for place in self.places:
            # The first places leave time for the next ones.
            patience = left if place == self.places[-1] else 0.6 * left
            started = time.monotonic()
            try:
                fetched = self.from_place(place, parts, patience)
                if found := difference(fetched, self.size, self.sha256 or recorded(self.path)):
                    raise TransferError(found)
            except TransferError as failure:
                answers.append(f"{place}: {failure}")
                left = max(1.0, left - (time.monotonic() - started))
            else:
                record(self.path, sha256_of(fetched))
                fetched.replace(self.path)
                log.info("Fetched %s into %s (sha256 %s)", self.what, self.path, recorded(self.path))
                return
            finally:
                shutil.rmtree(parts, ignore_errors=True)
        self.give_up(answers)

    def from_place(self, place: str, parts: Path, patience: float) -> Path:
        """Fetch a place's file into a folder of its own in `parts`; raises `TransferError`."""
        parts.mkdir(parents=True, exist_ok=True)
        if not place.lower().startswith("http"):
            source = _local(place)
            if not source.is_file():
                raise TransferError("not there")
            return Path(shutil.copyfile(source, parts / self.path.name))
        if offline():
            raise TransferError(f"not asked, {offline()} is set")
        log.info("Fetching %s from %s", self.what, place)
        waits = iter(RETRY_AFTER_S)
        while True:
            try:
                return transfer_file(place, Path(tempfile.mkdtemp(dir=parts), self.path.name), patience)
            except BrokenTransferError as failure:
                wait = next(waits, None)
                if wait is None:
                    raise
                log.warning("%s: %s; trying again in %g s", place, failure, wait)
                time.sleep(wait)

    def give_up(self, answers: list[str]) -> NoReturn:
        tried = "\n".join(f"    {line}" for line in [f"{self.path}: not there", *answers])
        ways_out = "\n".join(f"    {line}" for line in self.ways_out)
        raise CheckpointError(
            f"{self.what} is not on this machine and could not be fetched:\n{tried}\nWays out:\n{ways_out}"
        )


def _mirror(file: str) -> Iterator[str]:
    """The file's place on the mirror that WATCHME_WEIGHTS names, as an address."""
    if named := os.environ.get(MIRROR_VARIABLE):
        base = named if is_address(named) else Path(named).expanduser().resolve().as_uri()
        yield f"{base.rstrip('/')}/{urllib.parse.quote(file)}"


def _local(address: str) -> Path:
    from urllib.request import url2pathname  # http and ssl come with it

    return Path(url2pathname(urllib.parse.urlsplit(address).path))
