"""mode=export: a trained OSNet as a hand-off folder for the backend, every file of it checked on real images.

The embedding is the one that the backend computes: the output of the layer `fc`, before any BNNeck, of an image as it
is. Where the run was trained or evaluated in a way that the backend cannot follow, that is said as a fallback.
"""

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Result, Table
from watchme.core.seed import seed_everything
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet import export_formats as formats
from watchme.engines.osnet import handoff_text, load_reid
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.augmentation import to_network
from watchme.engines.osnet.data.holdout import hold_out
from watchme.engines.osnet.data.loader import EvalSet, Images, eval_loader, raise_for, read_image
from watchme.engines.osnet.data.sources import Datasets, merged
from watchme.engines.osnet.data.tracklets import thinned
from watchme.engines.osnet.export_formats import Embed, Trained
from watchme.engines.osnet.ranking import Gallery, compare, metrics_of
from watchme.engines.osnet.train import read
from watchme.export import handoff, latency, onnx_files

log = logging.getLogger(__name__)

TAR = "model.pth.tar"
_FILES = {
    "torchscript": "model.torchscript",
    "onnx": "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_int8.onnx",
}
_BATCH = 32
_SMALL = ("fp16", "int8")
_LEAST_COSINE = 0.8  # on real people int8 keeps 0.98


def export(job: Job) -> Result:
    """Write `handoff/`, check each format against the trained model, and measure what the small ones lose.

    Returns:
        Metrics on the chosen split; folder, files and the lines for the backend's .env in `details`; `refused` where a
        format differs by more than `export.max_difference` or loses more than `export.max_loss`. Such a
        hand-off is left in `handoff-refused/`.

    Raises:
        CheckpointError: If the checkpoint is no OSNet of `model.name`.
        DataError: If there are no images to check it on.
        ExportError: If a format cannot be written.
    """
    config = cast(Config, job.config)
    assert config.checkpoint is not None
    seed_everything(config.train.seed, deterministic=config.train.deterministic)
    checkpoint = Path(config.checkpoint).expanduser()
    trained = formats.load_trained(checkpoint, config.model.name)
    with handoff.staged(job.folder, config.export.place) as made, _threads(config.export.threads) as threads:
        work = _Export(job, config, trained, made, threads)
        files = work.write_formats()
        readers = work.readers(files)
        work.compare(files, readers)
        metrics = work.measure(files, readers)
        work.time(readers)
        text = handoff_text.HandoffText(config, trained, checkpoint)
        made.env |= text.env()
        made.notes = [*text.notes(), *made.notes]
        for note in text.differences():
            job.fallback(note)
        title = f"{trained.name} on {config.dataset.name}"
        card = handoff.card_of(checkpoint, title) + text.card_section(made.tables)
        made.write(f"Hand-off: {title}", text.sections(), text.preprocessing(), card)
    refused = made.refused("Leave the format out (export.formats, export.fp16, export.int8)")
    details = made.details(files)
    job.record("handoff", details)
    return Result(metrics, metrics.get(config.objective, math.nan), details=details, refused=refused)


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    """Let torch have so many threads for a block; None: as many as it has."""
    before = torch.get_num_threads()
    try:
        if wanted is not None:
            torch.set_num_threads(wanted)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


