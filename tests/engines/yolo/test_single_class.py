"""dataset.single_class=true on several classes: each mode agrees with `YOLO(best).val(single_cls=True)`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watchme.config.schema import RunConfig
from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Job
from watchme.engines.person_search.search import search
from watchme.engines.yolo.evaluate import evaluate
from yolo.conftest import Tiny
from yolo.world import SIDE, Recorder, Trained, draw_dataset, train

EPOCHS = "train.epochs=18"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The overrides: a drawn dataset of cars and persons, as one class."""
    root = draw_dataset(tmp_path_factory.mktemp("pair"), {"train": 48, "val": 16}, ("car", "person"), seed=1)
    return f"dataset.root={root}", "dataset.single_class=true"


@pytest.fixture(scope="module")
def resumed(tiny: Tiny, asked: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training that was broken off and went on."""
    folder = tmp_path_factory.mktemp("single") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(*asked, EPOCHS), Recorder(folder, break_before=5))
    return train(tiny(*asked, EPOCHS, f"train.resume={folder}"), Recorder(folder))


@pytest.fixture(scope="module")
def best(resumed: Trained) -> Path:
    return resumed.folder / "weights" / "best.pt"


@pytest.fixture(scope="module")
def theirs(resumed: Trained, best: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What ultralytics itself measures with the trained weights."""
    from ultralytics import YOLO

    given = (resumed.folder / "yolo" / "args.yaml").read_text()
    data = next(line.split(": ", 1)[1] for line in given.splitlines() if line.startswith("data: "))
    options: dict[str, Any] = {"split": "val", "imgsz": 64, "batch": 16, "device": "cpu", "workers": 0}
    found = YOLO(str(best)).val(
        data=data, single_cls=True, plots=False, verbose=False, save_dir=str(tmp_path_factory.mktemp("val")), **options
    )
    assert found.box.map50 > 0.3, "a comparison of zeros would prove nothing"
    return {"map50": found.box.map50, "map50_95": found.box.map}


def test_a_resumed_training(resumed: Trained, theirs: dict[str, float]) -> None:
    assert [event.epoch for event in resumed.recorder.events] == list(range(5, 19))
    assert {name: resumed.result.metrics[f"val/{name}"] for name in theirs} == pytest.approx(theirs, abs=1e-6)


def test_an_evaluation(
    best: Path, asked: tuple[str, str], theirs: dict[str, float], tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(*asked, "mode=evaluate", f"checkpoint={best}", "evaluation.split=val")
    metrics = evaluate(Recorder(tmp_path).job(config)).metrics
    assert {name: metrics[f"val/{name}"] for name in theirs} == pytest.approx(theirs, abs=1e-6)
    with pytest.raises(CheckpointError, match=r"dataset\.single_class=true"):
        evaluate(Recorder(tmp_path).job(tiny(asked[0], "mode=evaluate", f"checkpoint={best}")))


def test_an_export(best: Path, asked: tuple[str, str], theirs: dict[str, float], tiny: Tiny, tmp_path: Path) -> None:
    from watchme.engines.yolo.export import export

    quick = ("export.formats=[onnx]", "export.fp16=true", "export.images=4", "export.latency_batches=[]")
    recorder = Recorder(tmp_path)
    result = export(recorder.job(tiny(*asked, "mode=export", f"checkpoint={best}", *quick)))
    assert result.refused == ""
    # The export measures on squares, ultralytics' validation on rectangles with a margin.
    assert result.metrics["val/map50"] == pytest.approx(theirs["map50"], abs=0.03)
    for name, map50_95, map50, *_ in recorder.tables()["export/metrics"].rows:
        assert (map50_95, map50) == pytest.approx((theirs["map50_95"], theirs["map50"]), abs=0.03), name


class Blind:
    """An embedder to whom all people are the same."""

    assumed: tuple[str, ...] = ()

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.ones((len(crops), 1), np.float32)


def test_a_person_search(
    best: Path,
    asked: tuple[str, str],
    theirs: dict[str, float],
    typed_config: Callable[..., RunConfig],
    tmp_path: Path,
) -> None:
    """Its detector finds both classes; the search's own average precision is that of ultralytics."""
    from watchme.engines.yolo.inference import load

    detector = load(best, "cpu")
    assert detector.assumed[0].startswith(str(best)), "in no run folder; nothing is said of its one class"
    frames = tmp_path / "frames"
    frames.mkdir()
    annotations = []
    root = Path(asked[0].partition("=")[2])
    for number, path in enumerate(sorted((root / "images" / "val").glob("*.jpg"))):
        (frames / path.name).write_bytes(path.read_bytes())
        label = root / "labels" / "val" / f"{path.stem}.txt"
        people = []
        for line in label.read_text().splitlines() if label.is_file() else ():
            kind, x, y, w, h = map(float, line.split())
            people.append(
                {"id": 1 + int(kind), "box": [SIDE * part for part in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]}
            )
        annotations.append({"image": path.name, "camera": number % 2 + 1, "people": people})
    (frames / "annotations.json").write_text(json.dumps({"frames": annotations}))
    for name in ("detector.pt", "reid.pt"):
        (tmp_path / name).touch()
    files = (f"detector={tmp_path / 'detector.pt'}", f"reid={tmp_path / 'reid.pt'}")
    config = typed_config("mode=search", "model=search", "dataset=person_search", f"dataset.root={frames}", *files)
    models: dict[str, Any] = {"yolo": detector, "osnet": Blind()}
    metrics = search(Job(config, tmp_path, load_model=lambda engine, weights: models[engine])).metrics
    assert metrics["test/detection_ap50"] == pytest.approx(theirs["map50"], abs=0.03)
