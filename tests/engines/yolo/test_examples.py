"""Which images an evaluation shows, and what counts as found, missed and false."""

import math
from pathlib import Path

import numpy as np

from watchme.engines.yolo.examples import Example, WorstExamples, compare

NAMES = {0: "person", 1: "car"}


def test_each_person_is_found_once_by_the_most_confident_box_of_its_class() -> None:
    predicted = {
        "bboxes": np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [20, 0, 30, 10]]),
        "conf": np.array([0.9, 0.8, 0.7, 0.6]),
        "cls": np.array([0, 0, 0, 1]),
    }
    truth = {"bboxes": np.array([[0, 0, 10, 10], [20, 0, 30, 10]]), "cls": np.array([0, 0])}
    example = compare(Path("a.jpg"), predicted, truth, NAMES)
    assert example.counts == (1, 1, 3), "a second box on one person, one on nobody, and a car on a person are false"
    assert [box[5] for box in example.boxes] == ["person", "false person", "false person", "false car", "missed person"]
    assert example.boxes[-1][:4] == (20, 0, 30, 10)
    assert math.isnan(example.boxes[-1][4])
    assert example.lost_f1 == 1 - 2 / 6


def test_an_image_without_people_or_predictions_is_right_and_not_shown() -> None:
    nothing = np.zeros((0, 4)), np.zeros(0)
    example = compare(
        Path("a.jpg"),
        {"bboxes": nothing[0], "conf": nothing[1], "cls": nothing[1]},
        {"bboxes": nothing[0], "cls": nothing[1]},
        NAMES,
    )
    worst = WorstExamples(2)
    worst.add(example, 0)
    assert worst.worst_first() == []


def test_the_worst_images_come_first_and_the_first_of_equals() -> None:
    worst = WorstExamples(2)
    counts = {"good": (3, 0, 0), "bad": (1, 2, 0), "worst": (0, 3, 1), "equal": (1, 2, 0)}
    for order, (name, count) in enumerate(counts.items()):
        worst.add(Example(Path(name), (), count), order)
    assert [example.image.name for example in worst.worst_first()] == ["worst", "bad"]
