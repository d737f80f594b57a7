"""mode=export of an OSNet: a hand-off folder for the backend, every file compared with the trained model.

The embedding is the one that the backend computes: the output of the layer `fc`, before any BNNeck, of an image as it
is. Where the run was trained or evaluated in a way that the backend cannot follow, a fallback says so.
"""

import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from watchme.core.device import choose_workers
from watchme.core.interfaces import Job, Result
from watchme.core.seed import seed_everything
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet import export_formats as formats
from watchme.engines.osnet import load_reid
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.crop_images import Gallery, Images, read_image
from watchme.engines.osnet.data.data_module import read_run
from watchme.engines.osnet.data.datasets import merged
from watchme.engines.osnet.data.holdout import hold_out
from watchme.engines.osnet.data.loader import EvalSet, eval_loader, read_batches
from watchme.engines.osnet.data.tracklets import thinned
from watchme.engines.osnet.embed_and_rank import compare, metrics_of
from watchme.engines.osnet.handoff_text import OsnetHandoffText, onnx_metadata
from watchme.export import onnx_files
from watchme.export.base import SMALL, Exporter, Reader, largest_difference, torch_reader
from watchme.metrics.verification import unit_rows

log = logging.getLogger(__name__)

_BATCH = 32
_LOWEST_COSINE = 0.8  # on real people int8 keeps 0.98


def export(job: Job) -> Result:
    """Write `handoff/`, compare each format with the trained model, and measure what the small formats lose.

    Returns:
        Metrics on the chosen split; folder, files and the backend's settings in `details`; `refused` where a format
        differs by more than `export.max_difference` or loses more than `export.max_loss`. Such a hand-off is left in
        `handoff-refused/`.

    Raises:
        CheckpointError: If the checkpoint is not an OSNet of `model.name`.
        DataError: If there are no images to check it on.
        ExportError: If a format cannot be written.
    """
    config = cast(Config, job.config)
    assert config.checkpoint is not None
    seed_everything(config.train.seed, deterministic=True)
    return OsnetExporter(job, Path(config.checkpoint).expanduser()).run()


