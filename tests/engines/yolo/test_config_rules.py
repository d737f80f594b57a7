"""What a config is refused for, before anything heavy is imported."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from watchme.config.schema import RunConfig
from watchme.core.errors import ConfigError, Problem
from yolo.conftest import Tiny


def problems(build: Callable[..., RunConfig], *overrides: str) -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        build(*overrides)
    return {problem.key: problem for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("optimizer=amsgrad",), "optimizer.name"),
        (("optimizer.amsgrad=true",), "optimizer.amsgrad"),
        (("optimizer.beta2=0.99",), "optimizer.beta2"),
        (("optimizer.eps=1e-6",), "optimizer.eps"),
        (("optimizer=sgd", "optimizer.nesterov=false"), "optimizer.nesterov"),
        (("optimizer=sgd", "optimizer.dampening=0.1"), "optimizer.dampening"),
        (("optimizer=rmsprop", "optimizer.alpha=0.9"), "optimizer.alpha"),
        (("optimizer=auto", "optimizer.lr=0.5"), "optimizer.lr"),
        (("optimizer.lr=5",), "optimizer.lr"),
        (("optimizer.weight_decay=1.5",), "optimizer.weight_decay"),
        (("train.nominal_batch_size=0",), "train.nominal_batch_size"),
        (("optimizer=auto", "optimizer.lr=0.01", "optimizer.momentum=0.5"), "optimizer.momentum"),
        (("scheduler=single_step",), "scheduler.name"),
        (("scheduler=multi_step",), "scheduler.name"),
        (("scheduler=cosine_restarts",), "scheduler.name"),
        (("scheduler=linear", "+scheduler.gamma=0.5"), "scheduler.gamma"),
        (("scheduler=constant", "+scheduler.final_lr_ratio=0.5"), "scheduler.final_lr_ratio"),
        (("train.eval_every=2",), "train.eval_every"),
        (("train.dropout=0.5",), "train.dropout"),
        (("train.precision=fp16",), "train.precision"),
        (("train.precision=bf16",), "train.precision"),
        (("train.batch_size=0",), "train.batch_size"),
        (("train.batch_size=-1",), "train.batch_size"),
        (("train.device=[0,1]", "train.batch_size=9"), "train.batch_size"),
        (("train.device=[0,1]", "train.batch_size=8", "train.rect=true"), "train.rect"),
        (("dataset.image_size=100",), "dataset.image_size"),
        (("objective=val/map",), "objective"),
        (("objective=test/map50",), "objective"),
        (("model.name=yolo11q",), "model.name"),
        (("model.name=yolo11n-seg",), "model.name"),
        (("model.name=nowhere.yaml",), "model.name"),
        (("model.weights=/nowhere/mine.pt",), "model.weights"),
        (("model.weights=yolov11q.pt",), "model.weights"),
        (("model.weights=yolo11n.pt", "model.pretrained=false"), "model.weights"),
        (("model.weights=coco", "model.name=yolov8n-p6"), "model.weights"),
        (("train.resume=/nowhere",), "train.resume"),
        (("dataset.classes=[bicycle]",), "dataset.classes"),
        (("dataset.classes=[3]",), "dataset.classes"),
        (("dataset.classes=[]",), "dataset.classes"),
        (("mode=evaluate",), "checkpoint"),
        (("mode=evaluate", "checkpoint=/nowhere/best.pt"), "checkpoint"),
        (("+model.args.distill_model=yolo11x.pt",), "model.args.distill_model"),
    ],
)
def test_refused(overrides: tuple[str, ...], key: str, tiny: Tiny) -> None:
    assert list(problems(tiny, *overrides)) == [key]


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.beta2=0.999", "optimizer.eps=1e-8", "optimizer.amsgrad=false"),
        ("optimizer=sgd", "optimizer.nesterov=true", "optimizer.dampening=0"),
        *((f"optimizer={name}",) for name in ("sgd", "adam", "adamw", "rmsprop", "radam")),
        ("optimizer=auto", "optimizer.lr=0.01"),
        *((f"scheduler={name}",) for name in ("linear", "cosine", "constant")),
        *((f"objective=val/{name}",) for name in ("map50", "map50_95", "precision", "recall", "f1", "box_loss")),
        *((f"model.name={name}",) for name in ("yolov8s", "yolo12n", "yolo26n", "yolov9c", "yolov8n-p6", "yolov11m")),
        ("dataset.classes=[0]",),
        ("dataset.classes=[person]",),
        ("train.device=[0,1]", "train.batch_size=8"),
        ("train.device=0", "train.batch_size=-1", "train.nominal_batch_size=-1"),
    ],
)
def test_accepted(overrides: tuple[str, ...], tiny: Tiny) -> None:
    tiny(*overrides)


@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_what_a_gpu_has_trained_is_evaluated_on_any_machine(mode: str, tiny: Tiny) -> None:
    """The run's config comes with its weights: a batch that was measured and fp16 are of the training."""
    trained = ("train.batch_size=-1", "train.precision=fp16")
    found = problems(tiny, f"mode={mode}", "checkpoint=absent.pt", "train.device=cpu", *trained)
    assert found.keys() == {"checkpoint"}
    assert problems(tiny, "train.device=cpu", *trained).keys() == {"train.batch_size", "train.precision"}


