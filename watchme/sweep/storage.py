"""Storage of a study: a SQLite file, a journal file for network file systems, or a database by its URL.

A password is never written into a run folder: trials get the URL without it, and read it from the environment.
"""

import contextlib
import functools
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from watchme.core.errors import ConfigError, Problem, WatchmeError
from watchme.sweep.database_password import PASSWORD_VARIABLE, take_password

_KEY = "hydra.sweeper.storage"
_BUSY_S = 120.0
_RENEW_S = 5.0
_BLOCK = 4096
_JOURNAL = "journal:"


class StorageError(WatchmeError):
    """The storage of a study cannot be reached."""


def resolve(text: str | None, folder: Path) -> str:
    """The storage in its canonical form: an absolute URL, or `journal:<absolute path>`; never with a password.

    `hydra.sweeper.storage` null is `study.db` in the sweep's folder.

    Raises:
        ConfigError: If it is not a storage.
    """
    text = None if text is None else take_password(text)
    if text is None:
        return _sqlite_url(folder.resolve() / "study.db")
    if text.startswith("journal:") or text.endswith((".journal", ".log")):
        path = text.removeprefix("journal:").removeprefix("//")
        return _JOURNAL + str(Path(path).expanduser().resolve())
    if "://" not in text and text.endswith((".db", ".sqlite", ".sqlite3")):
        return _sqlite_url(Path(text).expanduser().resolve())
    try:
        url = make_url(text)
    except SQLAlchemyError:
        url = None
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise ConfigError(
            [
                Problem(
                    _KEY,
                    "expected null (study.db in the sweep's folder), a path ending in .db or .journal, or a URL: "
                    "sqlite:///..., postgresql://user@host/database, mysql://...",
                    repr(text),
                )
            ]
        )
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ConfigError([Problem(_KEY, "trials in other processes need a file: sqlite:///<path>", repr(text))])
        return _sqlite_url(Path(str(url.database)).expanduser().resolve())
    # The drivers that the extras install; the default of SQLAlchemy depends on its version.
    url = url.set(
        drivername={"mysql": "mysql+pymysql", "postgresql": "postgresql+psycopg"}.get(url.drivername, url.drivername)
    )
    return url.render_as_string(hide_password=False)


def _sqlite_url(path: Path) -> str:
    """The URL of a SQLite file; what a URL cannot hold would be another file, which nobody looks for."""
    url = f"sqlite:///{path}"
    if make_url(url).database != str(path):
        expected = "`?` and `%20` in the path of a study.db mean something else to the database; rename the folder"
        raise ConfigError([Problem(_KEY, expected, repr(str(path)))])
    return url


@functools.lru_cache(maxsize=4)
def open_storage(url: str) -> BaseStorage:
    """Open a storage by the name that `resolve` returned; once per process.

    Raises:
        ConfigError: If the database's driver is not installed.
        StorageError: If the database does not answer.
    """
    if url.startswith(_JOURNAL):
        path = url.removeprefix(_JOURNAL)
        return JournalStorage(JournalFileBackend(path, _RepairingLock(path)))
    if url.startswith("sqlite:"):
        # Several processes write: one that waits for another is no error.
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_S}}
    else:
        options = {"pool_pre_ping": True}
    try:
        return RDBStorage(_with_password(url), engine_kwargs=options)
    except ImportError:
        raise _no_driver(url) from None
    except SQLAlchemyError as error:
        raise _silence(error, url) from None


