"""The data of one run, assembled: training set, validation split and test splits (Lightning calls it a data module)."""

import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from watchme.core.batch_limit import limited_images
from watchme.core.errors import ConfigError, DataError, Problem
from watchme.core.formatting import first_few
from watchme.core.interfaces import Job
from watchme.core.metric_names import SAME_CAMERA, measured_objective
from watchme.core.progress import Progress
from watchme.data.formats.market1501 import Crop
from watchme.data.images import read_image
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.crop_images import Gallery, Images, fingerprint
from watchme.engines.osnet.data.datasets import Datasets, merged, read_datasets, target_names, used_dataset
from watchme.engines.osnet.data.holdout import Holdout, hold_out
from watchme.engines.osnet.data.loader import TrainSet
from watchme.engines.osnet.data.tracklets import thinned
from watchme.metrics.reranking import require_memory

log = logging.getLogger(__name__)

_SHOWN = 5
_BATCH = 100  # images in a batch of a limited evaluation where evaluation.batch_size is null


class ReidData:
    """Training, validation and test images of a run; the latter two are empty in a process that does not evaluate."""

    def __init__(self, job: Job, datasets: Datasets, *, evaluates: bool = True) -> None:
        self.job = job
        self.config = cast(Config, job.config)
        self.datasets = datasets
        self.evaluates = evaluates

    def train_and_val(self) -> tuple[TrainSet, dict[str, Gallery]]:
        """The training set, and what is validated on.

        That is `val` or `val_same_camera` (see `Holdout.split`), the test splits with select_on_test, or nothing.
        """
        config, datasets, val = self.config, self.datasets, {}
        crops = merged(splits.train for splits in datasets.sources.values())
        if config.dataset.combineall and (both := set(datasets.sources) & set(datasets.targets)):
            self.job.fallback(
                f"dataset.combineall trains on the test identities of {', '.join(sorted(both))}: "
                "the test/... metrics of it are worthless"
            )
        if config.dataset.val_identities:
            held = hold_out(crops, config.dataset.val_identities, config.train.seed)
            crops, val = held.train, {held.split: self._gallery(held.query, [*held.gallery, *held.distractors])}
            self._require_objective(held)
            log.info(
                "Held out: %d identities, %d queries, %d gallery images and %d distractors",
                len({crop.pid for crop in held.gallery}),
                len(held.query),
                len(held.gallery),
                len(held.distractors),
            )
        elif config.dataset.select_on_test:
            val = self.test_splits
            self.job.fallback(
                "dataset.select_on_test: the best epoch is chosen on the test split; test/... is too good"
            )
        else:
            self.job.fallback("dataset.val_identities=0: nothing is held out, so the last epoch counts as the best")
        classes = {pid: index for index, pid in enumerate(sorted({crop.pid for crop in crops}))}
        # The trainer puts the training images on the GPU itself; of a limited training most are never read.
        cache = "none" if config.dataset.cache == "gpu" or config.train.limit_batches else config.dataset.cache
        return TrainSet(self._images(crops, cache), classes, config.augmentation, config.dataset), val

    def _require_objective(self, held: Holdout) -> None:
        """Announce validation within cameras.

        Raises:
            ConfigError: If the objective is such a validation's, and identities are seen by two cameras.
        """
        objective = self.config.objective
        if not held.same_camera:
            if objective.startswith(f"{SAME_CAMERA}/"):
                expected = "is measured where nobody is seen by two cameras; here people are: objective="
                raise ConfigError(
                    [Problem("objective", expected + objective.replace(SAME_CAMERA, "val", 1), repr(objective))]
                )
            return
        chosen = measured_objective("train", objective, [objective.replace("val/", f"{SAME_CAMERA}/", 1)])
        self.job.fallback(
            f"no training identity is seen by two cameras: validation finds later images of a query's own camera, "
            f"which is easier than re-identification across cameras. It is called {SAME_CAMERA}/..., and "
            + (f"{chosen} is the objective instead of {objective}" if chosen != objective else "is not comparable")
        )

    @functools.cached_property
    def test_splits(self) -> dict[str, Gallery]:
        """Query and gallery of each target by its split: `test`, or `test/<target>` where there are several."""
        targets = self.datasets.targets
        return {self.split_of(name): self._gallery(splits.query, splits.gallery) for name, splits in targets.items()}

    def require_readable_tests(self) -> None:
        """Read each test image once: they are needed at the end of a training, where one that is damaged comes late.

        Raises:
            DataError: With those that cannot be read.
        """
        targets = self.datasets.targets.values()
        crops = [crop for one in targets for part in _limited(one.query, one.gallery, self.config) for crop in part]
        files = dict.fromkeys(path for crop in thinned(crops, self.config.dataset) for path in crop.files)
        with ThreadPoolExecutor(8) as pool:
            read = Progress("Reading test images", len(files), "image").over(pool.map(_fault, files))
            faults = [fault for fault in read if fault]
        if faults:
            shown = "\n    ".join(first_few(faults, _SHOWN))
            raise DataError(f"the training would end at its test:\n    {shown}\n    Repair or remove them.")

    def require_memory_for_tests(self) -> None:
        """Ask for the memory that re-ranking the tests will take.

        Raises:
            WatchmeError: If less is available.
        """
        for one in self.datasets.targets.values() if self.config.evaluation.rerank else ():
            require_memory(sum(map(len, _limited(one.query, one.gallery, self.config))))

    def split_of(self, target: str) -> str:
        """The name of a target's test split in metrics."""
        return "test" if len(self.datasets.targets) == 1 else f"test/{target}"

    def target_images(self, target: str) -> Images:
        """A target's training images, for what needs no labels."""
        dataset = self.config.dataset
        crops = thinned(self.datasets.targets[target].train, dataset)
        return Images(crops, (dataset.height, dataset.width), "none")

    def _gallery(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Gallery:
        if not self.evaluates:
            query, gallery = [], []
        query, gallery = _limited(query, gallery, self.config)
        cache = "none" if self.config.dataset.cache == "none" else "ram"
        return Gallery(*(self._images(thinned(crops, self.config.dataset), cache) for crops in (query, gallery)))

    def _images(self, crops: list[Crop], cache: str) -> Images:
        dataset = self.config.dataset
        return Images(crops, (dataset.height, dataset.width), cache)


def _fault(path: Path) -> str:
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def _limited(query: Sequence[Crop], gallery: Sequence[Crop], config: Config) -> tuple[Sequence[Crop], Sequence[Crop]]:
    """What `train.limit_batches` leaves; people of the queries come first in the gallery, so that there are matches."""
    limit = config.train.limit_batches
    if limit is None:
        return query, gallery
    batch_size = config.evaluation.batch_size or _BATCH
    query = query[: limited_images(len(query), batch_size, limit)]
    wanted = {crop.pid for crop in query}
    ordered = sorted(gallery, key=lambda crop: crop.pid not in wanted)
    return query, ordered[: limited_images(len(ordered), batch_size, limit)]


def read_run(job: Job) -> Datasets:
    """Read all datasets of a run; what they hold is logged and recorded."""
    config = cast(Config, job.config)
    dataset, root = used_dataset(config)
    if untested := set(target_names(config.dataset)) - set(target_names(dataset)):
        job.fallback(f"there is a training set alone of {', '.join(sorted(untested))}: it is not tested on")
    datasets = read_datasets(dataset, root, config.mode)
    parts: dict[str, Sequence[Crop]] = {}
    alone = list(datasets.sources) == list(datasets.targets) and len(datasets.sources) == 1
    for name, splits in datasets.sources.items():
        parts["train" if alone else f"{name}/train"] = splits.train
    for name, splits in datasets.targets.items():
        parts["query" if alone else f"{name}/query"] = splits.query
        parts["gallery" if alone else f"{name}/gallery"] = splits.gallery
        if dataset.load_train_targets:
            parts[f"{name}/train, without labels"] = splits.train
    width, counts = max(map(len, parts)), {}
    for name, crops in parts.items():
        counts[name] = _counts(crops)
        log.info("%-*s %s", width, name, ", ".join(f"{count:6d} {what}" for what, count in counts[name].items()))
    roots = {name: str(splits.root.resolve()) for name, splits in (datasets.sources | datasets.targets).items()}
    job.record(
        "dataset",
        {
            "name": dataset.name,
            "root": roots[dataset.name] if alone and dataset.name in roots else roots,
            "fingerprint": fingerprint([crop for crops in parts.values() for crop in crops]),
            "splits": counts,
        },
    )
    return datasets


def _counts(crops: Sequence[Crop]) -> dict[str, int]:
    frames = sum(len(crop.frames) for crop in crops)
    return {
        **({"tracklets": len(crops), "images": frames} if frames else {"images": len(crops)}),
        "identities": len({crop.pid for crop in crops if crop.pid > 0}),
        "cameras": len({crop.cam for crop in crops}),
    }
