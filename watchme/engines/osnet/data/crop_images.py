"""Images of a list of crops: read from disk at the network's size, or kept in memory."""

import hashlib
import itertools
import math
import multiprocessing
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from watchme.core.errors import DataError
from watchme.data import images
from watchme.data.formats.market1501 import Crop


def read_image(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file, see `resized`.

    Raises:
        DataError: If the file is missing, truncated or no image.
    """
    try:
        image = images.read_image(path)
    except DataError as error:
        raise DataError(f"{error}\n    Repair or remove it.") from None
    return resized(image, (height, width))


def resized(image: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 of an RGB image, resized bilinearly to (height, width) with Pillow, as torchvision's Resize."""
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def padded_batch(crops: Sequence[npt.NDArray[np.uint8]], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Crops at the network's size, (N, H, W, 3) uint8, the last one repeated up to one of few numbers N.

    torch (oneDNN's primitives) and onnxruntime keep memory for each number of images that they have met: on a CPU
    osnet_x0_25 with 1 to 40 crops took 250 MB more, with these numbers 20 MB.
    """
    images = [resized(Image.fromarray(crop), size) for crop in crops]
    count = len(images)
    wanted = -(-count // 8) * 8 if count > 8 else 1 << (count - 1).bit_length()
    return np.stack(images + images[-1:] * (wanted - count))


class Images:
    """The images of a list of crops, at the network's size; in memory if asked for.

    Args:
        crops: What to read. A tracklet has several images.
        size: (height, width), pixels.
        cache: `ram` reads all of them now, with 8 threads, into one (N, H, W, 3) uint8 tensor that workers share.

    Attributes:
        files: Every image, those of a tracklet in a row; `images[n]` reads the nth.
        owners: For each image the number of its crop.
        parts: For each crop the numbers of its images.
    """

    def __init__(self, crops: Sequence[Crop], size: tuple[int, int], cache: str) -> None:
        self.crops = crops
        self.files = [path for crop in crops for path in crop.files]
        self.owners = [number for number, crop in enumerate(crops) for _ in crop.files]
        ends = list(itertools.accumulate(len(crop.files) for crop in crops))
        self.parts = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        self.size = size
        self.memory: Tensor | None = None
        if cache == "ram":
            self.memory = torch.empty((len(self.files), *size, 3), dtype=torch.uint8)
            view = self.memory.numpy()
            with ThreadPoolExecutor(8) as pool:
                for index, image in enumerate(pool.map(lambda path: read_image(path, *size), self.files)):
                    view[index] = image
            # Forked workers share it as it is; /dev/shm may be too small for it.
            if multiprocessing.get_start_method() != "fork":
                self.memory.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def bytes_each(self) -> int:
        """Size of an image as it travels, a byte a colour."""
        return math.prod(self.size) * 3

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if self.memory is not None:
            return self.memory[index].numpy()
        return read_image(self.files[index], *self.size)

    def __len__(self) -> int:
        """How many crops there are."""
        return len(self.crops)


@dataclass(frozen=True)
class Gallery:
    """Query and gallery images of one split."""

    query: Images
    gallery: Images


def fingerprint(crops: Sequence[Crop]) -> str:
    """Hash over names and sizes of the files and who is on them by which camera, 20 hexadecimal digits."""
    digest = hashlib.sha256()
    for crop in crops:
        for path in crop.files:
            digest.update(f"{path.parent.name}/{path.name} {_size_of(path)} {crop.pid} {crop.cam}\n".encode())
    return digest.hexdigest()[:20]


def _size_of(path: Path) -> int | str:
    try:
        found = path.stat()
    except OSError:  # what is not there, as a link to nowhere, is an error when it is read
        return "absent"
    return found.st_size if stat.S_ISREG(found.st_mode) else "absent"
