"""Chosen frames are the very frames of the first pass, whatever the container makes of seeking."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from watchme.inference.frames_at import frames_at
from watchme.inference.sources import open_source


def video(path: Path, codec: str, frames: int = 200) -> Path:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec}")
    for number in range(frames):
        image = np.full((48, 64, 3), 40, np.uint8)
        image[:, : number % 64] = (number % 200, 255 - number, 90)
        writer.write(image)
    writer.release()
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.webm", "VP80")])
def test_frames_of_a_video(name: str, codec: str, tmp_path: Path) -> None:
    source = open_source(video(tmp_path / name, codec))
    passed = {frame.index: frame for frame in source}
    wanted = [0, 1, 2, 60, 61, 130, 199]
    found = list(frames_at(source, {index: passed[index].time_s for index in reversed(wanted)}))
    assert [frame.index for frame in found] == wanted
    for frame in found:
        assert np.array_equal(frame.image, passed[frame.index].image)
        assert frame.name == passed[frame.index].name


def test_times_that_do_not_fit_fall_back_to_reading_through(tmp_path: Path) -> None:
    source = open_source(video(tmp_path / "a.mp4", "mp4v"))
    passed = {frame.index: frame for frame in source}
    found = list(frames_at(source, {50: 2.013, 120: math.nan}))
    assert [frame.index for frame in found] == [50, 120]
    assert all(np.array_equal(frame.image, passed[frame.index].image) for frame in found)


def test_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8), (number * 50, 0, 0)).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    (tmp_path / "2.png").unlink()
    found = list(frames_at(source, dict.fromkeys([1, 2, 3], math.nan)))
    assert [(frame.index, frame.name, int(frame.image[0, 0, 0])) for frame in found] == [
        (1, "1.png", 50),
        (3, "3.png", 150),
    ]
