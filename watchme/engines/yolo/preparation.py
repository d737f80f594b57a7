"""What a run needs before ultralytics starts: its device in ultralytics' spelling, and its checked dataset."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from watchme.core.errors import DataError
from watchme.core.formatting import some_of
from watchme.core.interfaces import Job
from watchme.engines.yolo import checked_copy as data
from watchme.engines.yolo.check import check_briefly
from watchme.engines.yolo.config import Config
from watchme.engines.yolo.data_yaml import Layout, read_layout

log = logging.getLogger(__name__)

_LOADS_ITSELF = ("cpu", "mps")  # devices for which ultralytics sets workers=0


def choose_device(
    wanted: str | int | list[int], fallback: Callable[[str], None] = log.warning, *, several: bool = False
) -> str:
    """`train.device` in ultralytics' spelling: cpu, mps, 0, and with `several` 0,1; else of a list the first.

    See `watchme.core.device.choose_device`.

    Raises:
        ConfigError: If the machine does not have it.
    """
    from watchme.core import device as core  # imports torch

    if several and isinstance(wanted, list):
        for index in wanted:
            core.choose_device(index)
        return ",".join(map(str, wanted))
    device = core.choose_device(wanted, fallback)
    return str(device.index or 0) if device.type == "cuda" else device.type


def announce_workers(job: Job, config: Config, device: str) -> None:
    """Say that ultralytics starts no processes that load data for some devices."""
    if device in _LOADS_ITSELF and config.train.workers:
        job.fallback(f"train.workers={config.train.workers} is 0 here: ultralytics has no loaders on {device}")


def prepare(job: Job, config: Config, required: tuple[str, ...], *, only_one: bool = False) -> tuple[Path, data.Scan]:
    """Check the dataset, report and record what was found; return the data.yaml of the checked copy, and the counts.

    The `required` splits must be there and have boxes; with `only_one` the first of them, else test, val or train.

    Raises:
        DataError: If the dataset is missing, has invalid labels, or no boxes where they are required.
    """
    layout = read_layout(data.root_of(config), required)
    if only_one:
        split = next(name for name in (*required, "test", "val", "train") if name in layout.splits)
        layout = replace(layout, splits={split: layout.splits[split]})
    yaml, scan = data.prepare(layout, config.dataset.classes)
    _report(job, layout, scan)
    for split in required:
        if split in scan.splits and not scan.splits[split]["boxes"]:
            kept = f" of {', '.join(scan.names)}" if config.dataset.classes else ""
            raise DataError(f"the {split} split has no boxes{kept}: {', '.join(map(str, layout.splits[split]))}")
    job.record(
        "dataset",
        {
            "name": config.dataset.name,
            "root": str(layout.root.resolve()),
            "fingerprint": scan.fingerprint,
            "splits": scan.splits,
            "names": scan.names,
            "unreadable": scan.skipped,
        },
    )
    if config.mode == "train" and config.check.before_training:
        check_briefly(job, layout, yaml.parent)
    return yaml, scan


def _report(job: Job, layout: Layout, scan: data.Scan) -> None:
    """Log the counts; announce what was assumed and what is left out."""
    if layout.source is None:
        job.fallback(f"{layout.root} has no data.yaml: the standard layout with the one class person is assumed")
    elif layout.assumed_names:
        job.fallback(f"{layout.source} has no names: the classes are called {', '.join(layout.names)}")
    if scan.skipped:
        count = f"{len(scan.skipped)} unreadable images are" if len(scan.skipped) > 1 else "1 unreadable image is"
        job.fallback(f"{count} left out: {some_of(scan.skipped)}")
    if scan.other_images:
        count = f"{len(scan.other_images)} images are" if len(scan.other_images) > 1 else "1 image is"
        job.fallback(f"{count} left out, of formats that are not read: {some_of(scan.other_images)}")
    if scan.converted:
        log.info("%d images are converted to 8-bit PNG in the cache: 16 bits, or turned by EXIF", scan.converted)
    for split, counts in scan.splits.items():
        log.info(
            "%-5s %6d images, %6d boxes, %5d without a box (%d without a file)",
            split,
            *(counts[name] for name in ("images", "boxes", "negatives", "unlabelled")),
        )
