"""500 broken datasets through check and training: no hang, no foreign traceback, every lost image counted in both."""

import csv
import faulthandler
import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import broken
import pytest
from hydra import compose, initialize_config_dir

from watchme.cli import resolvers
from watchme.config.conf_dir import CONF
from watchme.config.schema import RunConfig
from watchme.config.validation import validate
from watchme.core.errors import DataError, WatchmeError
from watchme.core.interfaces import Job
from watchme.core.registry import load_mode
from watchme.engines.osnet.data.data_module import ReidData, read_run
from watchme.engines.yolo import preparation
from watchme.engines.yolo.data_yaml import read_layout
from watchme.engines.yolo.isolation import isolate

_LOST = ("image not read", "name breaks the convention", "identity left out", "image left out", "other file")
_TRAINED = {
    "detection": ("model=yolo11n", "dataset=person_detection"),
    "reid": ("model=osnet_x0_25", "dataset=market1501", "dataset.height=64", "dataset.width=32", "train.batch_size=4"),
}
_SECONDS = 60


def config_of(kind: str, mode: str, root: Path) -> RunConfig:
    """The config of a command line; it may be refused."""
    resolvers.register()
    overrides = (*_TRAINED[kind], "model.weights=null", f"mode={mode}", f"dataset.root='{root}'", "train.device=cpu")
    with initialize_config_dir(str(CONF)):
        return validate(compose("config", list(overrides)))


def places(kind: str, root: Path) -> list[Path] | None:
    """The folders whose images count; None where the dataset says something else than the standard layout."""
    if kind == "reid":
        found = [root / folder for folder in broken.FOLDERS]
        return [folder for folder in found if folder.is_dir()] if found[0].is_dir() else None
    standard = {split: (root / "images" / split,) for split in ("train", "val")}
    return [folder for (folder,) in standard.values()] if read_layout(root, ()).splits == standard else None


def checked(kind: str, root: Path, folder: Path) -> int:
    """Images that a check lists or names as lost."""
    folder.mkdir()
    told: dict[str, Any] = {}
    config = config_of(kind, "check", root)
    load_mode(config.model.engine, "check")(Job(config, folder, record=told.__setitem__))
    with (folder / "issues.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    if refused := [row["detail"] for row in rows if row["problem"] == "unreadable dataset"]:
        raise DataError(f"refused as a whole: {refused[0]}")
    lost = [row for row in rows if row["problem"] in _LOST]
    return int(told["check"]["images"]) + sum(bool(broken.SUFFIXES.search(row["file"])) for row in lost)


def trained_detection(root: Path, folder: Path) -> int:
    """Images that a training has or names as left out; each that it has is read as ultralytics does."""
    told: dict[str, Any] = {}
    config = cast(Any, config_of("detection", "train", root))
    isolate()  # before ultralytics is imported
    from ultralytics.utils.patches import imread

    yaml, scan = preparation.prepare(Job(config, folder, record=told.__setitem__), config, ("train", "val"))
    for split, counts in scan.splits.items():
        # Images alone: below a folder of the dataset that is called `images`, their labels are there, too.
        copies = [Path(path) for path in broken.images_in(yaml.parent / "images" / split)]
        assert len(copies) == counts["images"]
        for path in copies:
            assert imread(str(path)) is not None, path
    return sum(c["images"] + c["unreadable"] for c in scan.splits.values()) + len(scan.other_images)


def trained_reid(root: Path, folder: Path) -> int:
    """The same of re-ID, whose training ends at an image that cannot be read."""
    config = cast(Any, config_of("reid", "train", root))
    job = Job(replace(config, dataset=replace(config.dataset, val_identities=0)), folder)
    datasets = read_run(job)
    dataset, _ = ReidData(job, datasets).train_and_val()
    (splits,) = datasets.sources.values()
    for number in range(len(dataset.images)):
        assert dataset.images[number].shape == (64, 32, 3)
    return sum(map(len, (splits.train, splits.query, splits.gallery, splits.left_out)))


def trial(kind: str, seed: int, folder: Path) -> str:
    """What is wrong with how a broken dataset is answered; empty: all is well."""
    root = folder / "data"
    broken.make(root, seed, kind)
    try:
        standard = places(kind, root)
    except WatchmeError:
        standard = None
    expected = None if standard is None else sum(len(broken.images_in(place)) for place in standard)
    train = trained_detection if kind == "detection" else trained_reid
    work = {"check": partial(checked, kind, root, folder / "check"), "train": partial(train, root, folder)}
    wrong = []
    for name, run in work.items():
        try:
            found = run()
        except WatchmeError as error:  # refused, by a text that names something
            if len(str(error)) < 20 or "Traceback" in str(error):
                wrong.append(f"{name}: {error}")
        except Exception:
            wrong.append(f"{name}: {traceback.format_exc(limit=-4)}")
        else:
            junk = sum("/-1_" in path for place in standard or () for path in broken.images_in(place))
            allowed = {expected, (expected or 0) - junk}
            if expected is not None and found not in allowed:
                wrong.append(f"{name}: {found} images of {expected} are accounted for")
    return "\n".join(wrong)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["detection", "reid"])
def test_some(kind: str, seed: int, tmp_path: Path) -> None:
    assert not trial(kind, seed * 17 + 3, tmp_path)


def results(first: int, last: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Trials of both kinds for a range of seeds, in a process of their own, which a hang does not outlive."""
    command = [sys.executable, "-X", "faulthandler", __file__, str(first), str(last), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for line in ended.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.nightly) for part in range(1, 5))])
def test_five_hundred(part: int, tmp_path: Path) -> None:
    found = list(results(50 * part, 50 * part + 50, tmp_path))
    assert len(found) == 100
    wrong = [f"{one['kind']} {one['seed']}: {one['wrong']}" for one in found if one["wrong"]]
    assert not wrong, "\n".join(wrong)


def main(first: int, last: int, folder: Path) -> None:
    """Print a line of JSON for each trial; ends where one hangs."""
    for seed in range(first, last):
        for kind in _TRAINED:
            own = folder / f"{kind}{seed}"
            own.mkdir(parents=True)
            faulthandler.dump_traceback_later(_SECONDS, exit=True)
            print(json.dumps({"kind": kind, "seed": seed, "wrong": trial(kind, seed, own)}), flush=True)
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
