"""Recall by size, crowd and overlap, against plain loops over people."""

import math

import numpy as np

from watchme.metrics.recall_groups import Frame, recall_by_group


def frame(people: list[list[float]], found: list[bool], false: list[list[float]]) -> Frame:
    return Frame(np.array(people, float).reshape(-1, 4), np.array(found, bool), np.array(false, float).reshape(-1, 4))


def test_groups_of_a_known_case() -> None:
    frames = [
        frame([], [], [[0, 0, 10, 10]]),
        frame([[0, 0, 31, 31]], [True], []),
        # 32 x 32 is medium, as in COCO; two large people with an IoU of 1/3.
        frame([[0, 0, 32, 32], [100, 0, 200, 100], [150, 0, 250, 100]], [False, True, False], [[0, 0, 96, 96]]),
    ]
    rows = list(recall_by_group(frames))
    assert rows[:3] == [
        ("size", "small, below 32 px", 1, 1, 1.0, 1),
        ("size", "medium, 32 to 96 px", 1, 0, 0.0, 0),
        ("size", "large, from 96 px", 2, 1, 0.5, 1),
    ]
    by, group, people, found, recall, false = rows[3]
    assert (by, group, people, found, false) == ("people in the image", "nobody", 0, 0, 1)
    assert math.isnan(recall)
    assert rows[4:] == [
        ("people in the image", "1", 1, 1, 1.0, 0),
        ("people in the image", "3 to 4", 3, 1, 1 / 3, 1),
        ("overlap with another person", "none", 2, 1, 0.5, ""),
        ("overlap with another person", "0.2 to 0.4", 2, 1, 0.5, ""),
    ]


def test_each_grouping_counts_everybody_once() -> None:
    rng = np.random.default_rng(3)
    frames = []
    for count in (0, 1, 3, 7, 12, 30):
        low = rng.uniform(0, 300, (count, 2))
        boxes = np.hstack([low, low + rng.uniform(5, 150, (count, 2))])
        frames.append(Frame(boxes, rng.uniform(size=count) < 0.6, boxes[: count // 3] + 400))
    rows = list(recall_by_group(frames))
    for by in ("size", "people in the image", "overlap with another person"):
        own = [row for row in rows if row[0] == by]
        assert sum(row[2] for row in own) == 53
        assert sum(row[3] for row in own) == sum(int(one.found.sum()) for one in frames)
    crowd = {row[1]: row for row in rows if row[0] == "people in the image"}
    for name, place in {"1": 1, "3 to 4": 2, "5 to 9": 3, "10 to 19": 4, "20 or more": 5}.items():
        assert crowd[name][2:4] == (len(frames[place].found), int(frames[place].found.sum()))
    overlapping = 0
    for one in frames:
        for index, (x1, y1, x2, y2) in enumerate(one.people):
            others = np.delete(one.people, index, axis=0)
            overlapping += any(min(x2, b[2]) > max(x1, b[0]) and min(y2, b[3]) > max(y1, b[1]) for b in others)
    assert sum(row[2] for row in rows if row[0].startswith("overlap") and row[1] != "none") == overlapping


def test_nothing_gives_no_rows() -> None:
    assert list(recall_by_group([])) == []
