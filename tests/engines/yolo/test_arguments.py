"""Config -> ultralytics' arguments: nothing that ultralytics has is lost, nothing of ours is silently dropped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from watchme.config.schema import RunConfig
from watchme.config.validation import known_keys
from watchme.core.errors import ConfigError
from watchme.engines.yolo import arguments
from watchme.engines.yolo.config import Config
from yolo.conftest import Tiny

# For each mapped argument: an override of ours, and what ultralytics must get. The rest is tested by name below.
CHANGES: dict[str, tuple[str, Any]] = {
    "epochs": ("train.epochs=7", 7),
    "batch": ("train.batch_size=5", 5),
    "nbs": ("train.nominal_batch_size=32", 32),
    "imgsz": ("dataset.image_size=96", 96),
    "save_period": ("train.save_period=3", 3),
    "cache": ("dataset.cache=disk", "disk"),
    "workers": ("train.workers=3", 3),
    "seed": ("train.seed=9", 9),
    "deterministic": ("train.deterministic=false", False),
    "single_cls": ("dataset.single_class=true", True),
    "rect": ("train.rect=true", True),
    "cos_lr": ("scheduler=cosine", True),
    "fraction": ("dataset.fraction=0.5", 0.5),
    "freeze": ("train.freeze=[0,model.1]", [0, "model.1"]),
    "compile": ("train.compile=true", True),
    "optimizer": ("optimizer=radam", "RAdam"),
    "lr0": ("optimizer.lr=0.123", 0.123),
    "lrf": ("scheduler.final_lr_ratio=0.2", 0.2),
    "momentum": ("optimizer.momentum=0.7", 0.7),
    "weight_decay": ("optimizer.weight_decay=0.02", 0.02),
    "warmup_epochs": ("scheduler.warmup_epochs=2.5", 2.5),
    "warmup_momentum": ("scheduler.warmup_momentum=0.6", 0.6),
    "warmup_bias_lr": ("scheduler.warmup_bias_lr=0.05", 0.05),
    "box": ("loss.box=1.5", 1.5),
    "cls": ("loss.cls=1.5", 1.5),
    "dfl": ("loss.dfl=2.5", 2.5),
    "cls_pw": ("loss.cls_pw=0.5", 0.5),
    "conf": ("evaluation.confidence=0.1", 0.1),
    "iou": ("evaluation.iou=0.5", 0.5),
    "max_det": ("evaluation.max_detections=50", 50),
    "augment": ("evaluation.augment=true", True),
    "hsv_h": ("augmentation.hsv_h=0.1", 0.1),
    "hsv_s": ("augmentation.hsv_s=0.1", 0.1),
    "hsv_v": ("augmentation.hsv_v=0.1", 0.1),
    "degrees": ("augmentation.degrees=10", 10.0),
    "translate": ("augmentation.translate=0.3", 0.3),
    "scale": ("augmentation.scale=0.3", 0.3),
    "shear": ("augmentation.shear=2", 2.0),
    "perspective": ("augmentation.perspective=0.0005", 0.0005),
    "flipud": ("augmentation.flipud=0.2", 0.2),
    "fliplr": ("augmentation.fliplr=0.2", 0.2),
    "bgr": ("augmentation.bgr=0.2", 0.2),
    "mosaic": ("augmentation.mosaic=0.2", 0.2),
    "mixup": ("augmentation.mixup=0.2", 0.2),
    "cutmix": ("augmentation.cutmix=0.2", 0.2),
    "copy_paste": ("augmentation.copy_paste=0.2", 0.2),
    "copy_paste_mode": ("augmentation.copy_paste_mode=mixup", "mixup"),
    "close_mosaic": ("augmentation.close_mosaic=4", 4),
    "multi_scale": ("augmentation.multi_scale=0.25", 0.25),
}
# Mapped arguments whose key of ours does not pass a value on: watchme does it, or a file stands for it.
BY_THE_HOUSE = {
    "patience": "early stopping is a callback of watchme's; ultralytics' own is off",
    "plots": "the evaluation of the best weights draws, not the training",
    "split": "training validates on val; the evaluation gets its split",
    "classes": "the checked copy of the dataset holds the kept classes alone",
    "resume": "the checkpoint is given by the engine",
    "mode": "train and val are two calls",
    "dropout": "refused unless 0",
    "data": "the data.yaml of the checked copy",
    "model": "a .pt or .yaml file",
    "pretrained": "whether `model` is a .pt file",
    "device": "see test_device",
    "amp": "see test_precision",
}


def arguments_of(config: Config, device: str = "cpu", model: str = "yolo11n.yaml") -> dict[str, Any]:
    return arguments.training_arguments(config, model=model, data="d.yaml", save_dir="s", device=device)


def test_every_argument_of_ultralytics_is_mapped_free_or_refused() -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    groups = (set(arguments.MAPPED), set(arguments.FREE), set(arguments.REFUSED))
    for name in DEFAULT_CFG_DICT:
        homes = [group for group in groups if name in group]
        assert len(homes) == 1, f"{name} is in {len(homes)} of MAPPED, FREE and REFUSED"
    gone = groups[0] | groups[1] | groups[2] - {"save_dir", "augmentations"}
    assert gone - {"save_dir", "augmentations"} <= set(DEFAULT_CFG_DICT), "names that ultralytics no longer has"
    assert all(reason for reason in arguments.REFUSED.values())


def test_every_mapped_argument_names_a_key_of_ours() -> None:
    assert set(arguments.MAPPED.values()) <= known_keys(Config)


def test_every_mapped_argument_is_shown_to_be_passed_on() -> None:
    assert set(CHANGES).isdisjoint(BY_THE_HOUSE)
    assert set(CHANGES) | set(BY_THE_HOUSE) == set(arguments.MAPPED)


@pytest.mark.parametrize("name", CHANGES)
def test_key_of_ours_reaches_the_argument(name: str, tiny: Tiny) -> None:
    override, expected = CHANGES[name]
    before, after = arguments_of(tiny()), arguments_of(tiny(override))
    assert before[name] != expected
    assert after[name] == expected
    changed = {key for key in after if after[key] != before[key]}
    assert changed <= {name} | {"lr0", "momentum", "lrf", "warmup_epochs"}, "and no other but what a group sets"


def test_every_key_of_ours_is_mapped_or_the_houses() -> None:
    """A key that a user can set and that reaches nobody would be silently dropped."""
    ours = {"mode", "checkpoint", "objective", "output_root", "train.patience", "train.eval_every"}
    ours |= {f"model.{name}" for name in ("engine", "family", "args", "pretrained", "trust")}
    ours |= {f"dataset.{name}" for name in ("task", "name", "demo")}
    ours |= {f"evaluation.{name}" for name in ("engine", "examples", "batch_size")}
    ours |= {f"train.{name}" for name in ("limit_batches", "profile", "detect_anomaly")}  # see test_batch_limit.py
    ours |= {f"{section}.engine" for section in ("augmentation", "loss", "train")}
    # Refused by config_rules.py wherever they are set; see test_config_rules.
    ours |= {f"optimizer.{name}" for name in ("beta2", "eps", "nesterov", "dampening", "amsgrad", "alpha")}
    ours |= {f"scheduler.{name}" for name in ("eta_min", "restart_epochs", "step_size", "milestones", "gamma")}
    sections = {"model", "dataset", "optimizer", "scheduler", "augmentation", "loss", "evaluation", "train"}
    for key in known_keys(Config) - sections - ours:
        # check and export are sections of modes of their own; models and sources are refused outside of theirs.
        models = ("detector", "reid", "source", "query", "index", "blur_others")
        if not key.startswith(("tracker", "trial", "dataset.demo", "check", "export", *models)):
            assert key in arguments.MAPPED.values(), key


def test_constant_schedule_ends_where_it_starts(tiny: Tiny) -> None:
    assert arguments_of(tiny("scheduler=constant"))["lrf"] == 1.0


def test_early_stopping_of_ultralytics_is_off(tiny: Tiny) -> None:
    assert arguments_of(tiny("train.patience=5"))["patience"] == 0


@pytest.mark.parametrize(
    ("precision", "device", "amp"),
    [
        ("auto train.detect_anomaly=true", "0", False),
        ("auto", "cpu", False),
        ("auto", "mps", False),
        ("auto", "0", True),
        ("auto", "0,1", True),
        ("fp32", "0", False),
        ("fp16", "0", True),
        ("bf16", "0", "bf16"),
    ],
)
def test_precision(precision: str, device: str, amp: bool | str, tiny: Tiny) -> None:
    train = tiny("train.device=0", *f"train.precision={precision}".split()).train
    assert arguments.precision(train, device) == amp


def test_device(tiny: Tiny) -> None:
    assert arguments_of(tiny(), device="0,1")["device"] == "0,1"


def test_free_arguments_go_through(tiny: Tiny) -> None:
    free = sorted(arguments.FREE - {"distill_model"})
    given = arguments_of(tiny(*(f"+model.args.{name}=1" for name in free)))
    assert {name: given[name] for name in free} == dict.fromkeys(free, 1)


def test_mapped_and_refused_arguments_are_not_free(tiny: Tiny) -> None:
    names = {**arguments.MAPPED, **arguments.REFUSED}
    with pytest.raises(ConfigError) as caught:
        tiny(*(f"+model.args.{name}=1" for name in names))
    found = {problem.key: problem.expected for problem in caught.value.problems}
    assert set(found) == {f"model.args.{name}" for name in names}
    for name, way_out in names.items():
        assert way_out in found[f"model.args.{name}"]


def test_unknown_argument_is_answered_with_the_nearest(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"did you mean model\.args\.agnostic_nms"):
        tiny("+model.args.agnostik_nms=true")
    with pytest.raises(ConfigError, match=r"did you mean augmentation\.mosaic"):
        tiny("+model.args.mosaik=1")


BASIC = {"epochs": 100, "batch": 16, "imgsz": 640}
# The guide's "Advanced Training Options"; patience and device are looked at in the test.
ADVANCED = {
    "epochs": 200,
    "batch": 32,
    "imgsz": 640,
    "save_period": 10,
    "cache": True,
    "workers": 8,
    "optimizer": "AdamW",
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3,
    "warmup_momentum": 0.8,
    "box": 7.5,
    "cls": 0.5,
    "dfl": 1.5,
    "hsv_h": 0.015,
    "hsv_s": 0.7,
    "hsv_v": 0.4,
    "degrees": 0.0,
    "translate": 0.1,
    "scale": 0.5,
    "shear": 0.0,
    "perspective": 0.0,
    "flipud": 0.0,
    "fliplr": 0.5,
    "mosaic": 1.0,
    "mixup": 0.0,
    "copy_paste": 0.0,
}


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for yolo11n.pt in the working directory, where ultralytics looks first, too."""
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    YOLO("yolo11n.yaml").save(tmp_path / "yolo11n.pt")
    return tmp_path / "yolo11n.pt"


