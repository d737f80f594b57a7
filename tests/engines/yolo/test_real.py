"""Real photographs: a YOLO dataset whose photos without people have no label file. Skipped where it is absent."""

from pathlib import Path

import pytest
from PIL import Image

from yolo.conftest import Tiny
from yolo.world import Recorder, train

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> Path:
    return real_data / "coco128_person"


def test_trains_validates_and_evaluates(photographs: Path, tiny: Tiny, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in photographs.rglob("*")}
    config = tiny(f"dataset.root={photographs}", "train.epochs=1", "augmentation=yolo", "evaluation.examples=3")
    found = train(config, Recorder(tmp_path))
    assert found.recorder.fallbacks == [], "its data.yaml without a path: is understood"
    splits = found.recorder.manifest["dataset"]["splits"]
    expected = {"train": (78, 169), "val": (25, 65), "test": (25, 20)}
    assert {name: (counts["images"], counts["boxes"]) for name, counts in splits.items()} == expected
    # A photo without people has no label file, and is a negative.
    for name, counts in splits.items():
        labelled = {path.stem for path in (photographs / "labels" / name).glob("*.txt")}
        unlabelled = [path for path in (photographs / "images" / name).iterdir() if path.stem not in labelled]
        assert counts["unlabelled"] == counts["negatives"] == len(unlabelled) > 0
        assert counts["unreadable"] == 0
    assert {"val/map50", "test/map50", "test/recall"} <= set(found.result.metrics)
    for picture in found.recorder.pictures()["test/detections"]:
        with Image.open(picture.path) as image:
            for x1, y1, x2, y2, _, _ in picture.boxes:
                assert 0 <= x1 <= x2 <= image.width
                assert 0 <= y1 <= y2 <= image.height
    assert {path: path.stat().st_mtime_ns for path in photographs.rglob("*")} == before


@pytest.mark.slow
def test_overfits_the_training_photographs(photographs: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Thirty epochs from scratch, without augmentation, find the training people that five do not."""
    from watchme.engines.yolo.evaluate import evaluate

    plain = [f"augmentation.{name}=0" for name in ("scale", "translate", "hsv_h", "hsv_s", "hsv_v", "fliplr")]
    recipe = ("optimizer.lr=0.002", "train.batch_size=4", "train.nominal_batch_size=4", "train.save_period=5")
    base = (f"dataset.root={photographs}", "dataset.image_size=320", *plain, *recipe)
    found = train(tiny(*base, "train.epochs=30"), Recorder(tmp_path))
    scores = {}
    for name in ("epoch5.pt", "last.pt"):
        config = tiny(*base, "mode=evaluate", "evaluation.split=train", f"checkpoint={found.folder / 'weights' / name}")
        folder = tmp_path / name
        folder.mkdir()
        scores[name] = evaluate(Recorder(folder).job(config)).metrics["train/map50"]
    assert scores["last.pt"] > scores["epoch5.pt"] + 0.2
