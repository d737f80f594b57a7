"""The lines that a growing log file has got since the last look."""

from pathlib import Path


class LogTail:
    """Reads a file piece by piece, in whole lines.

    Args:
        path: The file, which need not be there yet.
        place: Where to begin, in bytes; further on than the file is long: at its beginning.
    """

    def __init__(self, path: Path, place: int = 0) -> None:
        self._path = path
        self.place = place

    def read(self, *, rest: bool = False) -> str:
        """The whole lines since the last call; with `rest`, a last line without its end too."""
        try:
            size = self._path.stat().st_size
            if size < self.place:
                self.place = 0
            if size == self.place:
                return ""
            with self._path.open("rb") as file:
                file.seek(self.place)
                found = file.read(size - self.place)
        except OSError:
            return ""
        whole = len(found) if rest else found.rfind(b"\n") + 1
        self.place += whole
        return found[:whole].decode(errors="replace")
