"""Duplicates: files of equal content, and near-duplicates by a perceptual hash (pHash) and a 16 x 16 thumbnail."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from watchme.data.check.database import Facts, Finding
from watchme.data.check.yolo_labels import Box, overlaps

# 64 bits in 6 bands: two hashes that differ in 5 bits have a band in common.
_BANDS = (11, 11, 11, 11, 10, 10)
_MOST_BITS = 5
# Largest difference of any of 16 x 16 places, in standard deviations. Measured on crops of Market-1501, photographs of
# COCO and the demo world: copies that were compressed again, scaled or made brighter stay below 0.3 (1 % of them below
# 0.5), different pictures of one fixed camera begin at 0.79.
_MOST_DIFFERENCE = 0.4
# Of an image, the candidates by hash that are compared in a bucket.
_NEAREST = 32
_AT_ONCE = 2_000_000
_SAME_PERSON = 0.5
_COUNTS: npt.NDArray[np.uint8] = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def equal_files(facts: Facts) -> Iterator[list[dict[str, Any]]]:
    """Groups of images whose files are equal, each in the order of the list. Unreadable ones do not count."""
    facts.db.execute("CREATE INDEX IF NOT EXISTS by_digest ON images (digest)")
    columns = ("id", "split", "dataset", "side", "path", "pid", "cam", "digest")
    rows = facts.rows(
        f"SELECT {', '.join(columns)} FROM images WHERE fault = '' AND digest IN "
        "(SELECT digest FROM images WHERE fault = '' GROUP BY digest HAVING COUNT(*) > 1) ORDER BY digest, id"
    )
    for _, group in itertools.groupby(rows, key=lambda row: row[-1]):
        yield [dict(zip(columns, row, strict=True)) for row in group]


def near_duplicates(facts: Facts, *, with_boxes: bool = False) -> Iterator[Finding]:
    """Images that look like one of an earlier side; each is named once, with the one most like it.

    `with_boxes` compares images with boxes alone, and only those whose boxes are alike: frames of a fixed camera
    without anyone are all alike, and no leak.
    """
    facts.db.execute("CREATE TABLE pairs (later INTEGER PRIMARY KEY, earlier INTEGER, difference REAL)")
    if with_boxes:
        facts.db.execute("CREATE INDEX IF NOT EXISTS by_image ON boxes (image)")
    shift = 0
    for width in _BANDS:
        # The database sorts; here is a bucket at a time.
        rows = facts.rows(
            "SELECT (hash >> ?) & ? AS band, id, hash, side FROM images WHERE hash IS NOT NULL AND fault = ''"
            + (" AND boxes > 0" if with_boxes else "")
            + " ORDER BY band",
            shift,
            (1 << width) - 1,
        )
        for _, bucket in itertools.groupby(rows, key=lambda row: row[0]):
            _compare(facts, list(bucket), with_boxes=with_boxes)
        shift += width
    yield from (
        Finding(
            "near-duplicate in two splits",
            split,
            path,
            "",
            f"looks like {other_split}/{Path(other).name}",
            other,
            other_split,
        )
        for split, path, other_split, other in facts.rows(
            "SELECT late.split, late.path, early.split, early.path FROM pairs JOIN images AS late ON late.id = later "
            "JOIN images AS early ON early.id = earlier WHERE late.digest <> early.digest ORDER BY later"
        )
    )


def _compare(facts: Facts, bucket: list[tuple[Any, ...]], *, with_boxes: bool) -> None:
    """Find the pairs of a bucket: by their hashes first, then place by place."""
    sides = np.array([row[3] for row in bucket])
    if len(bucket) < 2 or sides.min() == sides.max():
        return
    hashes = np.array([row[2] for row in bucket], dtype=np.int64).view(np.uint16).reshape(-1, 4)
    for side in sorted(set(sides.tolist()))[1:]:
        late, early = np.flatnonzero(sides == side), np.flatnonzero(sides < side)
        step = max(1, _AT_ONCE // len(early))
        for start in range(0, len(late), step):
            some = late[start : start + step]
            bits = _COUNTS[hashes[some, None] ^ hashes[None, early]].sum(2, dtype=np.uint8)
            for place in np.flatnonzero((bits <= _MOST_BITS).any(1)):
                order = np.argsort(bits[place], kind="stable")[:_NEAREST]
                near = early[order[bits[place][order] <= _MOST_BITS]]
                _keep_best(facts, bucket[some[place]][1], [bucket[each][1] for each in near], with_boxes=with_boxes)


def _keep_best(facts: Facts, late: int, near: list[int], *, with_boxes: bool) -> None:
    """Keep the image of `near` that looks most like `late`, if it looks the same. All are ids."""
    own, others = _normed(facts, [late]), _normed(facts, near)
    differences = np.abs(others - own).max(1)
    for place in np.argsort(differences, kind="stable").tolist():
        difference = float(differences[place])
        if difference > _MOST_DIFFERENCE:
            return
        if with_boxes and not _boxes_alike(facts, late, near[place]):
            continue
        facts.db.execute(
            "INSERT INTO pairs VALUES (?, ?, ?) ON CONFLICT (later) DO UPDATE SET earlier = excluded.earlier, "
            "difference = excluded.difference WHERE excluded.difference < difference",
            (late, near[place], difference),
        )
        return


def _normed(facts: Facts, images: list[int]) -> npt.NDArray[np.float32]:
    """(N, 256): the small grey pictures of images by their ids, without brightness and contrast."""
    thumbs = b"".join(facts.scalar("SELECT thumb FROM images WHERE id = ?", image) for image in images)
    levels = np.frombuffer(thumbs, dtype=np.uint8).reshape(len(images), -1).astype(np.float32)
    levels -= levels.mean(1, keepdims=True)
    levels /= np.maximum(levels.std(1, keepdims=True), 1.0)
    return levels


def _boxes_alike(facts: Facts, one: int, other: int) -> bool:
    """Whether most boxes of two images are at the same places."""
    first, second = (
        [Box(*row) for row in facts.rows("SELECT line, class, x, y, w, h FROM boxes WHERE image = ?", image)]
        for image in (one, other)
    )
    matched = int((overlaps(first, second) > _SAME_PERSON).any(axis=1).sum())
    return matched * 2 >= max(len(first), len(second))
