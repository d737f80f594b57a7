"""One reader of images: every part sees the same pixels, or says that a file is not read."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from watchme.core.errors import DataError
from watchme.data.check.image_probe import probe_image
from watchme.data.images import read_image
from watchme.engines.osnet.data.crop_images import read_image as read_crop
from watchme.engines.person_search.embed_frames import read_frame
from watchme.engines.yolo import checked_copy as yolo_dataset
from watchme.engines.yolo.data_yaml import read_layout
from watchme.engines.yolo.isolation import isolate
from watchme.inference.pictures import PictureSource
from watchme.io.image_files import files_in
from yolo.world import draw_dataset

Pixels = npt.NDArray[np.uint8]
WIDE, HIGH = 48, 32
LEVELS = (np.add.outer(np.arange(HIGH) * 5, np.arange(WIDE)) % 256).astype(np.uint8)
COLOURS = np.stack([LEVELS, LEVELS[::-1], LEVELS[:, ::-1]], axis=2)
GREY = np.repeat(LEVELS[:, :, None], 3, axis=2)


def turned(pixels: Pixels) -> tuple[Image.Image, Image.Exif]:
    """An image stored as a camera that lay on its side does, and the EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels))), exif


def make(kind: str, folder: Path) -> tuple[Path, "Pixels | None"]:
    """A file, and the pixels that everybody must see; None: nobody reads it."""
    path = folder / f"x{kind[kind.index('.') : kind.index(' ')] if ' ' in kind else kind[kind.index('.') :]}"
    wide = LEVELS.astype(np.uint16) << 8
    if "16 bit" in kind:
        Image.fromarray(wide | 0x7F).save(path)
        return path, GREY
    if "float" in kind:
        Image.fromarray(LEVELS.astype(np.float32) / 255).save(path)
        return path, None
    if "32 bit" in kind:
        Image.fromarray(LEVELS.astype(np.int32) * 100_000).save(path)
        return path, None
    if "gif" in kind:
        Image.fromarray(COLOURS).save(path, "GIF")
        return path, None
    if "turned" in kind:
        image, exif = turned(COLOURS)
        options: dict[str, dict[str, Any]] = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
        image.save(path, exif=exif, **options.get(path.suffix, {}))
        return path, COLOURS
    if "palette" in kind:
        image = Image.fromarray(COLOURS).convert("P")
        image.save(path)
        return path, np.asarray(image.convert("RGB"))
    if "alpha" in kind:
        Image.fromarray(np.dstack([COLOURS, LEVELS])).save(path)
        return path, COLOURS
    Image.fromarray(GREY if "grey" in kind else COLOURS).save(path)
    return path, GREY if "grey" in kind else COLOURS


KINDS = [
    ".png", ".bmp", ".tif", ".png grey", ".png palette", ".png alpha", ".png 16 bit", ".tif 16 bit",
    ".jpg turned", ".png turned", ".webp turned", ".tif turned", ".tif float", ".tif 32 bit", ".jpg gif",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_sees_the_same_pixels_or_refuses_the_file(kind: str, tmp_path: Path) -> None:
    path, expected = make(kind, tmp_path)
    root = draw_dataset(tmp_path / "d", {"train": 2, "val": 2})
    path.rename(root / "images" / "train" / path.name)
    path = root / "images" / "train" / path.name
    probe = probe_image(path)
    yaml, scan = yolo_dataset.prepare(read_layout(root), None)
    if expected is None:
        assert probe.fault
        assert scan.splits["train"]["unreadable"] == 1
        assert len(scan.skipped) == 1
        assert scan.skipped[0].startswith(str(path))
        for read in (read_image, read_frame, lambda path: read_crop(path, HIGH, WIDE)):
            with pytest.raises(DataError, match=rf"{path.name} cannot be read as an image: "):
                read(path)
        return
    assert (probe.fault, probe.width, probe.height) == ("", WIDE, HIGH)
    assert scan.splits["train"] == {"images": 3, "boxes": 1, "negatives": 2, "unlabelled": 2, "unreadable": 0}
    (copied,) = (yaml.parent / "images" / "train").glob("x.*")
    isolate()  # before ultralytics is imported
    from ultralytics.utils.patches import imread

    seen = imread(str(copied))
    assert seen is not None
    tolerance = 3 if path.suffix == ".jpg" else 0
    for pixels in (np.asarray(read_image(path)), read_frame(path), read_crop(path, HIGH, WIDE), seen[:, :, ::-1]):
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_a_fifo_is_refused_and_does_not_block(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 2, "val": 2})
    path = root / "images" / "train" / "x.jpg"
    os.mkfifo(path)
    told: list[object] = []

    def run() -> None:
        told.append(probe_image(path).fault)
        told.append(yolo_dataset.prepare(read_layout(root), None)[1].skipped)
        try:
            read_image(path)
        except DataError as error:
            told.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert told == [
        "it is not a regular file",
        [f"{path} (it is not a regular file)"],
        f"{path} cannot be read as an image: it is not a regular file",
    ]


def test_a_converted_image_takes_no_name_of_another(tmp_path: Path) -> None:
    root = draw_dataset(tmp_path / "d", {"train": 2, "val": 2})
    folder = root / "images" / "train"
    Image.fromarray(LEVELS.astype(np.uint16) << 8).save(folder / "x.tif")
    Image.fromarray(COLOURS).save(folder / "x.png")
    yaml, scan = yolo_dataset.prepare(read_layout(root), None)
    assert scan.converted == 1
    assert sorted(path.name for path in (yaml.parent / "images" / "train").iterdir()) == [
        "000.jpg", "001.jpg", "_x.png", "x.png",
    ]  # fmt: skip


def test_links_to_nowhere_and_to_themselves_are_files(tmp_path: Path) -> None:
    """A link to itself made its whole folder one that cannot be listed."""
    (tmp_path / "a.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "again").symlink_to(tmp_path)
    assert sorted(path.name for path in files_in(tmp_path)) == ["a.jpg", "gone.jpg", "loop.jpg"]
    pictures = PictureSource(str(tmp_path), sorted(files_in(tmp_path)), tmp_path)
    assert len(pictures.paths) == 3
