"""Models for other engines: YOLO as ultralytics called directly, OSNet as the engine's own evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from watchme.core.errors import CheckpointError
from watchme.core.interfaces import Detector, Embedder
from watchme.core.registry import load_model
from watchme.data.demo import DemoWorld
from watchme.engines.osnet.config import ARCHITECTURES
from watchme.engines.osnet.model import ReidNet
from watchme.engines.yolo.isolation import isolate
from watchme.metrics.retrieval import evaluate_features

Pixels = NDArray[np.uint8]
Composed = Callable[..., DictConfig]
# Untrained networks are unsure of everything; from here on ultralytics still keeps some of their boxes.
UNSURE = 0.001


def as_run(folder: Path, config: DictConfig) -> Path:
    """Make a folder look like a run of this config; returns where its weights are to lie."""
    (folder / "weights").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    return folder / "weights" / "best.pt"


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`untrained(*classes)`: an untrained yolo11n in its file."""
    isolate()
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    def make(*classes: str) -> Path:
        torch.manual_seed(0)
        model = YOLO("yolo11n.yaml")
        model.model = DetectionModel("yolo11n.yaml", nc=len(classes), verbose=False)
        model.model.names = dict(enumerate(classes))
        model.model.args = model.overrides
        for module in model.model.modules():
            # By default the picture fades from layer to layer until all pictures are alike.
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        path = tmp_path_factory.mktemp("yolo") / "untrained.pt"
        model.save(str(path))
        return path

    return make


@pytest.fixture(scope="module")
def photos(small_world: DemoWorld) -> list[Pixels]:
    """Three frames of two shapes."""
    files = sorted((small_world.detection / "images" / "test").iterdir())[1:4]
    one, two, three = (read(path) for path in files)
    return [one, np.ascontiguousarray(two[:120]), three]


def direct(path: Path, image: Pixels, **arguments: Any) -> NDArray[np.float32]:
    from ultralytics import YOLO

    defaults = {"conf": UNSURE, "iou": 0.7, "max_det": 300, "device": "cpu", "verbose": False}
    (found,) = YOLO(str(path)).predict(np.ascontiguousarray(image[:, :, ::-1]), **defaults | arguments)
    boxes = found.boxes
    result: NDArray[np.float32] = np.column_stack([boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy()])
    return result


def same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found, expected[:, :5], atol=1e-3)
    assert found.dtype == np.float32


def detector(path: Path) -> Any:
    model: Detector | Embedder = load_model("yolo", path, "cpu")
    return model


def test_detections_are_ultralytics_own(untrained: Callable[..., Path], photos: list[Pixels]) -> None:
    path = untrained("person")
    model = detector(path)
    for image, found in zip(photos, model.detect(photos), strict=True):
        same(found, direct(path, image, imgsz=640))
        assert (np.diff(found[:, 4]) <= 0).all()
        assert found[:, :4].min() >= 0
        assert found[:, 2].max() <= image.shape[1]
    assert "no run folder" in model.assumed[0]
    assert model.detect([]) == []


def test_a_run_brings_its_settings(
    untrained: Callable[..., Path], photos: list[Pixels], composed_config: Composed, tmp_path: Path
) -> None:
    options = (
        "dataset.image_size=96",
        "evaluation.iou=0.3",
        "evaluation.max_detections=40",
        "evaluation.confidence=0.002",
    )
    path = as_run(tmp_path, composed_config(*options))
    path.write_bytes(untrained("person").read_bytes())
    model = detector(path)
    assert model.assumed == ()
    (found,) = model.detect(photos[:1])
    expected = direct(path, photos[0], imgsz=96, iou=0.3, max_det=40, conf=0.002)
    same(found, expected)
    assert len(found) != len(direct(path, photos[0], imgsz=96))


def test_of_several_classes_people_alone_are_found(untrained: Callable[..., Path], photos: list[Pixels]) -> None:
    path = untrained("car", "Person", "dog")
    model = detector(path)
    same(model.detect(photos[:1])[0], direct(path, photos[0], imgsz=640, classes=[1]))
    assert not any("assumed to be people" in text for text in model.assumed)
    nameless = detector(untrained("head", "hand"))
    assert "class 0, head, is assumed to be people" in nameless.assumed[0]


@pytest.mark.real
def test_detections_on_photographs(untrained: Callable[..., Path], real_data: Path) -> None:
    """Photographs of many shapes in one call: each as it would be alone."""
    files = sorted((real_data / "coco128_person" / "images" / "test").iterdir())[:5]
    path, images = untrained("person"), [read(file) for file in files]
    assert len({image.shape for image in images}) > 2
    for image, found in zip(images, detector(path).detect(images), strict=True):
        same(found, direct(path, image, imgsz=640))


def embedder(path: Path) -> Any:
    model: Detector | Embedder = load_model("osnet", path, "cpu")
    return model


