"""Tiny sources of every format, made here, and naive readers of what becomes of them."""

import hashlib
import io
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from watchme.data.prepare.__main__ import main

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Ended:
    """What a command line came to."""

    code: int
    out: str
    err: str


def prepare(*arguments: object) -> Ended:
    """Run `python -m watchme.data.prepare` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def written(ended: Ended) -> tuple[int, int]:
    """How many files a conversion says that it wrote, and how many were there already."""
    line = re.search(r"\((\d+) files new(?:, \d+ of them copies)?, (\d+) there already\)", ended.out)
    assert line is not None, ended.out
    return int(line[1]), int(line[2])


def made(*arguments: object) -> Ended:
    """The same, which must end well."""
    ended = prepare(*arguments)
    assert ended.code == 0, ended.err
    return ended


def run_and_kill(kind: str, after: int, *arguments: object) -> int:
    """Run a conversion in another process that is killed by SIGKILL at its `after`-th call of a kind."""
    script = f"""
import os, shutil, signal, sys
from pathlib import Path
from PIL import Image
from watchme.data.prepare.__main__ import main
calls = 0
def killing(original, half):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == {after}:
            half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call
kind = {kind!r}
if kind == "link":
    os.link = killing(os.link, lambda source, target: None)
elif kind == "rename":
    Path.replace = killing(Path.replace, lambda own, target: None)
elif kind == "write":  # half of a label is written
    Path.write_bytes = killing(Path.write_bytes, lambda own, data: own.open("wb").write(data[: len(data) // 2]))
elif kind == "image":  # half of a JPEG is written
    Image.Image.save = killing(Image.Image.save, lambda own, target, *_: Path(target).write_bytes(b"\\xff\\xd8half"))
elif kind == "pour":
    def half(source, target, *_):
        target.write(b"half")
        target.flush()
    shutil.copyfileobj = killing(shutil.copyfileobj, half)
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


def draw(path: Path, size: tuple[int, int] = (80, 60), seed: int = 0) -> Path:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)
    return path


def state(root: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder: its content and time."""
    return {
        path.relative_to(root).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def content(root: Path) -> dict[str, str]:
    """Every file below a folder: its content."""
    return {name: digest for name, (digest, _) in state(root).items()}


def manifest(root: Path) -> dict[str, Any]:
    """What prepare.json says."""
    loaded: dict[str, Any] = json.loads((root / "prepare.json").read_text())
    return loaded


def labels(root: Path) -> dict[str, list[Corners]]:
    """Image name -> boxes in pixels, read as plainly as can be from a YOLO dataset."""
    found: dict[str, list[Corners]] = {}
    for image in sorted((root / "images").rglob("*.*")):
        with Image.open(image) as opened:
            width, height = opened.size
        text = root / "labels" / image.parent.name / (image.stem + ".txt")
        boxes = []
        for line in text.read_text().splitlines() if text.exists() else ():
            kind, x, y, w, h = line.split()
            assert kind == "0"
            left, top = (float(x) - float(w) / 2) * width, (float(y) - float(h) / 2) * height
            boxes.append((left, top, left + float(w) * width, top + float(h) * height))
        found[image.name] = boxes
    return found


def same(found: Sequence[Corners], expected: Sequence[Corners], tolerance: float = 2e-3) -> bool:
    """Whether two lists of boxes agree, in any order."""
    if len(found) != len(expected):
        return False
    return all(
        max(abs(a - b) for a, b in zip(one, other, strict=True)) < tolerance
        for one, other in zip(sorted(found), sorted(expected), strict=True)
    )


def splits_of(root: Path) -> dict[str, str]:
    """Image name -> split of a YOLO dataset."""
    return {path.name: path.parent.name for path in (root / "images").rglob("*.*")}


def coco(
    root: Path,
    count: int = 30,
    boxes: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    name: str = "photo_{}a.jpg",
    json_name: str = "annotations/instances.json",
    first: int = 0,
) -> Path:
    """A COCO source: images in root/images, and its json; image i has one person unless `boxes` says otherwise."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(first, first + count):
        file_name = name.format(number)
        draw(root / "images" / file_name, seed=number)
        images.append({"id": number + 7, "file_name": file_name, "width": 80, "height": 60})
        own = (boxes or {}).get(number)
        if own is None:
            own = [{"bbox": [10 + number % 20, 5, 20.5, 40.25]}]
        for box in own:
            entry = {"image_id": number + 7, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 2, 3, 4]], **box}
            annotations.append({"id": len(annotations) + 1, **entry})
    path = root / json_name
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@dataclass(frozen=True)
class Track:
    """A row for each frame of a track of a made sequence."""

    number: int
    frames: Sequence[int]
    kind: int = 1
    flag: int = 1
    visibility: float = 1.0
    left: float = 11.0
    top: float = 6.0
    width: float = 30.0
    height: float = 70.0

    def rows(self) -> Iterator[str]:
        for frame in self.frames:
            place = f"{self.left + frame},{self.top},{self.width},{self.height}"
            yield f"{frame},{self.number},{place},{self.flag},{self.kind},{self.visibility}"


def mot(root: Path, name: str, tracks: Sequence[Track], frames: int = 30, size: tuple[int, int] = (120, 90)) -> Path:
    """A sequence in the format of MOT17."""
    folder = root / name
    for frame in range(1, frames + 1):
        draw(folder / "img1" / f"{frame:06d}.jpg", size, seed=zlib.crc32(f"{name} {frame}".encode()))
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("".join(f"{row}\n" for track in tracks for row in track.rows()))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate=30\nseqLength={frames}\n"
        f"imWidth={size[0]}\nimHeight={size[1]}\nimExt=.jpg\n"
    )
    return folder
