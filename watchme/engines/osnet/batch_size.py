"""train.batch_size=-1: the largest batch that fits one GPU, found by a few steps on made-up images."""

import contextlib
import copy
import logging
import math

import torch

from watchme.core.errors import CheckpointError, ConfigError, Problem
from watchme.core.seed import restore_rng_state, rng_state
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.device_batches import DeviceBatch
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.distributed import ProcessGroup
from watchme.engines.osnet.learner import Learner
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.train_metrics import EpochMetrics

log = logging.getLogger(__name__)

_SHARE = 0.8  # of the GPU's memory; the rest is for the evaluation, fragments, and other kernels than those tried
_FIRST = 16


def find_batch_size(config: Config, model: ReidNet, dataset: TrainSet, device: torch.device, precision: str) -> int:
    """The largest batch size whose step takes at most 80% of the GPU's memory, and that the dataset allows.

    Neither the model nor the random generators are changed.

    Raises:
        ConfigError: If not even a small batch fits.
    """
    train = config.train
    unit = {"identity": train.num_instances, "domain": train.num_cams, "dataset": train.num_datasets}.get(train.sampler)
    unit = math.lcm(unit or 1, 8)
    each = config.dataset.images_per_draw
    state, total = rng_state(), torch.cuda.get_device_properties(device).total_memory
    first = math.ceil(_FIRST / each / unit) * unit
    sizes = (first, 2 * first, 4 * first)
    points: list[tuple[int, int]] = []
    with contextlib.suppress(torch.OutOfMemoryError):
        for size in sizes:
            points.append((size, _peak_memory(config, model, device, precision, size)))
    restore_rng_state(state)
    if not points:
        raise _too_small(first * each, total)
    # A straight line through the last two sizes, since the first step of all takes more.
    (small, less), (large, more) = [(0, 0), *points][-2:]
    per_draw = max((more - less) / (large - small), 1.0)
    fitting = int((_SHARE * total - (more - per_draw * large)) / per_draw)
    most = len(dataset.images)
    if len(points) < len(sizes):
        most = min(most, sizes[len(points)] - 1)
    if train.sampler == "identity":
        most = min(most, len(dataset.classes) * train.num_instances)
    found = min(fitting, most) // unit * unit
    if found < unit:
        raise _too_small(unit * each, total)
    megabytes = per_draw / each / 2**20
    log.info("train.batch_size=%d: %.0f MB an image, %.1f GB on %s", found, megabytes, total / 2**30, device)
    return found


def _too_small(images: int, total: int) -> ConfigError:
    limit = f"80% of {total / 2**30:.1f} GB"
    expected = f"not even {images} images fit into {limit}; name a size, or set train.precision"
    return ConfigError([Problem("train.batch_size", expected, "-1")])


def _peak_memory(config: Config, model: ReidNet, device: torch.device, precision: str, size: int) -> int:
    """Bytes that two steps with a batch of so many draws take at most."""
    data = config.dataset
    learner = Learner(config, copy.deepcopy(model), device, precision, ProcessGroup())
    learner.start_epoch(None)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    instances = max(2, config.train.num_instances)
    labels = (torch.arange(size) // instances % learner.classes).repeat_interleave(data.images_per_draw)
    indices = torch.zeros_like(labels)
    for _ in range(2):
        images = torch.randn(len(labels), 3, data.height, data.width, device=device)
        layout = torch.channels_last if learner.channels_last else torch.contiguous_format
        batch = DeviceBatch(images.contiguous(memory_format=layout), labels.to(device), indices)
        learner.step(batch, EpochMetrics([]))
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def resumed_batch_size(content: dict[str, object]) -> int:
    """The batch size that was found when a run was started, from its checkpoint.

    Raises:
        CheckpointError: If the checkpoint does not hold it.
    """
    training = content.get("training")
    found = training.get("batch_size") if isinstance(training, dict) else None
    if not isinstance(found, int):
        raise CheckpointError("the checkpoint does not say which train.batch_size=-1 was found; name it")
    return found