@pytest.mark.real
def test_embeddings_reach_the_reference_values(real_data: Path) -> None:
    """people/README.md: OSNet x0.25 on market1501_mini by cosine, as torchreid's own functions gave them."""
    model = embedder(real_data / "weights" / "osnet_x0_25_msmt17.pth")
    assert "its tensors are those of osnet_x0_25;" in model.assumed[0]

    def split(name: str) -> tuple[torch.Tensor, list[int], list[int]]:
        files = sorted((real_data / "market1501_mini" / name).glob("*.jpg"))
        crops = [read(file) for file in files]
        features = np.concatenate([model.embed(crops[start : start + 64]) for start in range(0, len(crops), 64)])
        return torch.from_numpy(features), [int(file.name[:4]) for file in files], [int(file.name[6]) for file in files]

    (query, query_pids, query_cams), (gallery, pids, cams) = split("query"), split("bounding_box_test")
    np.testing.assert_allclose(query.norm(dim=1), 1, atol=1e-5)
    score = evaluate_features(query, gallery, query_pids, pids, query_cams, cams, distance="cosine")
    assert (score.map, score.rank(1)) == pytest.approx((0.742240, 0.846154), abs=1e-4)


@pytest.mark.parametrize("flip", [False, True])
def test_embeddings_are_those_of_the_engines_evaluation(
    flip: bool, small_world: DemoWorld, run_engine: Callable[..., Any], composed_config: Composed, tmp_path: Path
) -> None:
    options = (
        "model=osnet_x0_25",
        "model.bnneck=true",
        "dataset=market1501",
        "model.weights=null",
        f"dataset.root={small_world.reid}",
        "dataset.height=64",
        "dataset.width=32",
        "augmentation.normalize=false",
        f"evaluation.flip_test={flip}",
        "evaluation.visrank=0",
        "evaluation.save_features=true",
        "evaluation.normalize=true",
        "train.workers=0",
    )
    path = as_run(tmp_path / "run", composed_config(*options))
    torch.manual_seed(1)
    torch.save({"state_dict": ReidNet("osnet_x0_25", 5).backbone.state_dict()}, path)
    done = run_engine(tmp_path / "evaluated", *options, "mode=evaluate", f"checkpoint={path}")
    (file,) = done.folder.glob("evaluation/**/features.npz")
    kept = np.load(file)
    model = embedder(path)
    assert model.assumed == ()
    crops = [read(Path(name)) for name in kept["query_files"][:12]]
    np.testing.assert_allclose(model.embed(crops), kept["query_features"][:12], atol=1e-5)
    assert model.embed([]).shape == (0, 512)


def test_any_number_of_crops_is_embedded_in_batches_of_few_sizes(
    photos: list[Pixels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    torch.save(ReidNet("osnet_x0_25", 5).backbone.state_dict(), tmp_path / "reid.pth")
    model = embedder(tmp_path / "reid.pth")
    monkeypatch.setattr(model, "size", (64, 32))
    sizes: set[int] = set()
    embed = model.model.embed

    def noted(pixels: torch.Tensor) -> torch.Tensor:
        sizes.add(len(pixels))
        result: torch.Tensor = embed(pixels)
        return result

    monkeypatch.setattr(model.model, "embed", noted)
    crops = [photos[0][number : number + 60, number : number + 30] for number in range(20)]
    each = np.concatenate([model.embed([crop]) for crop in crops])
    for count in range(1, 21):
        found = model.embed(crops[:count])
        np.testing.assert_allclose(found, each[:count], atol=1e-5)
    assert sizes == {1, 2, 4, 8}, "more at once are slower on a CPU"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_architecture_is_recognised_by_the_tensors(name: str, tmp_path: Path) -> None:
    """With the prefix of nn.DataParallel, a classifier of any size, and without counters of old torch versions."""
    state = {
        f"module.{key}": value
        for key, value in ReidNet(name, 7).backbone.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(state, tmp_path / "plain.pth")
    assert f"its tensors are those of {name};" in embedder(tmp_path / "plain.pth").assumed[0]


def test_what_is_no_osnet_is_refused(untrained: Callable[..., Path], composed_config: Composed, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth is not an OSNet: its 1 tensors \(weight, ...\)"):
        embedder(tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"untrained.pt (cannot be read as a checkpoint of|holds no) tensors"):
        embedder(untrained("person"))
    path = as_run(tmp_path / "run", composed_config("model=osnet_ibn"))
    torch.save(ReidNet("osnet_x0_25", 5).backbone.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"does not hold the osnet_ibn_x1_0 of its run's config"):
        embedder(path)
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    with pytest.raises(CheckpointError, match=r"config.yaml.* cannot be read"):
        embedder(path)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    torch.save(ReidNet("osnet_x0_25", 5).backbone.state_dict(), tmp_path / "reid.pt")
    with pytest.raises(CheckpointError, match=r"reid.pt cannot be loaded as a YOLO model"):
        detector(tmp_path / "reid.pt")
    with pytest.raises(CheckpointError, match=r"x.pth is not a .pt or .onnx file"):
        detector(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        detector(tmp_path / "x.pt")
