"""mode=check at Market-1501's size: its time, and that its memory does not grow with the dataset."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.benchmark
PROJECT = Path(__file__).resolve().parent.parent.parent
IMAGES, FEW = 32_000, 8_000
SECONDS = 60
GROWTH_MIB = 40
_PATTERNS = 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two datasets in Market-1501 naming: textured JPEGs of 64x128, no two alike, about half of them to train."""
    root = tmp_path_factory.mktemp("market")
    return {count: draw_market(root / str(count), count) for count in (FEW, IMAGES)}


def draw_market(root: Path, count: int) -> Path:
    rng = np.random.default_rng(count)
    noise = rng.normal(0, 14, (_PATTERNS, 128, 64, 3))
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 5, 3), dtype=np.uint8)).resize(
            (64, 128), Image.Resampling.BICUBIC
        )
        pixels = np.clip(np.asarray(coarse) + noise[index % _PATTERNS], 0, 255).astype(np.uint8)
        person, place = divmod(index, 22)
        train = person % 2 == 0
        folder = "bounding_box_train" if train else "query" if place < 4 else "bounding_box_test"
        name = f"{person + 1:05d}_c{place % 6 + 1}s1_{index:06d}_00.jpg"
        Image.fromarray(pixels).save(root / folder / name, quality=90)
    return root


def run(root: Path, folder: Path) -> tuple[float, float]:
    """Seconds and peak MiB of the whole command."""
    command = [sys.executable, "train.py", "mode=check", "dataset=market1501"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"dataset.root={root}", f"hydra.run.dir={folder}"],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "train.log").read_text()
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def test_a_minute_and_constant_memory(folders: dict[int, Path], tmp_path: Path) -> None:
    figures = {count: run(root, tmp_path / str(count)) for count, root in folders.items()}
    for count, (seconds, memory) in figures.items():
        print(f"\n{count:6d} images: {seconds:5.1f} s, peak {memory:5.0f} MiB", end="")
    assert figures[IMAGES][0] <= SECONDS
    assert figures[IMAGES][1] - figures[FEW][1] < GROWTH_MIB
