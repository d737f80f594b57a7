"""Rules of the `export` group that hold for every engine, checked without torch."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from watchme.core.errors import Problem


def export_problems(formats: Sequence[str], place: str, example: str, *, fp16: bool, int8: bool) -> Iterator[Problem]:
    """Formats that are named twice or lack what they are made from, and a `place` that is not like `example`."""
    if len(set(formats)) < len(formats):
        yield Problem("export.formats", "names a format twice", repr(formats))
    for key, asked in (("fp16", fp16), ("int8", int8)):
        if asked and "onnx" not in formats:
            yield Problem(f"export.{key}", "is made from onnx: add it to export.formats", "True")
    path = PurePosixPath(place)
    if not place or path.is_absolute() or ".." in path.parts:
        expected = f"expected a path below the backend's folder, e.g. {example}"
        yield Problem("export.place", expected, repr(place))
