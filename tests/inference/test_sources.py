"""Sources of frames: right pixels, numbers, times and names; one clear error for what cannot be a source."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inference.cameras import Camera, put
from inference.drawn import COLOURS, film, picture
from watchme.core.errors import DataError
from watchme.inference.sources import FrameSource, open_source


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def names(source: FrameSource) -> list[str]:
    return [frame.name for frame in source]


def test_an_image_is_one_frame_as_the_common_reader_gives_it(tmp_path: Path) -> None:
    """RGB, upright by EXIF, 16 bits by the high byte."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(picture(3)).save(path, exif=exif)
    source = open_source(str(path))
    (frame,) = source
    assert (source.kind, source.length, source.fps) == ("pictures", 1, None)
    np.testing.assert_array_equal(frame.image, np.rot90(picture(3), -1))
    assert (frame.index, frame.name) == (0, "turned.png")
    assert math.isnan(frame.time_s)
    Image.fromarray(np.full((4, 5), 0x8765, np.uint16)).save(tmp_path / "deep.png")
    (deep,) = open_source(tmp_path / "deep.png")
    assert (deep.image.shape, deep.image.dtype.name, int(deep.image[0, 0, 0])) == ((4, 5, 3), "uint8", 0x87)


def test_a_folder_is_its_images_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        save(tmp_path / f"f{number}.png", picture(number))
    save(tmp_path / "below" / "x.jpg", picture(0))
    (tmp_path / "notes.md").write_text("no image")
    source = open_source(tmp_path)
    assert names(source) == ["below/x.jpg", "f1.png", "f9.png", "f10.png"]
    assert names(source) == names(open_source(f"{tmp_path}/"))  # and it can be iterated again
    assert [(frame.index, frame.name) for frame in source.frames(start=1, stride=2)] == [(2, "f9.png")]
    np.testing.assert_array_equal(next(source.frames(start=3)).image, picture(10))


def test_a_glob_is_what_it_matches(tmp_path: Path) -> None:
    for name in ("a1.png", "a2.png", "b.png", "deep/a3.png"):
        save(tmp_path / name, picture(0))
    (tmp_path / "a4.txt").touch()
    assert names(open_source(f"{tmp_path}/a*")) == ["a1.png", "a2.png"]
    assert names(open_source(f"{tmp_path}/**/a*.png")) == ["a1.png", "a2.png", "deep/a3.png"]


def test_a_list_names_files_below_its_folder(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        save(tmp_path / "photos" / name, picture(0))
    elsewhere = save(tmp_path / "elsewhere.png", picture(0))
    text = tmp_path / "photos" / "list.txt"
    text.write_text(f"# mine\ntwo.png\n\n./one.png\n{elsewhere}\n")
    assert names(open_source(text)) == ["two.png", "one.png", elsewhere.as_posix()]
    table = tmp_path / "photos" / "list.csv"
    table.write_text("\ufeffcamera,path\n1,one.png\n2,two.png\n", encoding="utf-8")
    assert names(open_source(table)) == ["one.png", "two.png"]
    table.write_text("two.png,x\none.png,y\n")
    assert names(open_source(table)) == ["two.png", "one.png"]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
def test_a_video_has_numbers_times_and_rgb(suffix: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"street{suffix}", frames=30, fps=10)
    source = open_source(path)
    frames = list(source)
    assert (source.kind, source.length, source.fps) == ("video", 30, 10.0)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(30)], abs=1e-3)
    assert frames[7].name == "street_000007"
    # Person 0 is red: BGR would make it blue.
    assert np.abs(frames[7].image[30, 26].astype(int) - COLOURS[0]).max() < 30
    later = list(source.frames(start=5, stride=4))
    assert [frame.index for frame in later] == [8, 12, 16, 20, 24, 28]
    np.testing.assert_array_equal(later[0].image, frames[8].image)
    assert source.faults == []