@pytest.mark.parametrize(
    ("experiment", "guide"), [("person_detection", BASIC), ("advanced_person_detection", ADVANCED)]
)
def test_guide_values_reach_ultralytics_trainer(
    experiment: str,
    guide: dict[str, Any],
    typed_config: Callable[..., RunConfig],
    drawn: Path,
    release: Path,
    tmp_path: Path,
) -> None:
    """What the trainer of ultralytics really got, but for the GPU and the loader that this machine cannot give."""
    from watchme.engines.yolo import trainer
    from watchme.engines.yolo.checked_copy import prepare
    from watchme.engines.yolo.data_yaml import read_layout
    from watchme.engines.yolo.initial_weights import initial_model

    config = cast(Config, typed_config(f"experiment={experiment}", f"dataset.root={drawn}"))
    model = initial_model(config.model)
    assert model == str(release), "the guide's yolov11n.pt is yolo11n.pt"
    yaml, _ = prepare(read_layout(drawn), None)
    given = arguments.training_arguments(
        config, model=model, data=str(yaml), save_dir=str(tmp_path / "y"), device="cpu"
    )
    with trainer.passing_on(config):
        made = trainer.WatchmeTrainer(overrides=given)
    reached = vars(made.args) | {"save_period": made.keep_every}
    if made.device.type == "cpu":
        reached["workers"] = given["workers"]  # ultralytics sets 0 on a CPU
    assert {name: reached[name] for name in guide} == guide
    if experiment == "advanced_person_detection":
        assert config.train.patience == 50
        assert config.train.device == "0"


def test_table_of_the_guide_is_complete() -> None:
    """GUIDE.md lists every key of the guide's YOLO sections with ours."""
    text = (Path(arguments.__file__).parent / "GUIDE.md").read_text(encoding="utf-8")
    for name in {*ADVANCED, "patience", "device", "project", "name", "resume", "data_config", "batch_size"}:
        name = {"batch": "batch_size", "imgsz": "image_size"}.get(name, name)
        assert f"`{name}`" in text, f"GUIDE.md does not name {name}"