class _Export:
    """The work on one hand-off.

    Args:
        job: The run.
        config: Its config.
        trained: What is exported.
        made: The hand-off.
        threads: Threads of torch and onnxruntime.
    """

    def __init__(self, job: Job, config: Config, trained: Trained, made: handoff.Handoff, threads: int) -> None:
        self.job = job
        self.config = config
        self.trained = trained
        self.made = made
        self.threads = threads
        self.size = (config.dataset.height, config.dataset.width)
        self.embed = formats.as_embed(trained.net.embed)
        self.datasets = read(job)
        self.split, self.galleries = self._galleries(self.datasets)
        self.training = merged(splits.train for splits in self.datasets.sources.values())

    def write_formats(self) -> dict[str, Path]:
        """Write model.pth.tar and all formats that are asked for."""
        export, place = self.config.export, self.made.place
        files = {"model.pth.tar": place / TAR}
        formats.write_checkpoint(self.trained, files["model.pth.tar"])
        shutil.copyfile(load_reid.__file__, place / "load_reid.py")
        for name in export.formats:
            files[name] = place / _FILES[name]
            log.info("Writing %s", files[name].name)
            write = {"torchscript": formats.write_torchscript, "onnx": formats.write_onnx}[name]
            write(self.trained, files[name], self.size)
        if "onnx" in files:
            onnx_files.describe(files["onnx"], handoff_text.onnx_metadata(self.config, self.trained))
        if export.fp16:
            files["fp16"] = place / _FILES["fp16"]
            onnx_files.to_fp16(files["onnx"], files["fp16"])
        if export.int8:
            files["int8"] = place / _FILES["int8"]
            onnx_files.to_int8(files["onnx"], files["int8"], self._calibration())
        return files

    def readers(self, files: Mapping[str, Path]) -> dict[str, Embed]:
        """Load each file again, as whoever gets it will."""
        readers: dict[str, Embed] = {}
        for name, path in files.items():
            if name == "model.pth.tar":
                readers[name] = formats.read_checkpoint(path, self.trained)
            elif name == "torchscript":
                readers[name] = formats.read_torchscript(path)
            else:
                readers[name] = onnx_files.session(path, self.threads)
        return readers

    def compare(self, files: Mapping[str, Path], readers: Mapping[str, Embed]) -> None:
        """Compare L2-normalised embeddings of real images with those of the trained model."""
        limit = self.config.export.max_difference
        crops = [crop for data in self.galleries.values() for crop in (*data.query.crops, *data.gallery.crops)]
        chosen = [crops[number].path for number in handoff.evenly(len(crops), self.config.export.images)]
        largest, cosines = dict.fromkeys(readers, 0.0), {name: list[float]() for name in readers}
        for start in range(0, len(chosen), _BATCH):
            batch = self._pixels(chosen[start : start + _BATCH])
            wanted = _unit(self.embed(batch))
            for name, reader in readers.items():
                found = _unit(reader(batch))
                difference = float(np.abs(found - wanted).max())
                largest[name] = max(largest[name], difference) if math.isfinite(difference) else math.inf
                cosines[name] += (found * wanted).sum(1).tolist()
        rows = []
        for name, path in files.items():
            exact, cosine = name not in _SMALL, float(np.mean(cosines[name]))
            shown_limit = limit if exact else None
            rows.append((name, path.name, path.stat().st_size / 1e6, largest[name], shown_limit, cosine))
            if exact and not largest[name] <= limit:
                self.made.refusals.append(
                    f"{path.name} differs from the trained model by {largest[name]:.2g} on {len(chosen)} images; "
                    f"export.max_difference is {limit:g}"
                )
            # A metric alone does not tell: where all embeddings are equal, the order of files ranks.
            if not exact and not cosine >= _LEAST_COSINE:
                self.made.refusals.append(
                    f"{path.name} gives other embeddings than the trained model: their cosine is {cosine:.2f} on "
                    f"average of {len(chosen)} images"
                )
        self.job.record("export_images", len(chosen))
        columns = ("format", "file", "MB", "difference", "limit", "mean cosine")
        self.made.show(self.job, Table("export/formats", columns, tuple(rows)))

    def measure(self, files: Mapping[str, Path], readers: Mapping[str, Embed]) -> dict[str, float]:
        """Measure mAP of the trained model, of fp16 and int8, and of a model whose loader dropped `fc`."""
        export = self.config.export
        small = {name: readers[name] for name in _SMALL if name in readers}
        if not small and not export.fc_seeds:
            return {}
        layers = {
            f"fc dropped, seed {seed}": formats.new_embedding_layer(self.trained, seed)
            for seed in range(export.fc_seeds)
        }
        log.info("Measuring on the %s split", self.split)
        found = self._rank(small, layers)
        first = f"rank{self.config.evaluation.ranks[0]}"
        best = found["trained"][f"{self.split}/map"]
        metrics = {f"{self.split}/{name}": found["trained"][f"{self.split}/{name}"] for name in ("map", first)}
        rows = []
        for name, values in found.items():
            value = values[f"{self.split}/map"]
            lost = None if name == "trained" else best - value
            rows.append(
                (name, value, values[f"{self.split}/{first}"], lost, export.max_loss if name in small else None)
            )
            if name in small:
                metrics[f"{self.split}/map_{name}"] = value
                if not best - value <= export.max_loss:
                    self.made.refusals.append(
                        f"{files[name].name} loses {best - value:.4f} of {self.split}/map; "
                        f"export.max_loss is {export.max_loss:g}"
                    )
        if layers:
            dropped = float(np.mean([found[name][f"{self.split}/map"] for name in layers]))
            metrics[f"{self.split}/map_fc_dropped"] = dropped
            self.made.notes.append(
                f"Measured on the {self.split} split, {len(layers)} random layers: mAP {best:.4f} as trained, "
                f"{dropped:.4f} on average where the loader drops `fc`."
            )
        columns = ("weights", "map", first, "lost map", "limit")
        self.made.show(self.job, Table("export/metrics", columns, tuple(rows)))
        return metrics

    def time(self, readers: Mapping[str, Embed]) -> None:
        """Time all formats at all batch sizes."""
        export = self.config.export
        crops = next(iter(self.galleries.values())).gallery.crops
        rows = []
        for size in export.latency_batches:
            batch = self._pixels([crops[number % len(crops)].path for number in range(size)])
            calls = {name: _Call(reader, batch) for name, reader in readers.items()}
            for name, took in latency.measure(calls, export.latency_rounds).items():
                rows.append((name, size, took.median, took.low, took.high, took.median / size, self.threads))
        columns = ("format", "batch", "median ms", "10% ms", "90% ms", "ms an image", "threads")
        if rows:
            self.made.show(self.job, Table("export/latency", columns, tuple(rows)))

    def _galleries(self, datasets: Datasets) -> tuple[str, dict[str, Gallery]]:
        """The split of the checks: held-out identities as in training, or query and gallery."""
        dataset, wanted = self.config.dataset, self.config.export.split
        crops = merged(splits.train for splits in datasets.sources.values())
        if wanted == "val" and dataset.val_identities and crops:
            held = hold_out(crops, dataset.val_identities, self.config.train.seed)
            return "val", {"val": self._gallery(held.query, [*held.gallery, *held.distractors])}
        if wanted == "val":
            self.job.fallback("no identities are held out, so the export is checked on query and gallery, as test/...")
        alone = len(datasets.targets) == 1
        return "test", {
            "test" if alone else f"test/{name}": self._gallery(splits.query, splits.gallery)
            for name, splits in datasets.targets.items()
        }

    def _gallery(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Gallery:
        dataset = self.config.dataset
        return Gallery(*(Images(thinned(crops, dataset), self.size, "none") for crops in (query, gallery)))

    def _pixels(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """(B, 3, H, W) of some images, as the network gets them."""
        normalize = self.config.augmentation.normalize
        stacked = np.stack([to_network(read_image(path, *self.size), normalize=normalize) for path in paths])
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))

    def _calibration(self) -> Iterator[NDArray[np.float32]]:
        """Training images, one at a time, evenly from all of them."""
        files = [path for crop in self.training for path in crop.files]
        if not files:
            raise DataError("export.int8 takes the ranges of activations from training images, and there are none")
        for number in handoff.evenly(len(files), self.config.export.calibration_images):
            yield self._pixels([files[number]])

    def _rank(self, small: Mapping[str, Embed], layers: Mapping[str, torch.nn.Module]) -> dict[str, dict[str, float]]:
        """Metrics by what embeds: one pass over the images for all."""
        found: dict[str, dict[str, float]] = {}
        rankings: dict[str, dict[str, object]] = {}
        for split, data in self.galleries.items():
            query, gallery = (self._features(images, small, layers) for images in (data.query, data.gallery))
            for name in query:
                ranking = compare(query[name], gallery[name], data, split, self.config.evaluation)
                rankings.setdefault(name, {})[split] = ranking
        for name, by_split in rankings.items():
            found[name] = metrics_of(by_split)  # type: ignore[arg-type]
        return found

    @torch.no_grad()
    def _features(
        self, images: Images, small: Mapping[str, Embed], layers: Mapping[str, torch.nn.Module]
    ) -> dict[str, torch.Tensor]:
        """(N, D) embeddings of crops by what embeds; of a tracklet the mean of its images'."""
        parts: dict[str, list[torch.Tensor]] = {}
        backbone = self.trained.net.backbone
        dataset = EvalSet(images, normalize=self.config.augmentation.normalize)
        for batch in eval_loader(dataset, _BATCH, self.config.train.workers, pin=False):
            pixels = raise_for(batch).images.contiguous()
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


class _Call:
    """A format on a batch, ready to be timed."""

    def __init__(self, reader: Embed, batch: NDArray[np.float32]) -> None:
        self._reader = reader
        self._batch = batch

    def __call__(self) -> object:
        return self._reader(self._batch)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its L2 norm, as the backend does."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), np.float32)
