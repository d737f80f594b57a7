"""Probes all images of a dataset in threads, with a progress bar; results go into the check's database."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from watchme.core.progress import Progress
from watchme.core.resources import available_cores
from watchme.data.check.database import Facts
from watchme.data.check.image_probe import ImageProbe, probe_image
from watchme.data.check.yolo_labels import Line, read_label

LabelRules = tuple[int, int]
"""How many classes labels may name, and numbers of keypoints behind a box."""
_TOGETHER = 64
_MOST_THREADS = 16


class Scanned(NamedTuple):
    """An image, and the lines of its label file; None where there is no such file."""

    image: int
    look: ImageProbe
    lines: list[Line] | None


def scan_images(facts: Facts) -> None:
    """Probe every image of `facts.images`, and record sizes, hashes and faults. See `image_probe.probe_image`."""
    for _ in scan_with_labels(facts, None):
        pass


def scan_with_labels(
    facts: Facts, labels: LabelRules | None, least_side: int = 1, *, whole: bool = False
) -> Iterator[Scanned]:
    """Like `scan_images`, and yield each image with its labels, in the order of the list; None: labels are not read."""
    work = partial(_look_at_some, labels=labels, least_side=least_side, whole=whole)
    total = facts.scalar("SELECT COUNT(*) FROM images")
    with Progress("Looking at images", total, "image") as bar:
        for some in _spread(work, _listed(facts)):
            facts.db.executemany(
                "UPDATE images SET digest = ?, hash = ?, thumb = ?, width = ?, height = ?, fault = ? WHERE id = ?",
                [(*each.look, each.image) for each in some],
            )
            yield from some
            bar.update(len(some))


def cores() -> int:
    """Threads that are worth it: Pillow decodes without holding Python's lock."""
    return min(available_cores(), _MOST_THREADS)


_Listed = tuple[int, str, str | None]


def _listed(facts: Facts) -> Iterator[list[_Listed]]:
    """Images by and by. Each group is a query of its own, since the table changes meanwhile."""
    last = 0
    while True:
        rows = facts.db.execute(
            "SELECT id, path, label FROM images WHERE id > ? ORDER BY id LIMIT ?", (last, _TOGETHER)
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        yield rows


def _look_at_some(rows: list[_Listed], labels: LabelRules | None, least_side: int, *, whole: bool) -> list[Scanned]:
    found = []
    for image, path, label in rows:
        lines = None
        if labels and label and Path(label).is_file():
            lines = read_label(Path(label), *labels)
        found.append(Scanned(image, probe_image(Path(path), least_side, whole=whole), lines))
    return found


def _spread(work: Callable[[list[_Listed]], list[Scanned]], groups: Iterator[list[_Listed]]) -> Iterator[list[Scanned]]:
    """Results in order, with a few groups under way: what waits stays small whatever the number of groups."""
    threads = cores()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="check")
    waiting: deque[Future[Any]] = deque()
    try:
        for group in itertools.islice(groups, 2 * threads):
            waiting.append(pool.submit(work, group))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, group) for group in itertools.islice(groups, 1))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
