"""The OSNet engine: data, model and loop put together; the test split evaluated once, with the best weights."""

import functools
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from watchme.core.device import choose_devices, choose_precision
from watchme.core.errors import ConfigError, Problem
from watchme.core.interfaces import Job, Result
from watchme.core.seed import seed_everything
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet import trainer_state as state
from watchme.engines.osnet.batch_norm_adaptation import adapt_batch_norm
from watchme.engines.osnet.check import check_briefly
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data.holdout import hold_out
from watchme.engines.osnet.data.loader import Images, TrainSet, fingerprint
from watchme.engines.osnet.data.sources import Datasets, merged, read_datasets, root_of
from watchme.engines.osnet.data.tracklets import thinned
from watchme.engines.osnet.distributed import Team, led
from watchme.engines.osnet.evaluation_plots import show_ranked, show_ranking
from watchme.engines.osnet.initial_weights import freeze, load_weights
from watchme.engines.osnet.model import ReidNet
from watchme.engines.osnet.ranking import Gallery, Ranking, metrics_of, rank
from watchme.engines.osnet.state_dict import state_of
from watchme.engines.osnet.trainer import Loop
from watchme.io.checkpoint import load_checkpoint, save_checkpoint
from watchme.weights.initial import find_initial

log = logging.getLogger(__name__)


def train(job: Job) -> Result:
    """Train, select on held-out identities, evaluate the test split once."""
    return ReidRun(job).train()


@dataclass(frozen=True)
class _Prepared:
    """What a loop trains, before it is known which processes do so.

    `val` and `test` are what is evaluated by its split: `val`, `test`, or `test/<target>` where there are several.
    Without a validation split `val` is empty.
    """

    config: Config
    model: ReidNet
    dataset: TrainSet
    val: dict[str, Gallery]
    test: dict[str, Gallery]