class _RepairingLock(JournalFileSymlinkLock):  # type: ignore[misc]
    """Optuna's lock of a journal; before each write it removes a last line that a killed process left incomplete.

    Otherwise the next write would be appended to that line, and the journal could never be read again. The study loses
    nothing: the process that wrote the line died before it could act on it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = Path(path)

    def acquire(self) -> bool:
        """Wait for the lock, then repair the journal."""
        acquired = bool(super().acquire())
        with self.path.open("rb+") as file:
            end = start = file.seek(0, os.SEEK_END)
            newline = -1
            while start > 0 and newline < 0:
                stop, start = start, max(0, start - _BLOCK)
                file.seek(start)
                newline = file.read(stop - start).rfind(b"\n")
            if start + newline + 1 < end:
                file.truncate(start + newline + 1)
        return acquired


def turn(url: str, study: str) -> Callable[[], AbstractContextManager[None]]:
    """A lock that all processes of a study share, on any machine.

    Its holder may create the study, count trials, and take the next one, so that a budget is met exactly. When the
    holder dies, the operating system frees the lock of a SQLite file and the server that of a database, at once; that
    of a journal is freed by the next process that waits for it, after 30 s in which the holder has not renewed it.
    """
    for prefix in (_JOURNAL, "sqlite:///"):
        if url.startswith(prefix):
            Path(url.removeprefix(prefix)).parent.mkdir(parents=True, exist_ok=True)
    here = threading.Lock()
    enter: Callable[[], AbstractContextManager[None]]
    if url.startswith(_JOURNAL):
        enter = functools.partial(_journal_turn, url.removeprefix(_JOURNAL) + ".turn")
    elif url.startswith("sqlite:"):
        enter = functools.partial(_file_turn, Path(url.removeprefix("sqlite:///") + ".turn"))
    else:
        try:
            engine = sqlalchemy.create_engine(_with_password(url), pool_pre_ping=True)
        except ImportError:
            raise _no_driver(url) from None
        name = int(hashlib.sha256(study.encode()).hexdigest()[:15], 16)
        enter = functools.partial(_database_turn, engine, name)

    @contextlib.contextmanager
    def taken() -> Iterator[None]:
        with here, enter():
            yield

    return taken


@contextlib.contextmanager
def _file_turn(path: Path) -> Iterator[None]:
    """SQLite's lock on an empty file beside the study: it works on every system and ends with its process."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


@contextlib.contextmanager
def _journal_turn(path: str) -> Iterator[None]:
    """Optuna's lock file, renewed while it is held: others take it after 30 s without a change."""
    lock = JournalFileOpenLock(path)
    lock.acquire()
    released = threading.Event()

    def renew() -> None:
        while not released.wait(_RENEW_S):
            with contextlib.suppress(OSError):
                os.utime(path + ".lock")

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        released.set()
        renewing.join()
        with contextlib.suppress(RuntimeError):
            lock.release()


@contextlib.contextmanager
def _database_turn(engine: sqlalchemy.Engine, name: int) -> Iterator[None]:
    """An advisory lock of the session: the server frees it when the connection ends."""
    postgres = engine.dialect.name == "postgresql"
    take = "SELECT pg_advisory_lock(:name)" if postgres else "SELECT GET_LOCK(:name, 600)"
    free = "SELECT pg_advisory_unlock(:name)" if postgres else "SELECT RELEASE_LOCK(:name)"
    values = {"name": name if postgres else f"watchme-{name:x}"}
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(take), values)
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text(free), values)
    except sqlalchemy.exc.OperationalError as error:
        raise _silence(error, engine.url.render_as_string()) from None


def _silence(error: SQLAlchemyError, url: str) -> StorageError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return StorageError(
        f"The study's storage does not answer: {cause}\n    {_KEY}={url}\n"
        "    Is the server running, does the database exist, may this user create tables in it?"
    )


def _no_driver(url: str) -> ConfigError:
    extra = "postgresql" if url.startswith("postgresql") else "mysql"
    return ConfigError([Problem(_KEY, f"its driver is not installed: uv sync --extra {extra}", repr(url))])


def _with_password(url: str) -> str:
    parsed = make_url(url)
    password = os.environ.get(PASSWORD_VARIABLE)
    if parsed.password is None and password and parsed.get_backend_name() != "sqlite":
        parsed = parsed.set(password=password)
    return parsed.render_as_string(hide_password=False)
