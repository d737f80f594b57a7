"""Pictures with boxes, tables, and charts of W&B's own making."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from watchme.core.interfaces import Picture, Table
from watchme.tracking.curves import CHARTS, ChartSpec, by_class

_LAYERS = {"missed": "misses", "false": "false positives"}


def images_of(pictures: Sequence[Picture]) -> Any:
    """Pictures as W&B's pages show them, with detections that they draw over them and filter by score."""
    images = [_image(picture) for picture in pictures]
    # W&B reads the pictures of a list once more than a single one.
    return images if len(images) > 1 or pictures[0].boxes else images[0]


def _image(picture: Picture) -> Any:
    caption = picture.caption
    if picture.epoch is not None:
        caption = f"epoch {picture.epoch}: {caption}".removesuffix(": ")
    return wandb.Image(str(picture.path), caption=caption or None, boxes=_boxes(picture))


def table_of(table: Table) -> Any:
    """A table."""
    # W&B refuses texts in a column of numbers, and an empty cell is a text.
    rows = [[None if cell == "" else cell for cell in row] for row in table.rows]
    return wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)


def charts_of(table: Table) -> dict[str, Any]:
    """Charts of a table with a `chart`: name -> W&B's, which draws those of several runs into one."""
    if table.chart == "precision_recall":
        points = [row for rows in by_class(table).values() for row in rows]
        found: dict[str, list[Any]] = {
            "precision_recall": [[recall, precision, name] for _, precision, recall, name, _ in points],
            "f1": [[at, _f1(precision, recall), name] for at, precision, recall, name, _ in points],
        }
    elif table.chart == "cmc":
        found = {"cmc": [[rank, share, "CMC"] for rank, share in table.rows]}
    else:
        found = {"confusion": [list(row) for row in table.rows]}
    place = f"charts/{table.name.rpartition('/')[0]}"
    return {f"{place}/{name}": _chart(CHARTS[name], rows) for name, rows in found.items()}


def _chart(spec: ChartSpec, rows: list[Any]) -> Any:
    data = wandb.Table(columns=list(spec.fields.values()), data=rows)
    return wandb.plot_table(spec.drawing, data, spec.fields, spec.texts)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boxes(picture: Picture) -> Mapping[str, Any] | None:
    if not picture.boxes:
        return None
    labels = sorted({label for *_, label in picture.boxes})
    layers: dict[str, Any] = {}
    for x1, y1, x2, y2, score, label in picture.boxes:
        missed = math.isnan(score)
        box = {
            "position": {"minX": x1, "minY": y1, "maxX": x2, "maxY": y2},
            "domain": "pixel",
            "class_id": labels.index(label),
            "box_caption": label if missed else f"{label} {score:.2f}",
            "scores": {} if missed else {"score": score},
        }
        name = _LAYERS.get(label.partition(" ")[0], "predictions")
        layers.setdefault(name, {"box_data": [], "class_labels": dict(enumerate(labels))})["box_data"].append(box)
    return layers
