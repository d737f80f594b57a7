"""mode=check of a detection dataset, and its short form before each training; neither imports ultralytics."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from watchme.core.interfaces import Job, Result
from watchme.data.check.contact_sheets import draw_sheets
from watchme.data.check.database import Facts, Finding
from watchme.data.check.detection_checks import Classes, check_detection, check_labels
from watchme.data.check.result import PICTURES, report_brief_check, report_check
from watchme.data.check.summary_table import detection_statistics, summary
from watchme.engines.yolo import checked_copy as data
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.data_yaml import Layout, read_layout
from watchme.io.files import replace_text


def check(job: Job) -> Result:
    """Check a whole dataset and report what would harm training.

    Raises:
        DataError: If the dataset is missing, or its yaml contradicts itself.
    """
    from watchme.data.check.dataset_plots import (
        plot_detection,
    )  # imports matplotlib, which training does not need at its start

    config = cast(Config, job.config)
    layout = read_layout(data.root_of(config), ())
    classes = _classes(layout, config)
    with Facts(job.folder) as facts:
        _list(facts, layout)
        check_detection(facts, classes, _label_folders(layout))
        folder = job.folder / PICTURES
        shown = [*draw_sheets(facts, folder), *plot_detection(facts, layout.names, folder)]
        return report_check(job, facts, shown, detection_statistics(facts))


def check_briefly(job: Job, layout: Layout, copy: Path) -> None:
    """Check names, labels and splits, and warn of what is wrong with them.

    The findings are kept in the checked `copy`, a new folder for every change of a file, so that labels are read once
    and not at every start.
    """
    config = cast(Config, job.config)
    kept = copy / "check.json"
    if not kept.is_file():
        with Facts(job.folder) as facts:
            _list(facts, layout)
            check_labels(facts, _classes(layout, config))
            replace_text(kept, json.dumps(summary(facts)))
    report_brief_check(job, json.loads(kept.read_text(encoding="utf-8")))


def _classes(layout: Layout, config: Config) -> Classes:
    return Classes(layout.names, layout.kept_classes(config.dataset.classes), layout.keypoint_values)


def _list(facts: Facts, layout: Layout) -> None:
    facts.add(Finding("image not read", split, str(path)) for split, path in data.other_images(layout))
    for side, (split, places) in enumerate(layout.splits.items()):
        images = (image for place in places for image in data.each_image(place))
        facts.list_images(split, split, side, ((str(image), str(data.label_of(image)), None, None) for image in images))


def _label_folders(layout: Layout) -> Iterator[Path]:
    """Folders that hold labels and nothing else."""
    for places in layout.splits.values():
        for place in places:
            folder = data.label_of(place / "any.jpg").parent
            if place.is_dir() and folder != place and folder.is_dir():
                yield folder