class ReidRun:
    """One process of one run.

    Args:
        job: The run; a follower's has nobody listening.
        device: Where this process computes; None: the first that `train.device` names.
    """

    def __init__(self, job: Job, device: torch.device | None = None) -> None:
        self.job = job
        self.config = cast(Config, job.config)
        train = self.config.train
        self.devices = choose_devices(train.device, train.processes)
        self.device = self.devices[0] if device is None else device
        self.follows = device is not None
        self.precision = choose_precision(train.precision, self.device)
        job.record("device", {"devices": [str(each) for each in self.devices], "precision": self.precision})
        seed_everything(train.seed, deterministic=train.deterministic)
        self.datasets = read(job)
        self.adapted: dict[str, ReidNet] = {}  # what was tested on a target, where dataset.load_train_targets adapts

    def train(self) -> Result:
        if self.config.check.before_training:
            check_briefly(self.job, self.datasets)
        prepared = self._prepare()
        with led(self.devices, functools.partial(_follow, self.config, self.job.folder)) as team:
            loop = self._loop(prepared, team)
            last = loop.run()
        return self._finish(prepared, loop, last)

    def follow(self, team: Team) -> None:
        """Train along with the leader."""
        self._loop(self._prepare(), team).run()

    def _prepare(self) -> _Prepared:
        config = self.config
        crops, val = merged(splits.train for splits in self.datasets.sources.values()), {}
        if config.dataset.combineall and (both := set(self.datasets.sources) & set(self.datasets.targets)):
            self.job.fallback(
                f"dataset.combineall trains on the test identities of {', '.join(sorted(both))}: "
                "what test/... says of it is worthless"
            )
        if config.dataset.val_identities:
            held = hold_out(crops, config.dataset.val_identities, config.train.seed)
            crops, val = held.train, {"val": self._gallery(held.query, [*held.gallery, *held.distractors])}
            if held.same_camera:
                self.job.fallback(
                    "no training identity is seen by two cameras: val/... finds later images of the same camera, which "
                    "is easier than re-identification across cameras"
                )
            log.info(
                "Held out for validation: %d identities, %d queries, %d gallery images and %d distractors",
                len({crop.pid for crop in held.gallery}),
                len(held.query),
                len(held.gallery),
                len(held.distractors),
            )
        classes = {pid: index for index, pid in enumerate(sorted({crop.pid for crop in crops}))}
        model = self._build(len(classes))
        test = self._tests()
        if not val and config.dataset.select_on_test:
            val = test
            self.job.fallback(
                "dataset.select_on_test: the best epoch is chosen on the test split; test/... is too good"
            )
        elif not val:
            self.job.fallback("dataset.val_identities=0: nothing is held out, so the last epoch counts as the best")
        dataset = TrainSet(self._images(crops), classes, config.augmentation, config.dataset)
        kind = "tracklets" if config.dataset.tracklets else "images"
        text = "%d training %s of %d identities on %s, %s"
        log.info(text, len(crops), kind, len(classes), self.device, self.precision)
        return _Prepared(config, model, dataset, val, test)

    def _loop(self, prepared: _Prepared, team: Team) -> Loop:
        val, config = prepared.val, prepared.config
        loop = Loop(
            config,
            prepared.model,
            prepared.dataset,
            functools.partial(self._validate, val) if val else None,
            self.job.emit,
            self.job.folder / "weights",
            self.device,
            self.precision,
            team,
        )
        if config.train.resume is not None:
            state.restore(loop, Path(config.train.resume).expanduser())
            self.job.resumed(loop.start)
        self.job.begin()
        return loop

    def _validate(self, val: dict[str, Gallery], model: ReidNet, epoch: int) -> dict[str, float]:
        rankings, every = self._rank_all(model, val), self.config.evaluation.visrank_every
        if every and epoch % every == 0:
            for split, ranking in rankings.items():
                show_ranked(self.job, ranking, val[split], split, self.config.evaluation, epoch)
        return metrics_of(rankings)

    def evaluate(self) -> Result:
        config = self.config
        seed_everything(config.train.seed, deterministic=config.train.deterministic)
        pids = {crop.pid for splits in self.datasets.sources.values() for crop in splits.train}
        model = self._fresh(config.model.num_classes or max(1, len(pids)))
        if config.checkpoint == "random":
            self.job.fallback(f"checkpoint=random: untrained weights of seed {config.train.seed} are evaluated")
        else:
            assert config.checkpoint is not None
            load_weights(
                model.backbone,
                Path(config.checkpoint).expanduser(),
                keep_classifier=False,
                min_matched=config.model.min_matched,
            )
        model = self._place(model)
        metrics = self._test(model, self._tests())
        name = "test/" + config.objective.split("/", 1)[1]
        return Result(metrics, metrics.get(name, math.nan))

    def _finish(self, prepared: _Prepared, loop: Loop, last: int) -> Result:
        config = prepared.config
        weights = {name: self.job.folder / "weights" / f"{name}.pt" for name in ("best", "last")}
        if not weights["best"].is_file():
            self.job.fallback(f"{config.objective} was never computed, so the last epoch counts as the best")
            shutil.copy(weights["last"], weights["best"])
            loop.best_epoch = last
        best = self._fresh(loop.plain.backbone.classifier.out_features)
        content = load_checkpoint(weights["best"])
        best.backbone.load_state_dict(state_of(content, weights["best"]))
        metrics = dict(loop.best_metrics)
        metrics |= self._test(self._place(best), prepared.test)
        weights |= self._keep_adapted(content)
        return Result(metrics, metrics.get(config.objective, math.nan), loop.best_epoch, last, weights)

    def _tests(self) -> dict[str, Gallery]:
        targets = self.datasets.targets
        return {self._split_of(name): self._gallery(splits.query, splits.gallery) for name, splits in targets.items()}

    def _split_of(self, target: str) -> str:
        return "test" if len(self.datasets.targets) == 1 else f"test/{target}"

    def _images(self, crops: list[Crop]) -> Images:
        dataset = self.config.dataset
        return Images(crops, (dataset.height, dataset.width), dataset.cache)

    def _gallery(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Gallery:
        if self.follows:
            query, gallery = [], []  # the leader alone evaluates
        dataset = self.config.dataset
        return Gallery(self._images(thinned(query, dataset)), self._images(thinned(gallery, dataset)))

    def _fresh(self, classes: int) -> ReidNet:
        return ReidNet(self.config.model.name, classes, bnneck=self.config.model.bnneck)

    def _place(self, model: ReidNet) -> ReidNet:
        memory = torch.channels_last if self.config.train.channels_last else torch.contiguous_format
        return model.to(self.device).to(memory_format=memory)

    def _build(self, identities: int) -> ReidNet:
        wanted = self.config.model.num_classes
        if wanted is not None and wanted < identities:
            raise ConfigError(
                [
                    Problem(
                        "model.num_classes", f"the training set has {identities} identities; null fits it", str(wanted)
                    )
                ]
            )
        if wanted is not None and wanted > identities:
            log.info("The classifier has %d outputs for %d identities (model.num_classes)", wanted, identities)
        model = self._fresh(wanted or identities)
        chosen = self.config.model
        if (initial := find_initial(chosen.weights, chosen.pretrained, chosen.engine, chosen.name)) is not None:
            match = load_weights(
                model.backbone,
                initial.fetch(),
                keep_classifier=self.config.model.keep_classifier,
                min_matched=self.config.model.min_matched,
            )
            self.job.record("initial_tensors", {"loaded": len(match.loaded), "missing": match.missing})
        freeze(model.backbone, self.config.model.freeze)
        return model

    def _test(self, model: ReidNet, tests: dict[str, Gallery]) -> dict[str, float]:
        """Evaluate all targets, and show how."""
        rankings = self._rank_all(model, tests)
        for split, ranking in rankings.items():
            show_ranking(self.job, ranking, tests[split], split, self.config.evaluation)
        if self.adapted:
            self.job.record("adapted_to_targets", {name: len(self._target_images(name)) for name in self.adapted})
            self.job.fallback(
                "dataset.load_train_targets: test/... is of weights whose batch normalisation was adapted to the "
                "target's training images, without labels; weights/best.pt itself is not adapted"
            )
        return metrics_of(rankings)

    def _rank_all(self, model: ReidNet, data: dict[str, Gallery]) -> dict[str, Ranking]:
        rankings = {}
        for split, gallery in data.items():
            net = model
            for name in self.datasets.targets if self.config.dataset.load_train_targets else ():
                if self._split_of(name) == split:
                    net = self.adapted[name] = self._adapt(model, name)
            rankings[split] = self._rank(net, gallery, split)
        return rankings

    def _adapt(self, model: ReidNet, target: str) -> ReidNet:
        return adapt_batch_norm(
            model,
            self._target_images(target),
            self.config.evaluation,
            self.device,
            self.precision,
            self.config.train.workers,
            normalize=self.config.augmentation.normalize,
        )

    def _target_images(self, target: str) -> Images:
        size = (self.config.dataset.height, self.config.dataset.width)
        return Images(thinned(self.datasets.targets[target].train, self.config.dataset), size, "none")

    def _keep_adapted(self, best: Mapping[str, Any]) -> dict[str, Path]:
        """Save the weights that were tested, as `best_<target>.pt`, where they were adapted."""
        paths = {}
        for name, model in self.adapted.items():
            path = self.job.folder / "weights" / f"best_{name}.pt"
            save_checkpoint(path, {**best, "state_dict": model.backbone.state_dict()})
            paths[f"best_{name}"] = path
        return paths

    def _rank(self, model: ReidNet, data: Gallery, split: str) -> Ranking:
        return rank(
            model,
            data,
            split,
            self.config.evaluation,
            self.device,
            self.precision,
            self.config.train.workers if data.query.memory is None else 0,
            normalize=self.config.augmentation.normalize,
        )


def read(job: Job) -> Datasets:
    """Read all datasets of a run, and tell what they hold."""
    config = cast(Config, job.config)
    dataset = config.dataset
    datasets = read_datasets(dataset, root_of(dataset), config.mode)
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
        counts[name] = _counted(crops)
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


def _counted(crops: Sequence[Crop]) -> dict[str, int]:
    frames = sum(len(crop.frames) for crop in crops)
    return {
        **({"tracklets": len(crops), "images": frames} if frames else {"images": len(crops)}),
        "identities": len({crop.pid for crop in crops if crop.pid > 0}),
        "cameras": len({crop.cam for crop in crops}),
    }


def _follow(config: Config, folder: Path, team: Team, device: torch.device) -> None:
    """What a follower of `led` runs."""
    ReidRun(Job(config, folder), device).follow(team)
