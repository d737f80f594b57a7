"""Torch datasets and data loaders of training and evaluation: uint8 batches.

A file that cannot be read ends the run with its name, whichever worker has read it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from watchme.core.errors import DataError, TrainingError
from watchme.core.resources import SHARED_MEMORY, free_shared_memory
from watchme.engines.osnet.config import ReidAugmentation, ReidDataset
from watchme.engines.osnet.data.augmentation import augment
from watchme.engines.osnet.data.crop_images import Images
from watchme.engines.osnet.data.sampler import Draw, EpochBatches
from watchme.engines.osnet.data.tracklets import sample_frames


class Batch(NamedTuple):
    """Images and their labels, as a worker makes them."""

    images: Tensor  # (B, H, W, 3) uint8 RGB
    labels: Tensor  # (B,) int64: class index in training, identity in evaluation
    indices: Tensor  # (B,) int64, place in the list of crops; an item of several images is there as often
    erased: Tensor | None = None  # (B, 4) int64 rectangles to erase, see `to_network`; None without random erasing
    error: str = ""  # why an image could not be read; empty if all could


class View(NamedTuple):
    """An image of a draw; a draw of a tracklet, or with `k_tfm`, has several."""

    draw: Draw
    place: int  # among the draw's images
    file: int

    def rng(self) -> np.random.Generator:
        """Decides its augmentation."""
        draw = self.draw
        return np.random.default_rng((draw.seed, draw.epoch, draw.position, self.place))


@dataclass(eq=False)
class TrainSet(Dataset[Any]):
    """Augmented training images, a batch at a time. A key is a `Draw`, which fixes the augmentation.

    As in torchreid, each image of a tracklet is augmented on its own and trained with the identity's label.
    """

    images: Images
    classes: dict[int, int]  # identity -> class index
    augmentation: ReidAugmentation
    dataset: ReidDataset | None = None  # None: one view of an image

    def __getitems__(self, draws: list[Draw]) -> Batch:
        views = [each for draw in draws for each in self.views(draw)]
        labels = [self.classes[self.images.crops[each.draw.image].pid] for each in views]
        erased = torch.zeros((len(views), 4), dtype=torch.int64) if self.augmentation.random_erase else None

        def augmented() -> Iterator[npt.NDArray[np.uint8]]:
            for place, view in enumerate(views):
                image, box = augment(self.images[view.file], self.augmentation, view.rng(), self._other)
                if erased is not None and box is not None:
                    erased[place] = torch.tensor(box)
                yield image

        indices = [each.draw.image for each in views]
        return _batch(augmented(), labels, indices, self.images.size)._replace(erased=erased)

    def views(self, draw: Draw) -> list[View]:
        """The images of a draw, each augmented on its own."""
        files: Sequence[int] = self.images.parts[draw.image]
        if self.dataset is not None:
            if self.dataset.tracklets:
                rng = np.random.default_rng((draw.seed, draw.epoch, draw.position, 0, 1))
                length, method = self.dataset.seq_len, self.dataset.sample_method
                files = [files[place] for place in sample_frames(len(files), length, method, rng)]
            files = [*files] * self.dataset.k_tfm
        return [View(draw, place, file) for place, file in enumerate(files)]

    def _other(self, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        return self.images[int(rng.integers(len(self.images.files)))]


class EvalSet(Dataset[Any]):
    """Images as they are, a batch at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitems__(self, indices: list[int]) -> Batch:
        owners = [self.images.owners[index] for index in indices]
        labels = [self.images.crops[owner].pid for owner in owners]
        return _batch((self.images[index] for index in indices), labels, owners, self.images.size)

    def __len__(self) -> int:
        return len(self.images.files)


def _batch(
    pixels: Iterable[npt.NDArray[np.uint8]], labels: Sequence[int], indices: Sequence[int], size: tuple[int, int]
) -> Batch:
    """Fill a batch. An error of an image travels as text: raised in a worker it would arrive as a traceback."""
    images = torch.empty((len(labels), *size, 3), dtype=torch.uint8)
    view = images.numpy()
    try:
        for place, image in enumerate(pixels):
            view[place] = image
    except DataError as error:
        empty = torch.empty(0)
        return Batch(empty, empty, empty, error=str(error))
    return Batch(images, torch.tensor(labels), torch.tensor(indices))


def share(batch: Any) -> Any:
    """Put a batch that a worker has made into shared memory, here, where too little of it raises an error.

    The thread that sends batches would do so, but lose the batch on an error, and the run would wait for it for ever.
    """
    if get_worker_info() is not None:
        for part in batch:
            if isinstance(part, Tensor):
                part.share_memory_()  # type: ignore[no-untyped-call]
    return batch


def read_batches(loader: "DataLoader[Any]") -> Iterator[Batch]:
    """The batches of an epoch.

    Raises:
        DataError: If an image cannot be read.
        TrainingError: If a worker was killed or there is too little shared memory.
    """
    try:
        for batch in loader:
            if batch.error:
                raise DataError(batch.error)
            yield batch
    except (RuntimeError, OSError) as error:
        raise_for_shared_memory(error)
        raise


def raise_for_shared_memory(error: Exception) -> None:
    """Raise a TrainingError that names the fix, if an error of torch is due to a full /dev/shm or a killed worker."""
    signs = ("shared memory", "/torch_", "is killed by signal", "exited unexpectedly")
    # What a worker raised comes with its traceback.
    said = next((line for line in str(error).splitlines() if any(sign in line for sign in signs)), None)
    if said is None:
        return
    free = free_shared_memory()
    left = "" if free is None else f"; {free / 2**20:.0f} MB of {SHARED_MEMORY} are free"
    raise TrainingError(
        f"the loader's processes are out of memory or were killed{left}.\n"
        "    Docker gives a container 64 MB: docker run --shm-size=1g (or --ipc=host). Else lower train.workers,\n"
        f"    train.batch_size, evaluation.batch_size or dataset.cache. torch says: {said}"
    ) from error


def train_loader(dataset: TrainSet, batches: EpochBatches, workers: int, seed: int, *, pin: bool) -> "DataLoader[Any]":
    """Loader whose batches are decided by `batches`, epoch by epoch."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=share,
        pin_memory=pin,
        persistent_workers=workers > 0,
        # Its own, since it draws from the global generator once a start, and a resumed run starts once more.
        generator=torch.Generator().manual_seed(seed),
    )


def stop_workers(loader: "DataLoader[Any]") -> None:
    """End the processes of a loader that keeps them between epochs.

    Else they end when it is collected, which the traceback of an error or of Ctrl-C puts off.
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
    return DataLoader(dataset, batch_size, sampler=chosen, num_workers=workers, collate_fn=share, pin_memory=pin)
