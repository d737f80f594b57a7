"""mode=predict against the naive loop: a frame at a time, `YOLO.predict`, then torchreid's FeatureExtractor."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from omegaconf import DictConfig

from inference.drawn import film
from inference.untrained import write_detector, write_embedder
from watchme.core.process_state import torch_threads
from watchme.core.registry import load_model
from watchme.engines.osnet.export_formats import load_trained, write_onnx
from watchme.inference.pipeline import Settings, cut_out, sightings_of
from watchme.inference.sources import open_source

FRAMES, PEOPLE, ROUNDS = 24, 4, 3
Loop = Callable[[], NDArray[np.float32]]


def models(folder: Path, composed_config: Callable[..., DictConfig]) -> tuple[Path, Path]:
    """Untrained yolo11n that finds `PEOPLE` people a frame at 640 px, and osnet_x1_0; as .pt and .onnx."""
    detector = write_detector(folder / "yolo", composed_config, PEOPLE, 640)
    reid = write_embedder(folder / "osnet" / "reid.pth", "osnet_x1_0")
    from ultralytics import YOLO

    with torch_threads():
        YOLO(str(detector)).export(format="onnx", dynamic=True, simplify=False, imgsz=640, verbose=False)
    write_onnx(load_trained(reid, "osnet_x1_0"), reid.with_suffix(".onnx"), (256, 128))
    return detector, reid


def naive(source: Path, detector: Path, reid: Path, threads: int | None = None) -> Loop:
    """What one writes first. It leaves torch one thread less than cores, as ultralytics sets it; or so many threads."""
    import cv2
    import torch
    from torchreid.reid.utils import FeatureExtractor
    from ultralytics import YOLO
    from ultralytics.utils.torch_utils import select_device

    model = YOLO(str(detector))
    extract = FeatureExtractor("osnet_x1_0", str(reid), device="cpu", verbose=False)

    def loop() -> NDArray[np.float32]:
        with torch_threads():
            select_device("cpu", verbose=False)  # as at a model's first prediction
            if threads is not None:
                torch.set_num_threads(threads)
            return run()

    def run() -> NDArray[np.float32]:
        capture = cv2.VideoCapture(str(source))
        found: list[NDArray[np.float32]] = []
        while True:
            good, frame = capture.read()
            if not good:
                return np.concatenate(found)
            result: Any = model.predict(frame, imgsz=640, conf=0.5, max_det=PEOPLE, device="cpu", verbose=False)[0]
            rgb = np.ascontiguousarray(frame[:, :, ::-1])
            crops = [cut_out(rgb, box) for box in result.boxes.xyxy.tolist()]
            found.append(extract(crops).numpy())

    return loop


def ours(source: Path, detector: Path, reid: Path) -> Loop:
    find: Any = load_model("yolo", detector, "cpu")
    embed: Any = load_model("osnet", reid, "cpu")

    def loop() -> NDArray[np.float32]:
        batches = sightings_of(open_source(source), find, embed, Settings(confidence=0.5))
        return np.concatenate(
            [seen.embeddings for batch in batches for _, seen in batch if seen.embeddings is not None]
        )

    return loop


@pytest.mark.benchmark
def test_against_the_naive_loop(tmp_path: Path, composed_config: Callable[..., DictConfig]) -> None:
    """Rounds of all loops in turn, the fastest of each; the embeddings are compared, too."""
    import torch

    detector, reid = models(tmp_path, composed_config)
    source = film(tmp_path / "street.mp4", FRAMES, (360, 640))
    loops = {
        "naive": naive(source, detector, reid),
        "naive, all cores": naive(source, detector, reid, torch.get_num_threads()),
        "PyTorch": ours(source, detector, reid),
        "ONNX": ours(source, detector.with_suffix(".onnx"), reid.with_suffix(".onnx")),
    }
    took: dict[str, list[float]] = {name: [] for name in loops}
    vectors = {}
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            began = time.perf_counter()
            vectors[name] = loop()
            took[name].append(time.perf_counter() - began)
    best = {name: min(times) for name, times in took.items()}
    print(f"\n{FRAMES} frames of 640x360, {PEOPLE} people each, yolo11n at 640 px and osnet_x1_0:")
    for name, seconds in best.items():
        pace = FRAMES / seconds
        print(f"  {name:<16} {pace:6.1f} frames/s, {best['naive'] / seconds:4.2f} times the naive loop's")
    assert vectors["naive"].shape == vectors["PyTorch"].shape == vectors["ONNX"].shape
    expected = vectors["naive"] / np.linalg.norm(vectors["naive"], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors["PyTorch"], expected, atol=1e-3)
    assert best["naive"] / best["ONNX"] >= 2
    assert best["naive"] / best["PyTorch"] >= 2
