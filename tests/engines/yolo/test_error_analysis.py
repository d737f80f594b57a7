"""Which images an evaluation shows, and what counts as found, missed and false."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from watchme.engines.yolo.error_analysis import Matches, best_confidence, match, totals, worst_first

NAMES = {0: "person", 1: "car"}


def made(name: str, *, found: int, missed: int, false: int, score: float = 0.9) -> Matches:
    """An image with so many people found, missed, and predictions of nobody."""
    boxes = [[20 * place, 0, 20 * place + 10, 10] for place in range(found + missed)]
    wrong = [[20 * place, 500, 20 * place + 10, 510] for place in range(false)]
    predicted = {"bboxes": np.array(boxes[:found] + wrong), "conf": np.full(found + false, score)}
    truth = {"bboxes": np.array(boxes), "cls": np.zeros(len(boxes))}
    return match(Path(name), {**predicted, "cls": np.zeros(found + false)}, truth)


def test_each_person_is_found_once_by_the_most_confident_box_of_its_class() -> None:
    predicted = {
        "bboxes": np.array([[50, 50, 60, 60], [0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]),
        "conf": np.array([0.7, 0.9, 0.8, 0.6]),
        "cls": np.array([0, 0, 0, 1]),
    }
    truth = {"bboxes": np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), "cls": np.array([0, 0])}
    image = match(Path("a.jpg"), predicted, truth)
    assert image.counts(0.0) == (1, 1, 3), "a second box on one person, one on nobody, and a car on a person are false"
    drawn = image.drawn(0.0, NAMES)
    assert [box[5] for box in drawn] == ["person", "false person", "false person", "false car", "missed person"]
    assert drawn[-1][:4] == (20, 0, 30, 10)
    assert math.isnan(drawn[-1][4])
    assert image.lost_f1(0.0) == 1 - 2 / 6
    assert image.counts(0.85) == (1, 1, 0)
    assert [box[5] for box in image.drawn(0.95, NAMES)] == ["missed person", "missed person"]


def naive_counts(scores: Any, boxes: Any, people: Any, confidence: float) -> tuple[int, int, int]:
    """COCO's greedy matching of the predictions from a confidence on, in plain loops."""
    left, found, false = list(range(len(people))), 0, 0
    for index in sorted(range(len(scores)), key=lambda index: -scores[index]):
        if scores[index] < confidence:
            continue
        best, chosen = 0.5, None
        for person in left:
            (a1, b1, a2, b2), (c1, d1, c2, d2) = boxes[index], people[person]
            shared = max(0.0, min(a2, c2) - max(a1, c1)) * max(0.0, min(b2, d2) - max(b1, d1))
            overlap = shared / ((a2 - a1) * (b2 - b1) + (c2 - c1) * (d2 - d1) - shared)
            if overlap >= best:
                best, chosen = overlap, person
        if chosen is None:
            false += 1
        else:
            left.remove(chosen)
            found += 1
    return found, len(left), false


@pytest.mark.parametrize("seed", range(5))
def test_matches_at_every_confidence_are_those_of_matching_anew(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 60, (12, 4))
    people[:, 2:] = people[:, :2] + rng.uniform(15, 30, (12, 2))
    near = people[rng.integers(0, 12, 60)] + rng.normal(0, 3, (60, 4))
    scores = rng.permutation(np.linspace(0.05, 0.95, 60))
    image = match(
        Path("a.jpg"), {"bboxes": near, "conf": scores, "cls": np.zeros(60)}, {"bboxes": people, "cls": np.zeros(12)}
    )
    for confidence in (0.0, 0.3, 0.6, 0.8):
        expected = naive_counts(scores, near, people, confidence)
        assert image.counts(confidence) == expected
        assert expected[0] > 0
        frame = image.frame(confidence)
        assert (int(frame.found.sum()), len(frame.false)) == (expected[0], expected[2])


def test_an_image_without_people_or_predictions_is_right_and_not_shown() -> None:
    assert worst_first([made("a.jpg", found=0, missed=0, false=0)], 0.5, 2) == []


def test_the_worst_images_come_first_and_the_first_of_equals() -> None:
    images = [
        made("good", found=3, missed=0, false=0),
        made("bad", found=1, missed=2, false=0),
        made("worst", found=0, missed=3, false=1),
        made("equal", found=1, missed=2, false=0),
    ]
    assert [image.image.name for image in worst_first(images, 0.5, 2)] == ["worst", "bad"]
    assert totals(images, 0.5) == (5, 7, 1)
    # Where few are wrong, right ones follow.
    assert [image.image.name for image in worst_first(images, 0.5, 5)] == ["worst", "bad", "equal", "good"]
    # Nobody is found from a higher confidence on: all lose as much, and the most people missed is worst.
    assert [image.image.name for image in worst_first(images, 0.95, 4)] == ["good", "bad", "worst", "equal"]


def test_the_best_confidence_is_where_ultralytics_reports_precision_and_recall() -> None:
    from ultralytics.utils.metrics import ap_per_class

    rng = np.random.default_rng(0)
    conf = rng.uniform(0, 1, 300)
    right = rng.uniform(0, 1, 300) < conf
    found = ap_per_class(np.repeat(right[:, None], 10, 1), conf, np.zeros(300), np.zeros(200))
    curves = SimpleNamespace(f1_curve=found[9], px=found[10])
    best = best_confidence(curves)
    shown = conf >= best
    assert found[2][0] == pytest.approx(right[shown].mean(), abs=0.01)
    assert found[3][0] == pytest.approx(right[shown].sum() / 200, abs=0.01)
    nothing = SimpleNamespace(f1_curve=np.zeros((1, 1000)), px=found[10])
    assert best_confidence(nothing) == 0.25
