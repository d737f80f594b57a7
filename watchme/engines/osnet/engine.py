"""The OSNet engine: data, model and loop put together; the test split evaluated once, with the best weights."""

import functools
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from watchme import runtime
from watchme.checkpoint import load_checkpoint
from watchme.contract import Job, Result
from watchme.engines.osnet import state
from watchme.engines.osnet.backend import ReidNet
from watchme.engines.osnet.config import Config
from watchme.engines.osnet.data import Images, TrainSet, fingerprint
from watchme.engines.osnet.evaluation import Gallery, Ranking, rank
from watchme.engines.osnet.loop import Loop
from watchme.engines.osnet.market import Crop, Splits, read_market
from watchme.engines.osnet.show import show_ranking
from watchme.engines.osnet.split import hold_out
from watchme.engines.osnet.team import Team, led
from watchme.engines.osnet.weights import freeze, load_weights, state_of
from watchme.errors import ConfigError, Problem

log = logging.getLogger(__name__)


class Engine:
    """Trains and evaluates OSNets."""

    def train(self, job: Job) -> Result:
        """Train, select on held-out identities, evaluate the test split once. See `contract.Engine`."""
        return _Run(job).train()

    def evaluate(self, job: Job) -> Result:
        """Evaluate `checkpoint`, ours or torchreid's, on query against gallery."""
        return _Run(job).evaluate()


@dataclass(frozen=True)
class _Prepared:
    """What a loop trains, before it is known which processes do so."""

    config: Config
    model: ReidNet
    dataset: TrainSet
    val: Gallery | None
    split: str
    test: Gallery


