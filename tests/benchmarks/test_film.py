"""The demo film: how much of everybody mode=find finds at the calibrated threshold, and how many others match.

The two demo models are trained first, for longer than the demo and the embedder on three times its people;
WATCHME_FILM_DETECTOR and WATCHME_FILM_REID name runs that are there instead, of whom only the figures are printed.
WATCHME_FILM_OVERRIDES are overrides of mode=find, such as find.calibration=<run>.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import watchme
from watchme.data.demo import ensure_demo_film
from watchme.inference.match_results import Match
from watchme.inference.sightings import load
from watchme.metrics.iou import iou_matrix

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

VISIBLE, TALL = 0.5, 60  # share of the figure, and pixels of height, from which on somebody is to be found
SAME = 0.5  # IoU from which on a person of the ground truth is found
SHOWS = 0.3  # IoU from which on a box shows a person, and is no false match of hers
FOUND, FALSE = 0.8, 0.01
DETECTOR = ("train.epochs=20",)
REID = (
    *("model=osnet_x0_25", "dataset.demo.identities=480", "dataset.demo.walk_length=2"),
    *("train.epochs=30", "train.eval_every=10"),
)


def trained(name: str, folder: Path, *overrides: str) -> Path:
    """The run that an environment variable names, or a new one."""
    if name in os.environ:
        return Path(os.environ[name])
    watchme.train(overrides, folder=folder)
    return folder


def who(
    frames: NDArray[np.int64], boxes: NDArray[np.float64], truth: NDArray[np.float64], least: float = SAME
) -> NDArray[np.int64]:
    """The person in each box by the ground truth; 0: nobody."""
    pids = np.zeros(len(frames), np.int64)
    for frame in np.unique(frames):
        rows, there = np.flatnonzero(frames == frame), truth[truth[:, 0] == frame + 1]
        if len(there):
            corners = np.concatenate([there[:, 2:4], there[:, 2:4] + there[:, 4:6]], axis=1)
            overlap = iou_matrix(boxes[rows], corners)
            pids[rows] = np.where(overlap.max(axis=1) >= least, there[overlap.argmax(axis=1), 1], 0)
    return pids


def rates(person: int, matches: Sequence[Match], others: int, truth: NDArray[np.float64]) -> tuple[float, float]:
    """Share of the frames that show the person in which she is found, and of the sightings of others that match."""
    frames = np.array([match.frame for match in matches], np.int64)
    boxes = np.array([match.box for match in matches], np.float64).reshape(-1, 4)
    pids, barely = who(frames, boxes, truth), who(frames, boxes, truth, SHOWS)
    shown = truth[(truth[:, 1] == person) & (truth[:, 8] >= VISIBLE) & (truth[:, 5] >= TALL), 0] - 1
    return float(np.isin(shown, frames[pids == person]).mean()), float((barely != person).sum() / others)


def test_people_of_the_film_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = ensure_demo_film()
    truth = np.loadtxt(film.truth, delimiter=",")
    detector = trained("WATCHME_FILM_DETECTOR", tmp_path / "detector", *DETECTOR)
    reid = trained("WATCHME_FILM_REID", tmp_path / "reid", *REID)
    overrides = ["find.topk=1", *os.environ.get("WATCHME_FILM_OVERRIDES", "").split()]
    index = tmp_path / "index"
    lines, measured = [], []
    for person, portrait in enumerate(film.portraits, 1):
        folder = tmp_path / f"person{person}"
        found = watchme.find(
            portrait, film.video, detector=detector, reid=reid, index=index, overrides=overrides, folder=folder
        )
        seen = load(index)
        others = int((who(seen.frame, seen.box.astype(np.float64), truth, SHOWS) != person).sum())
        measured.append(rates(person, [match for match in found.matches if match.is_match], others, truth))
        lines.append(f"person {person:2d}: {measured[-1][0]:5.1%} found, {measured[-1][1]:5.1%} false matches")
    hit, false = np.mean(measured, axis=0)
    lines.append(f"mean: {hit:.1%} found, {false:.2%} false matches at {found.threshold:.3f}; {found.search}")
    with capsys.disabled():
        print("", *lines, sep="\n")
    assert not math.isnan(found.threshold)
    if not {"WATCHME_FILM_DETECTOR", "WATCHME_FILM_REID"} & os.environ.keys():
        assert hit >= FOUND
        assert false <= FALSE