class OsnetExporter(Exporter):
    """The export of one OSNet."""

    original = "model.pth.tar"
    difference_columns = ("difference", "limit", "mean cosine")

    def load(self) -> None:
        """Load the checkpoint, and the query and gallery on which it is checked."""
        self.config = cast(Config, self.job.config)
        self.model = formats.load_trained(self.checkpoint, self.config.model.name)
        self.size = (self.config.dataset.height, self.config.dataset.width)
        self.trained = torch_reader(self.model.net.embed)
        datasets = read_run(self.job)
        self.training = merged(splits.train for splits in datasets.sources.values())
        self.split, self.galleries = (
            "test",
            {
                "test" if len(datasets.targets) == 1 else f"test/{name}": self._gallery(splits.query, splits.gallery)
                for name, splits in datasets.targets.items()
            },
        )
        if self.config.export.split == "test":
            return
        if self.config.dataset.val_identities and self.training:
            held = hold_out(self.training, self.config.dataset.val_identities, self.config.train.seed)
            self.split = held.split
            self.galleries = {held.split: self._gallery(held.query, [*held.gallery, *held.distractors])}
        else:
            self.job.fallback("no identities are held out, so the export is checked on query and gallery, as test/...")

    def write_original(self, path: Path) -> None:
        """Write model.pth.tar, and beside it the file that loads it."""
        formats.write_checkpoint(self.model, path)
        shutil.copyfile(load_reid.__file__, path.with_name("load_reid.py"))

    def write_format(self, name: str) -> Path:
        """Write model.torchscript or model.onnx."""
        path = self.handoff.place / f"model.{name}"
        write = {"torchscript": formats.write_torchscript, "onnx": formats.write_onnx}[name]
        write(self.model, path, self.size)
        if name == "onnx":
            onnx_files.describe(path, onnx_metadata(self.config, self.model))
        return path

    def read_format(self, name: str, path: Path) -> Reader:
        """Load model.pth.tar into torchreid's model, or the TorchScript file."""
        if name == self.original:
            return formats.read_checkpoint(path, self.model)
        return formats.read_torchscript(path)

    def images(self) -> Sequence[Path]:
        """Query and gallery."""
        galleries = self.galleries.values()
        return [crop.path for data in galleries for crop in (*data.query.crops, *data.gallery.crops)]

    def training_images(self) -> Sequence[Path]:
        """All crops of the sources."""
        return [path for crop in self.training for path in crop.files]

    def pixels(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        normalize = self.config.augmentation.normalize
        images = torch.from_numpy(np.stack([read_image(path, *self.size) for path in paths]))
        return to_network(images, normalize=normalize).contiguous().numpy()

    def new_difference(self) -> "EmbeddingDifference":
        """Compare L2-normalised embeddings."""
        return EmbeddingDifference(self.config.export.max_difference)

    def text(self) -> OsnetHandoffText:
        return OsnetHandoffText(self.config, self.model, self.checkpoint)

    def measure(self, files: Mapping[str, Path], readers: Mapping[str, Reader]) -> dict[str, float]:
        """Measure mAP of the trained model, of fp16 and int8, and of a model whose loader dropped `fc`."""
        seeds = range(self.config.export.fc_seeds)
        small = {name: readers[name] for name in SMALL if name in readers}
        if not small and not seeds:
            return {}
        layers = {f"fc dropped, seed {seed}": formats.new_embedding_layer(self.model, seed) for seed in seeds}
        log.info("Measuring on the %s split", self.split)
        self.dropped = EmbeddingDifference(math.inf)
        found = self.rank(small, layers)
        columns = ("map", f"rank{self.config.evaluation.ranks[0]}")
        metrics = self.compare_metrics(found, self.split, columns, "map")
        if layers:
            dropped = float(np.mean([found[name][f"{self.split}/map"] for name in layers]))
            metrics[f"{self.split}/map_fc_dropped"] = dropped
            metrics[f"{self.split}/cosine_fc_dropped"] = cosine = self.dropped.cosine
            self.handoff.notes.append(
                f"Measured on the {self.split} split, {len(layers)} random layers: mAP "
                f"{metrics[f'{self.split}/map']:.4f} as trained, {dropped:.4f} on average where the loader drops `fc`; "
                f"the mean cosine to the trained embeddings is {cosine:.3f} then."
            )
        return metrics

    def rank(self, small: Mapping[str, Reader], layers: Mapping[str, torch.nn.Module]) -> dict[str, dict[str, float]]:
        """Metrics by model: `trained`, the embedding layers in its place, the small formats; one pass over images."""
        rankings: dict[str, dict[str, Any]] = {}
        for split, data in self.galleries.items():
            query, gallery = (self._features(images, small, layers) for images in (data.query, data.gallery))
            for name in layers:
                for features in (query, gallery):
                    self.dropped.add(features[name].numpy(), features["trained"].numpy())
            for name in query:
                ranking = compare(query[name], gallery[name], data, split, self.config.evaluation)
                rankings.setdefault(name, {})[split] = ranking
        return {name: metrics_of(by_split) for name, by_split in rankings.items()}

    def _gallery(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Gallery:
        dataset = self.config.dataset
        return Gallery(*(Images(thinned(crops, dataset), self.size, "none") for crops in (query, gallery)))

    @torch.no_grad()
    def _features(
        self, images: Images, small: Mapping[str, Reader], layers: Mapping[str, torch.nn.Module]
    ) -> dict[str, torch.Tensor]:
        """(N, D) embeddings of crops by model; of a tracklet the mean of its images'."""
        parts: dict[str, list[torch.Tensor]] = {}
        backbone = self.model.net.backbone
        normalize = self.config.augmentation.normalize
        workers = choose_workers(self.config.train.workers, torch.device("cpu"))
        for batch in read_batches(eval_loader(EvalSet(images), _BATCH, workers, pin=False)):
            pixels = to_network(batch.images, normalize=normalize).contiguous()
            pooled = torch.flatten(backbone.global_avgpool(backbone.featuremaps(pixels)), 1)
            parts.setdefault("trained", []).append(backbone.fc(pooled))
            for name, layer in layers.items():
                parts.setdefault(name, []).append(layer(pooled))
            for name, reader in small.items():
                parts.setdefault(name, []).append(torch.from_numpy(reader(pixels.numpy())))
        owners = torch.tensor(images.owners)
        counts = torch.bincount(owners, minlength=len(images))[:, None]
        features = {}
        for name, found in parts.items():
            rows = torch.cat(found)
            features[name] = torch.zeros(len(images), rows.shape[1]).index_add_(0, owners, rows) / counts
        return features


class EmbeddingDifference:
    """Largest difference and mean cosine of L2-normalised embeddings."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._largest = 0.0
        self._cosines: list[float] = []

    def add(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        """Take one more batch of embeddings, (B, D), into account."""
        found, expected = unit_rows(found), unit_rows(expected)
        self._largest = max(self._largest, largest_difference(found, expected))
        self._cosines += (found * expected).sum(1).tolist()

    @property
    def cosine(self) -> float:
        """Mean cosine of the embeddings that were added."""
        return float(np.mean(self._cosines))

    def cells(self, *, exact: bool) -> tuple[float | None, ...]:
        """Difference, its limit, mean cosine."""
        return self._largest, self._limit if exact else None, self.cosine

    def refusals(self, *, exact: bool) -> Iterator[str]:
        """An exact format must give equal embeddings, a small one similar ones."""
        if exact and not self._largest <= self._limit:
            yield (f"differs from the trained model by {self._largest:.2g} (export.max_difference is {self._limit:g})")
        # mAP alone does not show it: where all embeddings are equal, the order of files ranks.
        if not exact and not self.cosine >= _LOWEST_COSINE:
            yield f"gives other embeddings than the trained model: their mean cosine is {self.cosine:.2f}"
