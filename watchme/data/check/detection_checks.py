"""Checks of a detection dataset: labels, boxes, splits, duplicates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchme.data.check.database import Facts, Finding
from watchme.data.check.duplicates import equal_files, near_duplicates
from watchme.data.check.scan import scan_with_labels
from watchme.data.check.yolo_labels import Box, Line, box_of, overrun, read_label, repeated

# A class with less than this share of the most frequent one's boxes.
_RARE = 0.01
# A reach over the edge that rounding explains.
_OVER_THE_EDGE = 0.01
_LEAST_SIDE = 10  # pixels; ultralytics refuses smaller images


@dataclass(frozen=True)
class Classes:
    """Classes of a dataset."""

    names: Sequence[str]  # all of them
    kept: Mapping[int, int]  # old class id -> new class id, for those that are trained
    keypoint_values: int = 0  # numbers of keypoints behind a box, by data.yaml's `kpt_shape`


def check_detection(facts: Facts, classes: Classes, label_folders: Iterable[Path] = ()) -> None:
    """Probe every image listed by `split` and `side` and read its labels, and record what is wrong.

    Label files without an image are looked for in `label_folders`.
    """
    rules = len(classes.names), classes.keypoint_values
    for image, look, lines in scan_with_labels(facts, rules, _LEAST_SIDE, whole=True):
        split, path, label = facts.db.execute("SELECT split, path, label FROM images WHERE id = ?", (image,)).fetchone()
        if look.fault:
            facts.add([Finding("unreadable image", split, path, detail=look.fault)])
            continue
        _take_labels(facts, classes, image, (split, path, label), lines, (look.width, look.height))
    facts.add(_without_image(facts, label_folders))
    facts.add(_splits(facts, classes))
    facts.add(_same_files(facts))
    facts.add(near_duplicates(facts, with_boxes=True))


def check_labels(facts: Facts, classes: Classes) -> None:
    """The short form: labels and splits alone; no image is opened."""
    last = 0
    while rows := facts.db.execute(
        "SELECT id, split, path, label FROM images WHERE id > ? ORDER BY id LIMIT 1000", (last,)
    ).fetchall():
        for image, split, path, label in rows:
            count = len(classes.names)
            lines = read_label(Path(label), count, classes.keypoint_values) if Path(label).is_file() else None
            _take_labels(facts, classes, image, (split, path, label), lines, None)
        last = rows[-1][0]
    facts.add(_splits(facts, classes))
    facts.add(_same_path(facts))


def _take_labels(
    facts: Facts,
    classes: Classes,
    image: int,
    names: tuple[str, str, str],
    lines: list[Line] | None,
    size: tuple[int, int] | None,
) -> None:
    """Keep the boxes of an image, and what is wrong with them."""
    split, path, label = names
    if not lines:
        kind, file = ("no label file", path) if lines is None else ("empty label file", label)
        facts.add([Finding(kind, split, file, other=path)])
        return
    boxes = [box_of(line) for line in lines if not line.fault and line.class_id in classes.kept]
    facts.db.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?)", [(image, *box) for box in boxes])
    facts.db.execute("UPDATE images SET boxes = ? WHERE id = ?", (len(boxes), image))
    facts.add(
        Finding("malformed label", split, label, str(line.number), line.fault, other=path)
        for line in lines
        if line.fault
    )
    facts.add(
        Finding(kind, split, label, str(box.line), detail, other=path, box=box[2:])
        for kind, box, detail in _box_faults(boxes, size)
    )


def _box_faults(boxes: list[Box], size: tuple[int, int] | None) -> Iterator[tuple[str, Box, str]]:
    width, height = size or (0, 0)
    for box in boxes:
        if box.w <= 0 or box.h <= 0 or (size and (box.w * width < 1 or box.h * height < 1)):
            pixels = f", {box.w * width:.2f} x {box.h * height:.2f} pixels" if size else ""
            yield "box of no area", box, f"{box.w:g} x {box.h:g} of the image{pixels}"
        if (over := overrun(box)) > _OVER_THE_EDGE:
            yield "box outside the frame", box, f"reaches {100 * over:.1f} % of the image over its edge"
    for box, earlier in repeated(boxes):
        yield "duplicate box", box, f"covers what line {earlier.line} covers"


def _splits(facts: Facts, classes: Classes) -> Iterator[Finding]:
    counted = {row[0]: row[1:] for row in facts.rows("SELECT role, COUNT(*), SUM(boxes) FROM images GROUP BY role")}
    for role in ("train", "val", "test"):
        images, boxes = counted.get(role, (0, 0))
        if not images and role != "test":
            yield Finding("missing split", role, detail="it has no images")
        elif images and not boxes:
            kind = "test split without boxes" if role == "test" else "split without boxes"
            label = facts.scalar("SELECT label FROM images WHERE role = ? LIMIT 1", role)
            files = facts.scalar("SELECT COUNT(*) FROM findings WHERE kind = 'no label file' AND split = ?", role)
            why = f"; {files} of {images} images have no label file, e.g. {label}" if files else ""
            yield Finding(kind, role, detail=f"no box in {images} images{why}")
    trained = dict(
        facts.rows(
            "SELECT class, COUNT(*) FROM boxes JOIN images ON images.id = boxes.image WHERE role = 'train' "
            "GROUP BY class"
        )
    )
    if not trained:
        return
    for old in classes.kept:
        count = trained.get(old, 0)
        if count == 0:
            yield Finding("class without boxes", "train", detail=f"{old}: {classes.names[old]}")
        elif count < _RARE * max(trained.values()):
            yield Finding("rare class", "train", detail=f"{old}: {classes.names[old]} has {count} boxes")


def _without_image(facts: Facts, folders: Iterable[Path]) -> Iterator[Finding]:
    facts.db.execute("CREATE TABLE labels (path TEXT)")
    for folder in folders:
        facts.db.executemany(
            "INSERT INTO labels VALUES (?)",
            ((str(path),) for path in folder.rglob("*.[tT][xX][tT]") if path.name != "classes.txt"),
        )
    facts.db.execute("CREATE INDEX by_label ON images (label)")
    for (path,) in facts.rows(
        "SELECT path FROM labels WHERE path NOT IN (SELECT label FROM images WHERE label IS NOT NULL) ORDER BY path"
    ):
        yield Finding("label without image", Path(path).parent.name, path)


def _same_files(facts: Facts) -> Iterator[Finding]:
    for first, *others in equal_files(facts):
        for one in others:
            if one["side"] != first["side"]:
                kind, detail = (
                    "image in two splits",
                    f"the same file content as {first['split']}/{Path(first['path']).name}",
                )
            else:
                kind, detail = "duplicate image", f"the same file content as {Path(first['path']).name}"
            yield Finding(kind, one["split"], one["path"], "", detail, first["path"], first["split"])


def _same_path(facts: Facts) -> Iterator[Finding]:
    """One file that two splits name, by lists or by folders within each other."""
    facts.db.execute("CREATE INDEX by_path ON images (path)")
    for split, path, other in facts.rows(
        "SELECT late.split, late.path, MIN(early.split) FROM images AS late JOIN images AS early "
        "ON early.path = late.path AND early.side < late.side GROUP BY late.id"
    ):
        yield Finding("image in two splits", split, path, "", f"the same file as in {other}", path, other)