def test_a_video_that_was_cut_off_is_told(tmp_path: Path) -> None:
    path = film(tmp_path / "whole.avi", frames=60)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(cut)
    assert 10 < len(list(source)) < 50
    assert "it may be cut off or damaged" in source.faults[0]
    assert len(list(source)) > 0
    assert len(source.faults) == 1  # told once


def test_frames_that_cannot_be_decoded_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(film(tmp_path / "film.avi", 6))
    put(monkeypatch, Camera(6, start_s=0.0, broken=(2, 4)))
    assert [frame.index for frame in source] == [0, 1, 3, 5]
    assert source.faults == [f"2 frames, the first of them 2, of {source.given} cannot be decoded, and left out"]


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_video_with_broken_bytes_in_the_middle(suffix: str, tmp_path: Path) -> None:
    """All but some frames, with their own numbers and times, although OpenCV stops reading where the damage is."""
    path = film(tmp_path / f"film{suffix}", 60, (360, 640))
    content = bytearray(path.read_bytes())
    damaged = int(0.7 * len(content))
    content[damaged : damaged + 600] = bytes(600)
    path.write_bytes(content)
    source = open_source(path)
    frames = list(source)
    assert 56 <= len(frames) < 60
    assert [frames[0].index, frames[-1].index] == [0, 59]
    for frame in frames:
        assert frame.time_s == pytest.approx(frame.index / 25, abs=1e-3)
    assert np.abs(frames[-1].image[:, :, 0].astype(int) - picture(59, (360, 640))[:, :, 0]).mean() < 12
    assert "cannot be decoded" in source.faults[0]


def test_an_unreadable_image_is_left_out_and_told(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"{number}.png", picture(number))
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    source = open_source(tmp_path)
    assert [frame.index for frame in source] == [0, 1, 3, 4]
    assert len(source.faults) == 1
    assert "2.png cannot be read" in source.faults[0]
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        list(open_source(tmp_path / "2.png"))
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 5 images"):
        list(open_source(tmp_path))


def test_the_fingerprint_tells_sources_apart(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png", picture(0))
    before = open_source(tmp_path / "a").fingerprint
    assert before == open_source(tmp_path / "a").fingerprint
    save(tmp_path / "a" / "y.png", picture(0))
    assert before != open_source(tmp_path / "a").fingerprint
    one, other = film(tmp_path / "one.avi", 5), film(tmp_path / "other.avi", 6)
    assert open_source(one).fingerprint != open_source(other).fingerprint


def no_sources(root: Path) -> list[tuple[str, str]]:
    (root / "empty").mkdir()
    (root / "empty.mp4").touch()
    (root / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (root / "text.docx").touch()
    (root / "none.txt").write_text("\n# nothing\n")
    (root / "gone.txt").write_text("gone.png\n")
    (root / "films.txt").write_text("films/a.avi\n")
    film(root / "films" / "a.avi", 3)
    shutil.copy(root / "films" / "a.avi", root / "films" / "b.avi")
    return [
        (str(root / "missing"), "there is no"),
        ("", "there is no"),
        (str(root / "empty"), "holds no image"),
        (str(root / "empty.mp4"), "is empty"),
        (str(root / "noise.mp4"), "cannot open the video"),
        (str(root / "text.docx"), "of no known kind"),
        (str(root / "none.txt"), "names no file"),
        (str(root / "gone.txt"), "1 of the 1 files"),
        (str(root / "films.txt"), "which is no image"),
        (str(root / "films"), "holds 2 videos and no images"),
        (f"{root}/*.jpg", "matches nothing"),
        (f"{root}/*.mp4", "none of them an image"),
        ("77", "cannot open the camera or stream 77"),
        ("rtsp://127.0.0.1:9/street", "cannot open the camera or stream"),
    ]


def test_what_is_no_source_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for given, expected in no_sources(tmp_path):
        with pytest.raises(DataError, match=expected) as refused:
            list(open_source(given))
        assert str(refused.value).startswith("source: ")
        assert "\n" not in str(refused.value)
