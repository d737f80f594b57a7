"""What the engine says of a config before anything is run: each option that it cannot honour is refused by its key."""

from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError
from watchme.data.demo import DemoWorld

Typed = Callable[..., RunConfig]
BASE = ("model=osnet_x0_25", "train.sampler=identity")

REFUSED = [
    ("optimizer.name", "is YOLO's", ("optimizer=auto",)),
    ("optimizer.beta2", "does nothing with optimizer=sgd", ("optimizer=sgd", "+optimizer.beta2=0.9")),
    ("optimizer.eps", "does nothing with optimizer=sgd", ("optimizer=sgd", "+optimizer.eps=1e-6")),
    ("optimizer.amsgrad", "belongs to adam, adamw", ("optimizer=radam", "+optimizer.amsgrad=true")),
    ("optimizer.nesterov", "belongs to sgd", ("optimizer=adam", "+optimizer.nesterov=true")),
    ("optimizer.nesterov", "no dampening", ("optimizer=sgd", "optimizer.nesterov=true", "optimizer.dampening=0.1")),
    ("optimizer.alpha", "belongs to rmsprop", ("optimizer=adam", "+optimizer.alpha=0.9")),
    ("scheduler.warmup_momentum", "is YOLO's", ("scheduler=cosine", "scheduler.warmup_momentum=0.8")),
    ("scheduler.warmup_bias_lr", "is YOLO's", ("scheduler=cosine", "scheduler.warmup_bias_lr=0.1")),
    ("scheduler.gamma", "does nothing with scheduler=cosine", ("scheduler=cosine", "+scheduler.gamma=0.1")),
    ("scheduler.eta_min", "belongs to cosine_restarts", ("scheduler=cosine", "+scheduler.eta_min=1e-6")),
    ("scheduler.milestones", "is needed by multi_step", ("scheduler=multi_step", "scheduler.milestones=[]")),
    ("scheduler.step_size", "is needed by single_step", ("scheduler=single_step", "scheduler.step_size=null")),
    ("train.batch_size", r"must be a multiple of 4 \(train.num_instances=4\)", ("train.batch_size=30",)),
    (
        "train.batch_size",
        r"must be a multiple of 12 \(3 processes x train.num_instances=4\)",
        ("train.batch_size=32", "train.processes=3"),
    ),
    ("train.batch_size", "at least two identities", ("train.batch_size=4",)),
    (
        "train.batch_size",
        r"-1 needs batches of one size.*sample_method=all",
        ("train.batch_size=-1", "dataset.tracklets=true", "dataset.sample_method=all"),
    ),
    ("train.processes", "train.device names 2", ("train.device=[0,1]", "train.processes=4")),
    ("train.processes", "train.device names 1", ("train.device=cuda:1", "train.processes=2")),
    ("train.sync_bn", r"needs several GPUs.*\[0,1\]", ("train.sync_bn=true",)),
    ("train.sync_bn", "needs several GPUs", ("train.sync_bn=true", "train.device=cpu", "train.processes=2")),
    ("train.precision", "fp16 needs a GPU", ("train.device=cpu", "train.precision=fp16")),
    ("train.sampler", "several images of an identity", ("loss=reid", "train.sampler=random")),
    ("train.fixbase_epochs", "name other open_layers", ("loss=triplet", "train.fixbase_epochs=2")),
    ("train.sampler", "the circle loss needs several images", ("loss=circle", "train.sampler=random")),
    ("loss.weight_x", "cannot both be 0", ("loss.weight_x=0", "loss.weight_t=0")),
    ("loss.weight_x", "draws all embeddings together", ("loss=center", "loss.weight_x=0", "loss.weight_t=0")),
    ("loss.weight_m", "loss=circle sets it as published", ("loss=circle", "loss.weight_m=null")),
    ("loss.metric_margin", "is needed by metric=arcface", ("loss=arcface", "loss.metric_margin=null")),
    ("loss.metric_scale", "does nothing with loss.metric=center", ("loss=center", "loss.metric_scale=64")),
    ("loss.center_rate", "belongs to center", ("loss=reid", "loss.center_rate=0.5")),
    ("augmentation.patch_area", "two shares", ("augmentation.patch_area=[0,0.2]",)),
    ("objective", "makes its numbers worthless", ("objective=test/map",)),
    ("objective", "is not computed; expected one of val/map", ("objective=val/map50",)),
    ("objective", "expected one of test/map", ("dataset.val_identities=0", "dataset.select_on_test=true")),
    ("dataset.select_on_test", "goes with", ("dataset.select_on_test=true", "objective=test/map")),
    ("dataset.val_identities", "whole number", ("dataset.val_identities=2.5",)),
    ("dataset.demo.cameras", "out of range", ("dataset.demo.cameras=99",)),
    ("augmentation.erase_area", "two shares", ("augmentation.erase_area=[0.4,0.2]",)),
    ("evaluation.visrank_every", "draws nothing", ("evaluation.visrank_every=2", "evaluation.visrank=0")),
    (
        "evaluation.visrank_every",
        "multiple of train.eval_every=2",
        ("evaluation.visrank_every=3", "train.eval_every=2"),
    ),
    ("model.keep_classifier", "no model.weights", ("model.keep_classifier=true",)),
    ("model.weights", r"imagenet, market1501, dukemtmcreid", ("model.weights=/nowhere.pth",)),
    ("train.resume", "no such file", ("train.resume=/nowhere",)),
    ("checkpoint", "is missing", ("mode=evaluate",)),
    ("dataset.root", "give the folder of the dataset", ("dataset=market1501",)),
    ("dataset.root", r"(?s)no such folder.*expected layout", ("dataset=market1501", "dataset.root=/nowhere")),
]


