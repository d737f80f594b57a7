"""Wrong first commands of users of a `yolo`, a Hydra and a torchreid command line: each answer names the right one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from watchme.cli.command_line import prepare
from watchme.cli.key_help import key_help
from watchme.config.group_options import group_options
from watchme.config.image_size import with_image_size
from watchme.config.validation import known_keys, validate
from watchme.core.errors import ConfigError, RunFolderError
from watchme.core.registry import engine_names, load_config_class

Composed = Callable[..., DictConfig]

COMMANDS = [
    ("epochs=3", "train.epochs"),
    ("lr=0.1", "optimizer.lr"),
    ("train.lr=0.1", "optimizer.lr"),
    ("batch_size=8", "train.batch_size"),
    ("device=cpu", "train.device"),
    ("seed=1", "train.seed"),
    ("patience=5", "train.patience"),
    ("workers=2", "train.workers"),
    ("resume=outputs/x", "train.resume"),
    ("weights=best.pt", "model.weights"),
    ("model.epochs=3", "train.epochs"),
    ("tags=[a]", "tracker.tags"),
    ("name=first", "hydra.run.dir"),
    ("project=people", "tracker.project"),
    ("imgsz=640", "dataset.image_size"),
    ("model=osnet imgsz=256", "dataset.height and dataset.width"),
    ("batch=4", "train.batch_size"),
    ("lr0=0.01", "optimizer.lr"),
    ("lrf=0.01", "scheduler.final_lr_ratio"),
    ("data=coco.yaml", "dataset=<option> dataset.root=<folder>"),
    ("logger=wandb", "tracker=wandb"),
    ("wandb=true", "tracker=wandb"),
    ("debug=yes", "one_batch, overfit, profiler"),
    ("fast_dev_run=true", "debug=one_batch"),
    ("limit_val_batches=2", "train.limit_batches"),
    ("train.limit_batches=2.0", "2 without a point is a count of batches"),
    ("mode=check train.limit_batches=2", "does nothing with mode=check"),
    ("mode=evaluate train.profile=true", "it does nothing with mode=evaluate"),
    ("train.detect_anomaly=true train.precision=fp16", "which is no anomaly"),
    ("amp=true", "train.precision"),
    ("max_epoch=60", "train.epochs"),
    ("--epochs 3", "train.epochs=<value>"),
    ("--epochs=3", "train.epochs=3"),
    ("--batch-size 3", "train.batch_size"),
    ("train", "python train.py model=<option>"),
    ("help", "--help"),
    ("yolo train", "model=yolo11n"),
    ("val", "mode=evaluate checkpoint="),
    ("epochs", "train.epochs=<value>"),
    ("dataset", "dataset=<option>"),
    ("mode=val", "mode=evaluate checkpoint="),
    ("mode=test", "mode=evaluate checkpoint="),
    ("mode=infer", "mode=predict source="),
    ("model=yolo11", "yolo11n, yolo11s, yolo11m, yolo11l or yolo11x"),
    ("model=osnet_ibnn", "did you mean osnet_ibn?"),
    ("mode=evaluate mode=export", "is given twice"),
    ("~dataset", "choose another option: dataset=<option>"),
    ("experiment=osnet_basic dataset.image_size=big", "it is dataset.height and dataset.width here"),
    ("loss=null", "expected one of"),
    ("++optimizer=adam", "without ++"),
    ("augmentation.random_flip=0 train.resume=a.pt", "is a key of the osnet engine"),
    ("~train.seed=3", "keys are not removed"),
    ("train.epochs=1,2", "several values are a sweep: python train.py -m"),
    ("model=osnet,osnet_ibn", "several values are a sweep"),
    ("demo_world=default", "is no option of a run"),
    ("+trial.prune=true", "trial.storage"),
    ("model.weights=", "null leaves it out"),
    ("train.device=[]", "is empty"),
    ("dataset.root=~nobody_here/x", "no such home folder"),
    ("dataset.root=" + "x" * 5000, "longer than 4,096"),
    ("checkpoint=a=b", "as text it would be"),
    ("model=osnet dataset.image_size=256 dataset.height=64", "it is dataset.height and dataset.width here"),
    ("dataset.width=256", "it is dataset.image_size here"),
    ("model=osnet train.nominal_batch_size=64", "is a key of the yolo engine"),
    ("train.sampler=identity", "is a key of the osnet engine"),
    ("model=osnet optimizer=adam optimizer.alpha=0.3", "it belongs to rmsprop"),
    ("train.resume=auto", "hydra.run.dir=<folder>"),
    # ultralytics
    ("yolo detect train data=coco.yaml epochs=100 imgsz=640", "epochs=100 it is train.epochs=100 here imgsz=640 it is"),
    ("model=yolo11n.pt data=data.yaml", "here it is model=yolo11n; on real data it starts from yolo11n.pt by itself"),
    ("model=yolo11n.pt epochs=3", "it is train.epochs=3 here"),
    ("model=yolov8x.pt mode=val", "mode=val it is mode=evaluate checkpoint="),
    ("model=runs/train/weights/best.pt", "here it is model.weights=runs/train/weights/best.pt to train, checkpoint="),
    ("model=yolov8", "did you mean yolov8n or yolov8s?"),
    ("dataset=coco8.yaml", "here it is dataset=person_detection dataset.root=<folder>"),
    ("dataset=/data/people", "dataset=person_detection dataset.root=/data/people"),
    ("segment", "detectors and re-ID models are trained here"),
    ("train.batch_size=auto", "-1 takes what fits one GPU"),
    ("resume=True", "it is train.resume here"),
    ("train.resume=true", "train.resume=outputs/<run>"),
    ("cache=True", "it is dataset.cache here"),
    ("dataset.cache=true", "it is ram or disk here"),
    ("verbose=True", "hydra.verbose=true"),
    ("mode=export format=onnx", "export.formats=[<format>]"),
    # Hydra and Lightning
    ("-h model", "python train.py help=model"),
    ("--cfg", "--cfg job"),
    ("--resolve", "--cfg job --resolve"),
    ("--config-name=train", "--config-dir=<folder> experiment=<name>"),
    ("--config-path configs", "--config-dir=<folder> experiment=<name>"),
    ("--config-dir=nowhere", "there is no such folder"),
    ("optimizer.lr=1e-3..1e-1", "-m 'optimizer.lr=interval(1e-3,1e-1)'"),
    ("optimizer.lr=range(0.1,0.5,0.1)", "several values are a sweep: python train.py -m"),
    ("hparams_search=optuna", "sweeper=<option>, with -m"),
    (
        "trainer.max_epochs=3 trainer.devices=2",
        "it is train.epochs here trainer.devices = 2 unknown key; it is train.dev",
    ),
    ("trainer=ddp", "it is train.device here"),
    ("callbacks=none", "train.patience, early stopping"),
    ("logger.wandb.project=x", "it is tracker.project here"),
    ("paths.data_dir=/data", "it is dataset.root here"),
    ("datamodule.batch_size=8", "it is train.batch_size here"),
    ("model.optimizer.lr=0.1", "it is optimizer.lr here"),
    ("train.precision=16-mixed", "it is fp16 here"),
    ("train.nothing.deeper=1", "unknown key. "),
    # torchreid
    ("--config-file configs/x.yaml", "experiment=<option>; your own yaml goes into <folder>/experiment"),
    ("--transforms random_flip --root /data", "augmentation=<option> --root settings are written key=value"),
    ("model=osnet_x1_0", "here it is model=osnet "),
    ("model=osnet_ain_x1_0", "here it is model=osnet_ain "),
    ("model=osnet use_gpu=False", "it is train.device here"),
    ("model=osnet print_freq=10", "it is train.log_every here"),
    ("model=osnet label_smooth=True", "it is loss.label_smoothing here"),
    ("model=osnet dist_metric=cosine", "it is evaluation.distance here"),
    ("test_only=True", "it is mode=evaluate checkpoint="),
    ("dataset=market1501", "give the folder of the dataset: dataset.root=<folder>"),
    ("dataset=dukemtmc", "did you mean dukemtmcreid or dukemtmcvidreid?"),
    ("model=osnet loss.name=triplet", "it is loss=<option> here"),
    ("optimizer=AdamW", "did you mean adamw?"),
]


def typed(line: str, composed_config: Composed) -> Any:
    """The config of a command line, as a run gets it."""
    overrides = prepare(line.split(" "))
    return validate(with_image_size(composed_config(*overrides), overrides))


def answer(line: str, composed_config: Composed) -> str:
    """What a command line is refused with."""
    with pytest.raises(ConfigError) as refused:
        typed(line, composed_config)
    return " ".join(str(refused.value).split())


@pytest.mark.parametrize(("line", "right"), COMMANDS, ids=[line[:40] for line, _ in COMMANDS])
def test_the_answer_names_the_right_command(line: str, right: str, composed_config: Composed) -> None:
    assert right in answer(line, composed_config)


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare(["dataset.root=~/people"]) == [f'dataset.root="{tmp_path}/people"']


def test_a_key_that_is_there_can_be_added(composed_config: Composed) -> None:
    assert composed_config(*prepare(["+train.epochs=3"])).train.epochs == 3


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("model=osnet dataset.image_size=256", (256, 128)),
        ("model=osnet dataset.image_size=[384,192]", (384, 192)),
        ("model=osnet debug=tiny", (96, 48)),
        ("model=osnet debug=tiny dataset.height=128", (128, 32)),  # the width is the demo world's
        ("model=yolo11n dataset.height=320 dataset.width=320", 320),
        ("model=yolo11n debug=tiny", 96),
        ("model=yolo11n debug=tiny dataset.image_size=64", 64),
    ],
)
def test_an_image_size_means_what_it_can(line: str, size: Any, composed_config: Composed) -> None:
    dataset = typed(line, composed_config).dataset
    assert (dataset.image_size if isinstance(size, int) else (dataset.height, dataset.width)) == size


@pytest.mark.parametrize("model", ["yolo11n", "osnet_x0_25"])
@pytest.mark.parametrize("preset", group_options("debug"))
def test_every_debug_preset_fits_both_engines(preset: str, model: str, composed_config: Composed) -> None:
    train = typed(f"model={model} debug={preset}", composed_config).train
    assert {
        "none": train.limit_batches is None,
        "one_batch": (train.epochs, train.limit_batches) == (1, 1),
        "tiny": train.limit_batches == 2,
        "profiler": train.profile,
        "anomaly": train.detect_anomaly,
        "overfit": train.epochs == 50,
    }[preset]


def test_debug_true_is_one_batch_and_the_command_line_beats_it(composed_config: Composed) -> None:
    assert typed("debug=true", composed_config).train.limit_batches == 1
    assert typed("debug=false", composed_config).train.limit_batches is None
    assert typed("debug=true train.limit_batches=0.5 tracker=tensorboard", composed_config).train.limit_batches == 0.5
    assert typed("debug=true tracker=tensorboard", composed_config).tracker.tensorboard
    both = typed("debug=overfit experiment=person_detection dataset=demo_detection", composed_config)
    assert (both.scheduler.name, both.train.limit_batches) == ("constant", 2)


def test_a_dataset_of_another_task_comes_with_its_model(composed_config: Composed) -> None:
    config = composed_config(*prepare(["dataset=market1501", "dataset.root=/data"]))
    assert config.model.engine == "osnet"


@pytest.mark.parametrize(
    ("key", "pieces"),
    [
        ("train.epochs", ["passes over the training set", "an integer >= 1", "conf/train/osnet.yaml"]),
        ("dataset.image_size", ["a multiple of 32", "conf/dataset/person_detection.yaml"]),
        ("optimizer", ["adamw", "One vocabulary"]),
        ("mode", ["one of train, evaluate, check, export, search, predict, find, embed", "conf/config.yaml: train"]),
        ("scheduler.final_lr_ratio", ["last learning rate over the first", "conf/scheduler/cosine.yaml"]),
    ],
)
def test_help_explains_a_key(key: str, pieces: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare([f"help={key}"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for piece in pieces:
        assert piece in text, text


def test_help_of_no_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean train\.epochs"):
        prepare(["help=epochs"])


def test_help_of_a_key_of_hydra_says_whose_it_is() -> None:
    """There was no such key, and trial.prune was meant."""
    with pytest.raises(ConfigError, match="is a key of Hydra: `--cfg hydra` shows its values"):
        prepare(["help=hydra.run.dir"])


def test_a_config_of_somebody_else_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr("watchme.cli.from_run.os.access", lambda *_: False)
    with pytest.raises(RunFolderError, match=r"config\.yaml cannot be read: Permission denied"):
        prepare([f"train.resume={tmp_path}"])


def test_every_key_can_be_explained() -> None:
    for name in engine_names():
        for key in known_keys(load_config_class(name)):
            assert key_help(key).startswith(key)


def test_shell_completion_is_left_to_hydra() -> None:
    assert prepare(["-sc", "install=bash"]) == ["-sc", "install=bash"]


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_tab_completes_options(train_py: Callable[..., "os.PathLike[str]"]) -> None:
    done = train_py("-sc", "query=bash", COMP_LINE="python train.py optimizer=", COMP_POINT="26", COMP_TYPE="9")
    assert "optimizer=adamw" in done.stdout.split(), done.stderr  # type: ignore[attr-defined]
