"""The sha256 of weights files: compared with the published one, or with the one that was recorded at first use."""

import contextlib
import hashlib
from pathlib import Path

from watchme.io.files import replace_text


def sha256_of(path: Path) -> str:
    """Hash a file; 100 MB take about 0.1 s."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def difference(path: Path, size: int | None, sha256: str | None) -> str | None:
    """What a file's size or hash differs in, as text; None where it has both, or where none is known."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found:,} bytes instead of {size:,}"
    if sha256 is not None and (hashed := sha256_of(path)) != sha256:
        return f"its sha256 is {hashed}, expected {sha256}"
    return None


def record_path(path: Path) -> Path:
    """Where a file's hash is recorded, in the format of `sha256sum -c`."""
    return path.with_name(f"{path.name}.sha256")


def recorded(path: Path) -> str | None:
    """The recorded hash of a file."""
    try:
        words = record_path(path).read_text(encoding="utf-8").split()
    except OSError:
        return None
    return words[0] if words else None


def record(path: Path, sha256: str) -> None:
    """Record a file's hash beside it."""
    with contextlib.suppress(OSError):  # a cache that an administrator filled may be read-only
        replace_text(record_path(path), f"{sha256}  {path.name}\n")
