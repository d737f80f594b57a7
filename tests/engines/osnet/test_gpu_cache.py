"""dataset.cache=gpu, with the CPU as the GPU: the batches are those of the loader."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from watchme.core.errors import ConfigError
from watchme.engines.osnet.data.augmentation import STD
from watchme.engines.osnet.data.gpu_cache import GpuCache
from watchme.engines.osnet.trainer import Trainer

Make = Callable[..., Trainer]
CPU = torch.device("cpu")


def both(trainer: Trainer) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Images of two epochs by the loader and by the cache."""
    layout = trainer.learner.channels_last
    cache = GpuCache(trainer.dataset, CPU, normalize=trainer.config.augmentation.normalize, channels_last=layout)
    found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for epoch in (1, 2):
        trainer.batches.set_epoch(epoch)
        for theirs, ours in zip(trainer._device_batches(), cache.batches(trainer.batches), strict=True):
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.indices, theirs.indices)
            assert ours.images.is_contiguous(memory_format=torch.channels_last) == layout
            found[0].append(theirs.images)
            found[1].append(ours.images)
    return found


@pytest.mark.parametrize("normalize", ["true", "false"])
def test_flipped_and_erased_alike(normalize: str, make_trainer: Make) -> None:
    options = ("augmentation.random_flip=0.5", "augmentation.random_erase=0.5", f"augmentation.normalize={normalize}")
    theirs, ours = both(make_trainer("augmentation=reid_basic", *options, "augmentation.random_crop=0"))
    assert all(torch.equal(left, right) for left, right in zip(theirs, ours, strict=True))


def test_cropped_alike_but_for_rounding(make_trainer: Make) -> None:
    theirs, ours = both(
        make_trainer("augmentation=reid_basic", "augmentation.random_crop=0.7", "augmentation.random_erase=0.3")
    )
    scale = 255 * torch.tensor(STD)[:, None, None]
    levels = [(left - right).abs() * scale for left, right in zip(theirs, ours, strict=True)]
    assert max(float(each.max()) for each in levels) < 1.6
    assert np.mean([float((each > 0.5).float().mean()) for each in levels]) < 0.2


def test_tracklets_and_views_are_drawn_alike(make_trainer: Make) -> None:
    trainer = make_trainer("augmentation=reid_basic", "augmentation.random_crop=0")
    trainer.dataset.dataset = trainer.config.dataset.__class__(task="reid", name="market1501", k_tfm=2)
    theirs, ours = both(trainer)
    assert len(ours[0]) == 16
    assert all(torch.equal(left, right) for left, right in zip(theirs, ours, strict=True))


def test_what_it_cannot_do_is_refused(make_trainer: Make) -> None:
    with pytest.raises(ConfigError, match=r"gpu has no augmentation\.color_jitter, random_gray_scale"):
        make_trainer("dataset.cache=gpu", "train.device=auto", "augmentation=reid_strong")
    with pytest.raises(ConfigError, match="gpu needs a CUDA GPU"):
        make_trainer("augmentation=reid_basic", "dataset.cache=gpu")
    with pytest.raises(ConfigError, match="this run is on cpu; use ram"):
        make_trainer("augmentation=reid_basic", "dataset.cache=gpu", "train.device=auto")