def test_near_names_are_suggested(tiny: Tiny) -> None:
    assert "did you mean yolo11n?" in problems(tiny, "model.name=yolo1n1")["model.name"].expected
    assert "did you mean val/map50_95?" in problems(tiny, "objective=val/map5095")["objective"].expected
    assert "128" in problems(tiny, "dataset.image_size=120")["dataset.image_size"].expected


def test_unknown_weights_say_what_there_is(tiny: Tiny) -> None:
    text = problems(tiny, "model.weights=yolov11q.pt")["model.weights"].expected
    for expected in ("coco, yolo11n.pt", "python -m watchme.weights list", "null for random", "Did you mean yolo11"):
        assert expected in text


def test_missing_dataset_shows_the_layout(tiny: Tiny, tmp_path: Path) -> None:
    text = str(problems(tiny, f"dataset.root={tmp_path / 'nowhere'}")["dataset.root"])
    for line in ("images/train/*.jpg", "labels/train/*.txt", "data.yaml or dataset.yaml"):
        assert line in text
    (tmp_path / "images" / "train").mkdir(parents=True)
    assert "no val images" in problems(tiny, f"dataset.root={tmp_path}")["dataset.root"].expected


def test_all_problems_come_at_once(tiny: Tiny) -> None:
    found = problems(tiny, "optimizer.eps=1", "dataset.root=/nowhere", "model.weights=no.pt", "train.epochs=0")
    assert set(found) == {"optimizer.eps", "dataset.root", "model.weights", "train.epochs"}


def test_checks_need_nothing_heavy() -> None:
    script = (
        "import sys, watchme.engines.yolo.config_rules\n"
        "from watchme.engines.yolo import initial_weights; assert initial_weights.is_architecture('yolo11n')\n"
        "heavy = {'torch', 'numpy', 'ultralytics', 'cv2', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_loose_checkpoint_of_another_detector_is_refused_by_what_it_holds(tiny: Tiny, tmp_path: Path) -> None:
    from ultralytics import YOLO

    YOLO("yolov5n.yaml").save(tmp_path / "theirs.pt")
    asked = ("mode=evaluate", f"checkpoint={tmp_path / 'theirs.pt'}")
    found = problems(tiny, *asked)
    assert list(found) == ["model.name"]
    assert "holds a yolov5n: say model.name=yolov5n" in found["model.name"].expected
    assert tiny(*asked, "model.name=yolov5n").model.name == "yolov5n"
    (tmp_path / "theirs.pt").write_bytes(b"no zip")
    tiny(*asked)  # the loading says what is wrong with it


@pytest.mark.parametrize("name", ["best.onnx", "best.pth", "best.safetensors"])
def test_weights_that_ultralytics_takes_for_an_architecture_are_refused(name: str, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    found = problems(tiny, f"model.weights={tmp_path / name}")
    assert found["model.weights"].expected == "expected a .pt file of ultralytics"
