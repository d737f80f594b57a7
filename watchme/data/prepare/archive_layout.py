"""How the paths in an archive of a re-ID dataset map to the dataset's layout, whatever folders they are packed in."""

from collections.abc import Iterable
from dataclasses import dataclass

from watchme.data.formats.reid_datasets import DatasetLayout


@dataclass(frozen=True)
class Move:
    """Entries below `origin` go below `target`; both are folders, "" is the root."""

    origin: str
    target: str

    def __call__(self, name: str) -> str | None:
        """Where an entry goes; None if it is elsewhere in the archive."""
        if self.origin and not name.startswith(f"{self.origin}/"):
            return None
        rest = name[len(self.origin) + 1 :] if self.origin else name
        return f"{self.target}/{rest}" if self.target else rest


def find_move(dataset: DatasetLayout, paths: set[str]) -> tuple[Move, int] | None:
    """How an archive's files and folders map to a dataset's layouts: the move that satisfies most paths, and how many.

    A path of the layout is found in the archive by its end; the folders before it, there and here, make a move. None
    where the archive holds none of them.
    """
    ends: dict[str, list[str]] = {}
    for path in paths:
        ends.setdefault(path.rpartition("/")[2], []).append(path)
    best: tuple[tuple[int, int], Move] | None = None
    for layout in dataset.layouts:
        for move in {move for wanted in layout for move in _moves(wanted, ends.get(wanted.rpartition("/")[2], ()))}:
            hits = sum(_origin(move, wanted) in paths for wanted in layout)
            # Of equals the one that is least deep, and keeps the names of its folders.
            rank = (hits, -move.origin.count("/") - move.target.count("/") - bool(move.origin) - bool(move.target))
            if hits and (best is None or rank > best[0]):
                best = rank, move
    return None if best is None else (best[1], best[0][0])


def _moves(wanted: str, paths: Iterable[str]) -> Iterable[Move]:
    for path in paths:
        there, here = path.split("/"), wanted.split("/")
        common = 0
        while common < min(len(there), len(here)) and there[-1 - common] == here[-1 - common]:
            common += 1
        yield Move("/".join(there[: len(there) - common]), "/".join(here[: len(here) - common]))


def _origin(move: Move, wanted: str) -> str | None:
    """The archive's path that would become `wanted`."""
    if move.target and not wanted.startswith(f"{move.target}/"):
        return None
    rest = wanted[len(move.target) + 1 :] if move.target else wanted
    return f"{move.origin}/{rest}" if move.origin else rest
