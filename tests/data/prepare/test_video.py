"""Videos -> frames: which, with which pixels, once."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from prepare.made import content, made, manifest, prepare, state, written


def film(path: Path, frames: int = 40, rate: float = 10.0) -> Path:
    """Frame i is grey of value 5 i, from 250 on again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 5 * number % 250, np.uint8))
    writer.release()
    return path


def numbers(root: Path) -> list[int]:
    return sorted(int(path.stem.rsplit("_", 1)[1]) for path in root.rglob("*_*.*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--every", 7), list(range(0, 40, 7))),
        (("--fps", 2), list(range(0, 40, 5))),
        (("--fps", 3), [0, 4, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37]),
        (("--fps", 0.5), [0, 20]),
        (("--fps", 100), list(range(40))),
        ((), [0, 10, 20, 30]),
    ],
)
def test_which_frames(options: tuple[object, ...], expected: list[int], tmp_path: Path) -> None:
    made("video", film(tmp_path / "shop.avi"), *options, "--out", tmp_path / "out")
    assert numbers(tmp_path / "out") == expected
    for path in (tmp_path / "out").rglob("*.jpg"):
        number = int(path.stem.rsplit("_", 1)[1])
        assert path.relative_to(tmp_path / "out").as_posix() == f"shop/000/shop_{number:06d}.jpg"
        assert abs(float(np.mean(np.asarray(Image.open(path)))) - 5 * number) < 3


def test_twice_is_once_and_more_frames_a_folder(tmp_path: Path) -> None:
    video = film(tmp_path / "s" / "long.avi", 1010)
    before = state(tmp_path / "s")
    out = tmp_path / "out"
    first = made("video", video, film(tmp_path / "short.avi"), "--every", 100, "--format", "png", "--out", out)
    assert (out / "long" / "001" / "long_001000.png").is_file()
    assert manifest(out)["splits"] == {
        "long": {"images": 11, "frames": 1010},
        "short": {"images": 1, "frames": 40},
    }
    after = state(out)
    again = made("video", video, tmp_path / "short.avi", "--every", 100, "--format", "png", "--out", out)
    assert state(out) == after
    assert written(again)[0] == 0
    assert state(tmp_path / "s") == before
    assert "--group-by" in first.out
    (out / "long" / "000" / "long_000300.png").unlink()  # what is lost comes back
    made("video", video, tmp_path / "short.avi", "--every", 100, "--format", "png", "--out", out)
    assert content(out) == {name: digest for name, (digest, _) in after.items()}


def test_what_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_text("hello")
    ended = prepare("video", path, "--out", tmp_path / "out")
    assert ended.code == 1
    assert f"{path} cannot be read as a video" in ended.err
    assert "there is no video" in prepare("video", tmp_path / "y.mp4", "--out", tmp_path / "out").err
    one, two = film(tmp_path / "a" / "v.avi"), film(tmp_path / "b" / "v.avi")
    assert "have one name" in prepare("video", one, two, "--out", tmp_path / "out").err


def test_a_video_that_was_cut_off(tmp_path: Path) -> None:
    path = film(tmp_path / "v.avi", 200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ended = prepare("video", path, "--every", 10, "--out", tmp_path / "out")
    if "200 are announced" not in ended.err:
        pytest.skip("this OpenCV counts what a cut file holds, so that nothing can be told")
    assert ended.code == 1
    made("video", path, "--every", 10, "--out", tmp_path / "kept", "--skip-bad")
    assert manifest(tmp_path / "kept")["bad_records"] == 1