@pytest.mark.parametrize(("key", "expected", "overrides"), REFUSED, ids=lambda value: value if "." in value else "")
def test_refused_by_its_key(key: str, expected: str, overrides: tuple[str, ...], typed_config: Typed) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        typed_config(*BASE, *overrides)
    assert {problem.key for problem in caught.value.problems} == {key}


def test_all_problems_come_at_once(typed_config: Typed) -> None:
    with pytest.raises(ConfigError) as caught:
        typed_config(*BASE, "optimizer=auto", "train.batch_size=30", "objective=val/none", "model.weights=/nowhere")
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"optimizer.name", "train.batch_size", "objective", "model.weights"}


@pytest.mark.parametrize("model", ["", "_ibn", "_ain", "_x0_25", "_x0_5", "_x0_75"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "amsgrad", "rmsprop", "radam"])
def test_every_model_and_optimizer_is_accepted(model: str, optimizer: str, typed_config: Typed) -> None:
    assert typed_config(f"model=osnet{model}", f"optimizer={optimizer}").optimizer.name == optimizer


@pytest.mark.parametrize("scheduler", ["constant", "linear", "cosine", "cosine_restarts", "single_step", "multi_step"])
def test_every_schedule_is_accepted(scheduler: str, typed_config: Typed) -> None:
    assert typed_config(*BASE, f"scheduler={scheduler}").scheduler.name == scheduler


def test_evaluating_does_not_ask_how_to_train(typed_config: Typed) -> None:
    trained = ("train.batch_size=30", "train.sampler=random", "dataset.cache=gpu", "augmentation=reid_strong")
    typed_config(*BASE, "mode=evaluate", "checkpoint=random", "train.device=cpu", *trained)


def test_torchreids_nesting_is_accepted(typed_config: Typed, small_world: DemoWorld, tmp_path: Path) -> None:
    (tmp_path / "market1501").mkdir()
    (tmp_path / "market1501" / "Market-1501-v15.09.15").symlink_to(small_world.reid)
    typed_config(*BASE, "dataset=market1501", f"dataset.root={tmp_path}")
