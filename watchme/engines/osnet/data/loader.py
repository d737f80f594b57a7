"""Images from disk or memory to batches. A file that cannot be read ends the run with its name, from any worker."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from watchme.core.errors import DataError
from watchme.data import images
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import ReidAugmentation, ReidDataset
from watchme.engines.osnet.data.augmentation import augment, to_network
from watchme.engines.osnet.data.sampler import Draw, EpochBatches
from watchme.engines.osnet.data.tracklets import sample_frames


class Batch(NamedTuple):
    """Images and what is known of them.

    Attributes:
        images: (B, 3, H, W) float32, channels last in memory.
        labels: (B,) int64: class index in training, identity in evaluation.
        cams: (B,) int64.
        indices: (B,) int64, place in the list of crops; an item of several images is there as often.
        error: Why an image could not be read; empty if all could.
    """

    images: Tensor
    labels: Tensor
    cams: Tensor
    indices: Tensor
    error: str = ""


def read_image(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, resized bilinearly with Pillow as torchvision's Resize does.

    Raises:
        DataError: If the file is missing, truncated or no image.
    """
    try:
        image = images.read_image(path)
    except DataError as error:
        raise DataError(f"{error}\n    Repair or remove it.") from None
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


class Images:
    """The images of a list of crops, at the network's size; in memory if asked for.

    Args:
        crops: What to read. A tracklet has several images.
        size: (height, width), pixels.
        cache: `ram` reads all of them now, with 8 threads, into one shared (N, H, W, 3) uint8 tensor.

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
            self.memory.share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        if self.memory is not None:
            return self.memory[index].numpy()
        return read_image(self.files[index], *self.size)

    def __len__(self) -> int:
        """How many crops there are."""
        return len(self.crops)


class _Shown(NamedTuple):
    """One image of a draw; a draw of a tracklet, or with `k_tfm`, has several."""

    draw: Draw
    place: int  # among the draw's images
    file: int


class TrainSet(Dataset[Any]):
    """Augmented training images, a batch at a time. A key is a `Draw`, which fixes the augmentation.

    As in torchreid, each image of a tracklet is augmented on its own and trained with the identity's label.

    Args:
        images: What is drawn from.
        classes: Identity -> class index.
        augmentation: Probabilities and parameters.
        dataset: How many views of an image there are, and which images of a tracklet; None: one view.
    """

    def __init__(
        self,
        images: Images,
        classes: dict[int, int],
        augmentation: ReidAugmentation,
        dataset: ReidDataset | None = None,
    ) -> None:
        self.images = images
        self.classes = classes
        self.augmentation = augmentation
        self.dataset = dataset

    def __getitems__(self, draws: list[Draw]) -> Batch:
        shown = [each for draw in draws for each in self._shown(draw)]
        crops = [self.images.crops[each.draw.image] for each in shown]
        labels = [self.classes[crop.pid] for crop in crops]
        indices = [each.draw.image for each in shown]
        return _batch(map(self._augmented, shown), crops, labels, indices, self.images.size)

    def _shown(self, draw: Draw) -> list[_Shown]:
        files: Sequence[int] = self.images.parts[draw.image]
        if self.dataset is not None:
            if self.dataset.tracklets:
                rng = np.random.default_rng((draw.seed, draw.epoch, draw.position, 0, 1))
                length, method = self.dataset.seq_len, self.dataset.sample_method
                files = [files[place] for place in sample_frames(len(files), length, method, rng)]
            files = [*files] * self.dataset.k_tfm
        return [_Shown(draw, place, file) for place, file in enumerate(files)]

    def _augmented(self, shown: _Shown) -> npt.NDArray[np.float32]:
        draw = shown.draw
        rng = np.random.default_rng((draw.seed, draw.epoch, draw.position, shown.place))
        return augment(self.images[shown.file], self.augmentation, rng, self._other)

    def _other(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        return self.images[int(rng.integers(len(self.images.files)))]


class EvalSet(Dataset[Any]):
    """Images as they are, normalised, a batch at a time."""

    def __init__(self, images: Images, *, normalize: bool) -> None:
        self.images = images
        self.normalize = normalize

    def __getitems__(self, indices: list[int]) -> Batch:
        owners = [self.images.owners[index] for index in indices]
        crops = [self.images.crops[owner] for owner in owners]
        pixels = (to_network(self.images[index], normalize=self.normalize) for index in indices)
        return _batch(pixels, crops, [crop.pid for crop in crops], owners, self.images.size)

    def __len__(self) -> int:
        return len(self.images.files)


def _batch(
    pixels: Iterable[npt.NDArray[np.float32]],
    crops: Sequence[Crop],
    labels: Sequence[int],
    indices: Sequence[int],
    size: tuple[int, int],
) -> Batch:
    """Fill a batch. An error of an image travels as text: raised in a worker it would arrive as a traceback."""
    images = torch.empty((len(crops), *size, 3))
    view = images.numpy()
    try:
        for place, image in enumerate(pixels):
            view[place] = image
    except DataError as error:
        empty = torch.empty(0)
        return Batch(empty, empty, empty, empty, str(error))
    cams = torch.tensor([crop.cam for crop in crops])
    # Colours last in memory, as convolutions like it, and first in the shape, as the network wants it.
    return Batch(images.permute(0, 3, 1, 2), torch.tensor(labels), cams, torch.tensor(indices))


def as_it_is(batch: Any) -> Any:
    """Collate nothing: the datasets make batches."""
    return batch


def raise_for(batch: Batch) -> Batch:
    """The batch, or the error that it carries."""
    if batch.error:
        raise DataError(batch.error)
    return batch


def train_loader(dataset: TrainSet, batches: EpochBatches, workers: int, seed: int, *, pin: bool) -> "DataLoader[Any]":
    """Loader whose batches are decided by `batches`, epoch by epoch."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=as_it_is,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Its own, since it draws from the global generator once a start, and a resumed run starts once more.
        generator=torch.Generator().manual_seed(seed),
    )


def stop_workers(loader: "DataLoader[Any]") -> None:
    """End the processes of a loader that keeps them between epochs.

    They end by themselves when it is collected, which the traceback of an error or of Ctrl-C puts off.
    """
    iterator = getattr(loader, "_iterator", None)
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
        loader._iterator = None


def eval_loader(
    dataset: EvalSet, batch_size: int, workers: int, *, pin: bool, order: Sequence[int] | None = None
) -> "DataLoader[Any]":
    """Loader in the order of the images, or in one that is given."""
    chosen: Any = order  # any sequence of numbers is a sampler
    return DataLoader(dataset, batch_size, sampler=chosen, num_workers=workers, collate_fn=as_it_is, pin_memory=pin)


def fingerprint(crops: Sequence[Crop]) -> str:
    """Hash over names and sizes of the files, 20 hexadecimal digits."""
    digest = hashlib.sha256()
    for crop in crops:
        for path in crop.files:
            digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:20]
