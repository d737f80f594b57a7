"""Broken datasets of both formats: a small sound one, spoilt in some of many ways that a seed chooses."""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
# By an independent list: what people mean by an image. Files without a suffix, or of other tools, are none.
SUFFIXES = re.compile(
    r"\.(bmp|jpe?g|mpo|png|tiff?|webp|arw|avif|cr[23]|dng|exr|gif|hdr|hei[cf]|ico|j2k|jfif|jp2|jpe|jp[fx]|jxl|nef|orf|"
    r"pbm|pcx|pfm|pgm|pnm|ppm|psd|raf|raw|rw2|svg|tga)$",
    re.IGNORECASE,
)
Rng = random.Random
Spoil = Callable[[Path, Rng], object]


def images_in(folder: Path) -> set[str]:
    """Every image below a folder by its suffix, links to folders followed once."""
    found, seen = set(), set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found |= {f"{base}/{name}" for name in files if SUFFIXES.search(name)}
    return found


def noise(seed: int, size: tuple[int, int] = (32, 48)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def detection(root: Path, rng: Rng) -> None:
    """Nine images with labels, in the standard layout."""
    for split, count in (("train", 6), ("val", 3)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            noise(rng.randrange(10**6)).save(root / "images" / split / f"a{number}.jpg")
            (root / "labels" / split / f"a{number}.txt").write_text("0 0.5 0.5 0.4 0.6\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [person]\n")


def reid(root: Path, rng: Rng) -> None:
    """Four people to train on and two to find, two cameras."""
    for folder, people, images in (
        ("bounding_box_train", (1, 2, 3, 4), 2),
        ("query", (8, 9), 1),
        ("bounding_box_test", (8, 9), 2),
    ):
        (root / folder).mkdir(parents=True)
        for person in people:
            for camera in (1, 2):
                for number in range(images):
                    name = f"{person:04d}_c{camera}s1_{number:06d}_0{number}.jpg"
                    noise(rng.randrange(10**6)).save(root / folder / name)


def _some(root: Path, rng: Rng) -> Path:
    """An image of the training part."""
    place = root / "images" / "train" if (root / "images").is_dir() else root / FOLDERS[0]
    found = sorted(
        path for path in place.rglob("*") if path.suffix == ".jpg" and not path.is_symlink() and path.is_file()
    )
    return rng.choice(found) if found else place / "none.jpg"


def _label(root: Path, rng: Rng) -> Path:
    place = root / "labels" / "train"
    place.mkdir(parents=True, exist_ok=True)
    found = sorted(place.rglob("*.txt"))
    return rng.choice(found) if found else place / "new.txt"


def _as(suffix: str, **options: object) -> Spoil:
    """Saved again in another format, with that suffix or the old one."""

    def spoil(root: Path, rng: Rng) -> None:
        path = _some(root, rng)
        if not path.exists():
            return
        target = path.with_suffix(rng.choice((suffix, ".jpg", suffix.upper())))
        content = noise(rng.randrange(10**6))
        path.unlink()
        content.convert(str(options.get("mode", "RGB"))).save(target, str(options["kind"]))

    return spoil


def _bytes(content: Callable[[bytes], bytes]) -> Spoil:
    def spoil(root: Path, rng: Rng) -> None:
        path = _some(root, rng)
        if path.exists():
            path.write_bytes(content(path.read_bytes()))

    return spoil


def _array(make: Callable[[], Image.Image], suffix: str) -> Spoil:
    def spoil(root: Path, rng: Rng) -> None:
        path = _some(root, rng)
        path.unlink(missing_ok=True)
        make().save(path.with_suffix(suffix))

    return spoil


def _special(make: Callable[[Path], object]) -> Spoil:
    """The image's place is taken by something else."""

    def spoil(root: Path, rng: Rng) -> None:
        path = _some(root, rng)
        path.unlink(missing_ok=True)
        make(path)

    return spoil


def _named(name: str | bytes) -> Spoil:
    """A copy of an image, and of its label, with another name; {} is its own."""

    def spoil(root: Path, rng: Rng) -> None:
        path = _some(root, rng)
        if not path.exists():
            return
        text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
        target = path.parent / text.replace("{}", path.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    return spoil


def _oriented(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(1).save(path, exif=exif)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder_loop(root: Path, rng: Rng) -> None:
    path = _some(root, rng)
    (path.parent / "loop").symlink_to(path.parent, target_is_directory=True)


def _linked_folder(root: Path, rng: Rng) -> None:
    path = _some(root, rng)
    if path.exists():
        other = root.parent / f"{root.name}_elsewhere"
        other.mkdir(exist_ok=True)
        shutil.move(path, other / path.name)
        (path.parent / "linked").symlink_to(other, target_is_directory=True)


IMAGES: tuple[Spoil, ...] = (
    _bytes(lambda data: data[: len(data) // 2]),
    _bytes(lambda data: b""),
    _bytes(lambda data: b"<!DOCTYPE html><html>404</html>"),
    _bytes(lambda data: data[:-2]),
    _bytes(lambda data: data + b"trailing bytes"),
    _bytes(lambda data: b"\0" * 500),
    _as(".jpg", kind="JPEG", mode="CMYK"),
    _as(".gif", kind="GIF"),
    _as(".png", kind="PNG", mode="P"),
    _as(".png", kind="PNG", mode="LA"),
    _as(".webp", kind="WEBP"),
    _as(".tif", kind="TIFF"),
    _as(".bmp", kind="BMP"),
    _as(".ppm", kind="PPM"),
    _array(lambda: Image.fromarray(np.full((48, 32), 40_000, np.uint16)), ".png"),
    _array(lambda: Image.fromarray(np.random.default_rng(0).random((48, 32)).astype(np.float32)), ".tif"),
    _array(lambda: Image.fromarray(np.full((48, 32), 10**6, np.int32)), ".tif"),
    _array(lambda: Image.new("RGB", (1, 1)), ".jpg"),
    _array(lambda: Image.new("RGB", (50_000, 12)), ".png"),
    _array(lambda: Image.new("1", (32, 48)), ".png"),
    _special(os.mkfifo),
    _special(lambda path: path.symlink_to("nowhere.jpg")),
    _special(_loop),
    _special(lambda path: path.mkdir()),
    _special(_oriented),
    _folder_loop,
    _linked_folder,
    _named("{} with space.jpg"),
    _named("{}.JPG"),
    _named("{}.jpeg.jpg"),
    _named("{}_Caf\u00e9.jpg"),
    _named("{}_Cafe\u0301.jpg"),
    _named("{}_" + "n" * 200 + ".jpg"),
    _named("sub/{}.jpg"),
    _named("sub/deeper/{}.png"),
    _named(b"{}_\xff\xfe.jpg"),
    _named("__MACOSX/._{}.jpg"),
    _named("._{}.jpg"),
    _named("Thumbs.db"),
    _named(".DS_Store"),
    _named("{}.heic"),
    _named("{}.jfif"),
    _named("{}"),
    _named("{}'quote\"$HOME`x`.jpg"),
    _named("{}\nnewline.jpg"),
    _named("{}%d%s{}.jpg"),
)
_LINES = (
    b"",
    b"\n\n",
    b"0 0.5 0.5 nan 0.2\n",
    b"0 inf 0.5 0.2 0.2\n",
    b"0 -0.5 0.5 0.2 0.2\n",
    b"0 1.5 0.5 0.2 0.2\n",
    b"0 0.5 0.5 -0.2 0.2\n",
    b"0 0.5 0.5 0.2 0.2 0.9\n",
    b"0 0.5 0.5 0.2 0.2 0.9 7\n",
    b"0 0.5 0.5\n",
    b"5 0.5 0.5 0.2 0.2\n",
    b"-1 0.5 0.5 0.2 0.2\n",
    b"0.5 0.5 0.5 0.2 0.2\n",
    b"1e400 0.5 0.5 0.2 0.2\n",
    b"person 0.5 0.5 0.2 0.2\n",
    b"0 320 240 50 80\n",
    b"0,0.5,0.5,0.2,0.2\n",
    b"0\t0.5\t0.5\t0.2\t0.2\r\n",
    b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n",
    b"\xff\xfe0\x00 \x00",
    b"0 0.5 0.5 0.2 0.2\0\n",
    b"0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n",
    b"0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.9 0.1 0.9 0.9\n",
    b"0 0.5 0.5 0.2 0.2\n" * 3000,
    b"0 0.5 0.5 0 0\n",
    b"9" * 400 + b" 0.5 0.5 0.2 0.2\n",
    b"0 0,5 0,5 0,2 0,2\n",
    "\u0660 0.5 0.5 0.2 0.2\n".encode(),
)
_YAMLS = (
    "",
    "[]",
    "train: images/train\nval: images/val\nnc: 1000000000\n",
    "train: images/train\nval: images/val\nnc: 3\nnames: [person]\n",
    "train: images/train\nval: images/val\nnames: {1: person}\n",
    "train: images/train\nval: images/val\nnames: {null: person}\n",
    "train: images/train\nval: images/val\nnames: {a: person}\n",
    "train: images/train\nval: images/val\nnames: person\n",
    "train: images/train\nval: images/val\nnames: [person, person]\n",
    "train: images/train\nval: images/val\nnames: []\n",
    "train: images/train\nval: images/val\nnc: -1\n",
    "train: images/train\nval: images/val\nnc: .inf\n",
    "train: images/train\nval: images/val\nnames: [person]\nkpt_shape: [17]\n",
    "train: images/train\nval: images/val\nnames: [person]\nkpt_shape: [100000000000, 3]\n",
    "path: /home/somebody/data\ntrain: images/train\nval: images/val\nnames: [person]\n",
    "train: /home/somebody/data/train\nval: /home/somebody/data/val\nnames: [person]\n",
    "train: ..\\train\\images\nval: C:\\x\\valid\nnames: [person]\n",
    "\ttrain: images/train\n",
    "train: images/train\ntrain: images/val\nval: images/val\nnames: [person]\n",
    "train: images/train\nval: images/train\nnames: [person]\n",
    "train: [images/train, images/val]\nval: images/val\nnames: [person]\n",
    "train: {a: images/train}\nval: images/val\nnames: [person]\n",
    "train: images/train\nval: list.txt\nnames: [person]\n",
    "train: ~nobody_of_that_name/x\nval: images/val\nnames: [person]\n",
    "train: " + "x" * 5000 + "\nval: images/val\nnames: [person]\n",
    'train: "a\\0b"\nval: images/val\nnames: [person]\n',
    "date: 2024-13-45\ntrain: images/train\nval: images/val\nnames: [person]\n",
    "a: &a [*a]\ntrain: images/train\nval: images/val\nnames: [person]\n",
    "[" * 3000,
    "? [1, 2]\n: 3\ntrain: images/train\n",
    "!!python/object/apply:os.system ['true']\n",
    "names: [person]\n",
    "train: images/train\nval:\nnames: [person]\n",
    "\ufefftrain: images/train\nval: images/val\nnames: [person]\n",
    "train: .\nval: .\nnames: [person]\n",
    "train: /\0\nval: images/val\n",
)


def _write_label(content: bytes) -> Spoil:
    return lambda root, rng: _label(root, rng).write_bytes(content)


def _write_yaml(content: str) -> Spoil:
    return lambda root, rng: (root / "data.yaml").write_text(content)


def _label_is(make: Callable[[Path], object]) -> Spoil:
    def spoil(root: Path, rng: Rng) -> None:
        path = _label(root, rng)
        path.unlink(missing_ok=True)
        make(path)

    return spoil


def _orphan(root: Path, rng: Rng) -> None:
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "orphan.txt").write_text("0 0.5 0.5 0.2 0.2\n")


def _overlap(root: Path, rng: Rng) -> None:
    path = _some(root, rng)
    if path.exists():
        shutil.copy(path, root / "images" / "val" / path.name)


def _list(root: Path, rng: Rng) -> None:
    lines = [f"./images/train/a{number}.jpg" for number in range(6)] + ["", "images/train/gone.jpg", "../x.jpg"]
    (root / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    (root / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [person]\n")


DETECTION: tuple[Spoil, ...] = (
    *map(_write_label, _LINES),
    *map(_write_yaml, _YAMLS),
    _label_is(lambda path: None),
    _label_is(os.mkfifo),
    _label_is(_loop),
    _label_is(lambda path: path.mkdir()),
    lambda root, rng: shutil.rmtree(root / "labels", ignore_errors=True),
    lambda root, rng: shutil.rmtree(root / "images" / "val", ignore_errors=True),
    lambda root, rng: (root / "data.yaml").unlink(missing_ok=True),
    _orphan,
    _overlap,
    _list,
)


def _renamed(name: Callable[[str], str], folder: int = 0, share: float = 1.0) -> Spoil:
    """Images of a folder under other names."""

    def spoil(root: Path, rng: Rng) -> None:
        for path in sorted((root / FOLDERS[folder]).glob("*.jpg")):
            if path.is_file() and rng.random() < share:
                path.rename(path.with_name(name(path.name)))

    return spoil


def _keep(folder: int, keep: Callable[[str], bool]) -> Spoil:
    def spoil(root: Path, rng: Rng) -> None:
        for path in sorted((root / FOLDERS[folder]).glob("*.jpg")):
            if not keep(path.name):
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()

    return spoil


def _everywhere(name: Callable[[str], str]) -> Spoil:
    def spoil(root: Path, rng: Rng) -> None:
        for folder in range(3):
            _renamed(name, folder)(root, rng)

    return spoil


def _without_test(root: Path, rng: Rng) -> None:
    for folder in FOLDERS[1:]:
        shutil.rmtree(root / folder, ignore_errors=True)


REID: tuple[Spoil, ...] = (
    _everywhere(lambda name: f"{int(name[:4]) - 1:04d}{name[4:]}" if name[:4].isdecimal() else name),
    _renamed(lambda name: "-1" + name[4:], 0, 0.3),
    _renamed(lambda name: "-5" + name[4:], 0, 0.3),
    _renamed(lambda name: "0000" + name[4:], 0, 0.4),
    _renamed(lambda name: "9" * 18 + name[4:], 0, 0.3),
    _renamed(lambda name: "9" * 30 + name[4:], 0, 0.3),
    _renamed(lambda name: "anna" + name[4:], 0, 0.3),
    _renamed(lambda name: name.replace("_c", "_"), 0, 0.3),
    _renamed(lambda name: name.replace("_c1s1", "_c999999999s1"), 0),
    _renamed(lambda name: name.replace("_c1s1", "_c0s1"), 0),
    _everywhere(lambda name: name.replace("_c2s1", "_c1s2")),
    _renamed(lambda name: name.replace("_c2s1", "_c1s2"), 0),
    _keep(0, lambda name: name.startswith("0001")),
    _keep(0, lambda name: "_00.jpg" in name and "_c1" in name),
    _keep(0, lambda name: False),
    _keep(1, lambda name: False),
    _keep(2, lambda name: False),
    _keep(2, lambda name: not name.startswith("0008")),
    lambda root, rng: shutil.rmtree(root / FOLDERS[1], ignore_errors=True),
    _without_test,
    lambda root, rng: shutil.rmtree(root / FOLDERS[0], ignore_errors=True),
    lambda root, rng: [
        shutil.copy(path, root / FOLDERS[2]) for path in (root / FOLDERS[0]).glob("0001*.jpg") if path.is_file()
    ],
    lambda root, rng: (root / FOLDERS[0] / "notes.txt").write_text("x") if (root / FOLDERS[0]).is_dir() else None,
)


def make(root: Path, seed: int, kind: str) -> None:
    """A broken dataset of `kind` (detection, reid): sound, then spoilt in one to four ways."""
    rng = random.Random(f"{kind} {seed}")
    {"detection": detection, "reid": reid}[kind](root, rng)
    ways = (*IMAGES, *(DETECTION if kind == "detection" else REID))
    # Each way comes first once; the others are drawn.
    chosen = [ways[seed % len(ways)], *rng.choices(ways, k=rng.randrange(4))]
    for spoil in chosen:
        try:
            spoil(root, rng)
        except (OSError, ValueError):
            continue  # what an earlier way took away
