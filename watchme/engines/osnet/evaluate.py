"""mode=evaluate of an OSNet, and the evaluations of a training: query against gallery of each split."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from watchme.core.device import choose_deterministic, choose_device
from watchme.core.interfaces import Job, Result
from watchme.core.seed import seed_everything
from watchme.engines.osnet.batch_norm_adaptation import adapt_batch_norm
from watchme.engines.osnet.calibration import calibrate
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.crop_images import Gallery
from watchme.engines.osnet.data.data_module import ReidData, read_run
from watchme.engines.osnet.data.device_batches import uses_channels_last
from watchme.engines.osnet.embed_and_rank import Embedder, Ranking, metrics_of
from watchme.engines.osnet.evaluation_plots import plot_ranked, plot_ranking
from watchme.engines.osnet.initial_weights import load_weights
from watchme.engines.osnet.model import ReidNet
from watchme.io.checkpoint import save_checkpoint


def evaluate(job: Job) -> Result:
    """Evaluate `checkpoint`, of watchme or of torchreid, on query against gallery."""
    config = cast(Config, job.config)
    device = choose_device(config.train.device, job.fallback)
    evaluator = Evaluator(job, device)
    job.record("device", {"devices": [str(device)], "evaluation_precision": evaluator.embedder.precision})
    data = ReidData(job, read_run(job))
    seed_everything(config.train.seed, deterministic=choose_deterministic(config.train.deterministic, device))
    identities = {crop.pid for splits in data.datasets.sources.values() for crop in splits.train}
    model = ReidNet(config.model.name, config.model.num_classes or max(1, len(identities)), bnneck=config.model.bnneck)
    if config.checkpoint == "random":
        job.fallback(f"checkpoint=random: untrained weights of seed {config.train.seed} are evaluated")
    else:
        assert config.checkpoint is not None
        path = Path(config.checkpoint).expanduser()
        load_weights(model.backbone, path, keep_classifier=False, min_matched=config.model.min_matched)
    metrics = evaluator.test(model, data)
    name = "test/" + config.objective.split("/", 1)[1]
    return Result(metrics, metrics.get(name, math.nan), details=evaluator.calibrate(data.test_splits))


class Evaluator:
    """Evaluates models of one run.

    Args:
        job: The run.
        device: Where to compute.
    """

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job = job
        self.config = cast(Config, job.config)
        self.device = device
        self.embedder = Embedder(self.config, device, job.fallback)
        self._adapted: dict[str, ReidNet] = {}  # by target, where dataset.load_train_targets adapts
        self._tested: dict[str, tuple[Tensor, Tensor]] = {}  # embeddings by split

    def validate(self, galleries: dict[str, Gallery], data: ReidData, model: ReidNet, epoch: int) -> dict[str, float]:
        """Metrics of a model after an epoch; ranked results are drawn every `evaluation.visrank_every` epochs."""
        rankings, every = self._rank(model, galleries, data), self.config.evaluation.visrank_every
        if every and epoch % every == 0:
            for split, ranking in rankings.items():
                plot_ranked(self.job, ranking, galleries[split], split, self.config.evaluation, epoch)
        return metrics_of(rankings)

    def test(self, model: ReidNet, data: ReidData) -> dict[str, float]:
        """Metrics of a model on all targets, with tables and plots."""
        layout = uses_channels_last(self.config.train.channels_last, self.device)
        model = model.to(self.device).to(memory_format=torch.channels_last if layout else torch.contiguous_format)
        galleries = data.test_splits
        rankings = self._rank(model, galleries, data)
        for split, ranking in rankings.items():
            plot_ranking(self.job, ranking, galleries[split], split, self.config.evaluation)
            self._tested[split] = ranking.query, ranking.gallery
        if self._adapted:
            self.job.record("adapted_to_targets", {name: len(data.target_images(name)) for name in self._adapted})
            self.job.fallback(
                "dataset.load_train_targets: test/... is of weights whose batch normalisation was adapted to the "
                "target's training images, without labels; weights/best.pt itself is not adapted"
            )
        return metrics_of(rankings)

    def calibrate(self, galleries: Mapping[str, Gallery], model: ReidNet | None = None) -> dict[str, Any]:
        """Write calibration.json, see `calibrate`.

        Args:
            galleries: Split -> its images.
            model: Embeds them; None: they are those of `test`, whose embeddings are at hand.
        """
        features = self._tested
        if model is not None:
            embed = functools.partial(self.embedder.embed, model)
            features = {name: (embed(each.query), embed(each.gallery)) for name, each in galleries.items()}
        return calibrate(self.job, galleries, features)

    def save_adapted(self, best: Mapping[str, Any], folder: Path) -> dict[str, Path]:
        """Save the weights that were tested, as `best_<target>.pt`, where they were adapted.

        Args:
            best: Content of best.pt.
            folder: Of the checkpoints.
        """
        paths = {f"best_{name}": folder / f"best_{name}.pt" for name in self._adapted}
        for path, model in zip(paths.values(), self._adapted.values(), strict=True):
            save_checkpoint(path, {**best, "state_dict": model.backbone.state_dict()})
        return paths

    def _rank(self, model: ReidNet, galleries: dict[str, Gallery], data: ReidData) -> dict[str, Ranking]:
        targets = data.datasets.targets if self.config.dataset.load_train_targets else ()
        adapting = {data.split_of(name): name for name in targets}
        rankings = {}
        for split, gallery in galleries.items():
            net = model
            if name := adapting.get(split):
                net = self._adapted[name] = adapt_batch_norm(model, data.target_images(name), self.embedder)
            rankings[split] = self.embedder.rank(net, gallery, split)
        return rankings
