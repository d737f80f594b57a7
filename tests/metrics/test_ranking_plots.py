"""Pictures: frames of the right colour around the right images, and a curve that can be read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from watchme.metrics import ranking_plots as pictures
from watchme.metrics.ranking_plots import FRAME, GAP, MARGIN, RIGHT, TILE, WRONG, draw_cmc, draw_ranked_results

STEP = TILE[0] + 2 * FRAME + GAP
COLOURS = [(200, 0, 200), (0, 200, 200), (200, 200, 0), (0, 0, 200)]
# Nearest first: image 2 is of the query's person and camera, 0 is wrong, 3 right, 1 wrong.
DISTANCES = torch.tensor([[0.2, 0.9, 0.1, 0.3], [0.1, 0.2, 0.3, 0.4]])
IDS: tuple[Any, Any, Any, Any] = ([7, 8], [5, 6, 7, 7], [0, 0], [0, 1, 0, 1])


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.new("RGB", (64, 128), colour).save(path)
    return paths


def look(file: Path, place: int) -> tuple[Any, Any]:
    """Colours of the frame and of the middle of the gallery image at a place from 0."""
    with Image.open(file) as picture:
        left = MARGIN + (place + 1) * STEP + GAP
        middle = (left + FRAME + TILE[0] // 2, MARGIN + FRAME + TILE[1] // 2)
        return picture.getpixel((left + 1, MARGIN + 1)), picture.getpixel(middle)


def test_nearest_first_framed_by_right_and_wrong_without_the_left_out(tmp_path: Path, images: list[Path]) -> None:
    queries = [Image.new("L", (30, 30)), Image.new("RGB", (64, 128))]
    files = draw_ranked_results(DISTANCES, queries, images, *IDS, tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["query_00000.png", "query_00001.png"]
    assert [look(files[0], place) for place in range(3)] == [
        (WRONG, COLOURS[0]),
        (RIGHT, COLOURS[3]),
        (WRONG, COLOURS[1]),
    ]
    assert [look(files[1], place) for place in range(4)] == [(WRONG, colour) for colour in COLOURS]
    widths = [Image.open(file).width for file in files]
    assert widths[1] - widths[0] == STEP


def test_only_chosen_queries_and_the_first_k(tmp_path: Path, images: list[Path]) -> None:
    images[2:] = [Path("absent.png")] * 2  # never opened
    files = draw_ranked_results(DISTANCES, images[:2], images, *IDS, tmp_path, queries=[1], top_k=2)
    assert [file.name for file in files] == ["query_00001.png"]
    assert Image.open(files[0]).width == 2 * MARGIN + 3 * STEP + GAP - GAP


def test_captions_are_written_below_every_image(tmp_path: Path, images: list[Path]) -> None:
    file = draw_ranked_results(DISTANCES, images[:2], images, *IDS, tmp_path, queries=[1])[0]
    pixels = np.asarray(Image.open(file).convert("L"))
    below = pixels[MARGIN + TILE[1] + 2 * FRAME + 2 :]
    for left in [MARGIN, *(MARGIN + place * STEP + GAP for place in range(1, 5))]:
        assert (below[:, left : left + TILE[0]] < 128).sum() > 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"queries": [0, 2]}, r"no queries \[2\]: there are 2"),
        ({"query_images": []}, "do not fit 0 query and 4 gallery images"),
    ],
)
def test_unfit_arguments_are_refused(tmp_path: Path, images: list[Path], change: dict[str, Any], message: str) -> None:
    names = ("query_pids", "gallery_pids", "query_cams", "gallery_cams")
    arguments = {"query_images": images[:2], "gallery_images": images, **dict(zip(names, IDS, strict=True)), **change}
    with pytest.raises(ValueError, match=message):
        draw_ranked_results(DISTANCES, folder=tmp_path / "none", **arguments)
    assert not (tmp_path / "none").exists()


def blue_pixels(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = [int(pictures.CURVE_COLOUR[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(axis=2) < 8).sum())


@pytest.mark.parametrize("length", [1, 3, 50])
def test_cmc_curve_is_drawn(tmp_path: Path, length: int) -> None:
    path = tmp_path / "new" / "cmc.png"
    draw_cmc(np.linspace(0.4, 0.9, length), path, title="made up")
    assert blue_pixels(path) > (50 if length == 1 else 800)


def test_an_undefined_curve_says_so_instead_of_drawing_zeros(tmp_path: Path) -> None:
    draw_cmc(np.full(50, np.nan), tmp_path / "cmc.png")
    assert blue_pixels(tmp_path / "cmc.png") == 0


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    draw_cmc([0.5, 1.0], tmp_path / "cmc.png")
    assert pyplot.get_fignums() == before


def test_what_is_no_curve_is_refused(tmp_path: Path) -> None:
    for curve in ([], [[0.5]]):
        with pytest.raises(ValueError, match="non-empty curve"):
            draw_cmc(curve, tmp_path / "cmc.png")