class _Run:
    """One process of one run.

    Args:
        job: The run; a follower's has nobody listening.
        device: Where this process computes; None: the first that `train.device` names.
    """

    def __init__(self, job: Job, device: torch.device | None = None) -> None:
        self.job = job
        self.config = cast(Config, job.config)
        train = self.config.train
        self.devices = runtime.choose_devices(train.device, train.processes)
        self.device = self.devices[0] if device is None else device
        self.follows = device is not None
        self.precision = runtime.choose_precision(train.precision, self.device)
        job.record("device", {"devices": [str(each) for each in self.devices], "precision": self.precision})
        runtime.seed_everything(train.seed, deterministic=train.deterministic)
        self.splits = self._read()

    def train(self) -> Result:
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
        crops, val = list(self.splits.train), None
        if config.dataset.combineall:
            crops = _combined(self.splits)
            self.job.fallback("dataset.combineall trains on the test identities: test/... of this run says nothing")
        if config.dataset.val_identities:
            held = hold_out(crops, config.dataset.val_identities, config.train.seed)
            crops, val = held.train, self._gallery(held.query, [*held.gallery, *held.distractors])
            log.info(
                "Held out for validation: %d identities, %d queries, %d gallery images and %d distractors",
                len({crop.pid for crop in held.gallery}),
                len(held.query),
                len(held.gallery),
                len(held.distractors),
            )
        classes = {pid: index for index, pid in enumerate(sorted({crop.pid for crop in crops}))}
        model = self._build(len(classes))
        test = self._gallery(self.splits.query, self.splits.gallery)
        split = "val"
        if val is None and config.dataset.select_on_test:
            val, split = test, "test"
            self.job.fallback(
                "dataset.select_on_test: the best epoch is chosen on the test split; test/... is too good"
            )
        elif val is None:
            self.job.fallback("dataset.val_identities=0: nothing is held out, so the last epoch counts as the best")
        dataset = TrainSet(self._images(crops), classes, config.augmentation)
        log.info("%d training images of %d identities on %s, %s", len(crops), len(classes), self.device, self.precision)
        return _Prepared(config, model, dataset, val, split, test)

    def _loop(self, prepared: _Prepared, team: Team) -> Loop:
        val, split, config = prepared.val, prepared.split, prepared.config
        loop = Loop(
            config,
            prepared.model,
            prepared.dataset,
            None if val is None else lambda net: self._rank(net, val, split).metrics,
            self.job.emit,
            self.job.folder / "weights",
            self.device,
            self.precision,
            team,
        )
        if config.train.resume is not None:
            state.restore(loop, Path(config.train.resume).expanduser())
            self.job.resumed(loop.start)
        return loop

    def evaluate(self) -> Result:
        config = self.config
        runtime.seed_everything(config.train.seed, deterministic=config.train.deterministic)
        pids = {crop.pid for crop in self.splits.train}
        model = self._fresh(config.model.num_classes or len(pids))
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
        test = self._gallery(self.splits.query, self.splits.gallery)
        ranking = self._rank(model, test, "test")
        show_ranking(self.job, ranking, test, "test", config.evaluation)
        name = "test/" + config.objective.split("/", 1)[1]
        return Result(ranking.metrics, ranking.metrics.get(name, math.nan))

    def _finish(self, prepared: _Prepared, loop: Loop, last: int) -> Result:
        config, test = prepared.config, prepared.test
        weights = {name: self.job.folder / "weights" / f"{name}.pt" for name in ("best", "last")}
        if not weights["best"].is_file():
            self.job.fallback(f"{config.objective} was never computed, so the last epoch counts as the best")
            shutil.copy(weights["last"], weights["best"])
            loop.best_epoch = last
        best = self._fresh(loop.plain.backbone.classifier.out_features)
        content = load_checkpoint(weights["best"])
        best.backbone.load_state_dict(state_of(content, weights["best"]))
        metrics = dict(loop.best_metrics)
        ranking = self._rank(self._place(best), test, "test")
        show_ranking(self.job, ranking, test, "test", config.evaluation)
        metrics |= ranking.metrics
        return Result(metrics, metrics.get(config.objective, math.nan), loop.best_epoch, last, weights)

    def _read(self) -> Splits:
        dataset = self.config.dataset
        root = dataset.root
        if root is None:
            assert dataset.demo is not None
            from watchme.data.demo import ensure_demo_world

            world = ensure_demo_world(dataset.demo)
            if world.created:
                log.info("Made the demo world in %s", world.root)
            root = str(world.reid)
        splits = read_market(Path(root))
        counts = {}
        for name, crops in (("train", splits.train), ("query", splits.query), ("gallery", splits.gallery)):
            counts[name] = {
                "images": len(crops),
                "identities": len({crop.pid for crop in crops if crop.pid > 0}),
                "cameras": len({crop.cam for crop in crops}),
            }
            log.info("%-8s %6d images, %5d identities, %2d cameras", name, *counts[name].values())
        everything = [*splits.train, *splits.query, *splits.gallery]
        self.job.record(
            "dataset",
            {
                "name": dataset.name,
                "root": str(splits.root.resolve()),
                "fingerprint": fingerprint(everything),
                "splits": counts,
            },
        )
        return splits

    def _images(self, crops: list[Crop]) -> Images:
        dataset = self.config.dataset
        return Images(crops, (dataset.height, dataset.width), dataset.cache)

    def _gallery(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Gallery:
        if self.follows:
            query, gallery = [], []  # the leader alone evaluates
        return Gallery(self._images(list(query)), self._images(list(gallery)))

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
        if self.config.model.weights is not None:
            match = load_weights(
                model.backbone,
                Path(self.config.model.weights).expanduser(),
                keep_classifier=self.config.model.keep_classifier,
                min_matched=self.config.model.min_matched,
            )
            self.job.record("initial_weights", {"path": self.config.model.weights, "loaded": len(match.loaded)})
        freeze(model.backbone, self.config.model.freeze)
        return model

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


def _combined(splits: Splits) -> list[Crop]:
    return [*splits.train, *(crop for crop in (*splits.query, *splits.gallery) if crop.pid > 0)]


def _follow(config: Config, folder: Path, team: Team, device: torch.device) -> None:
    """What a follower of `led` runs."""
    _Run(Job(config, folder), device).follow(team)
