"""What is wrong with the datasets of a config, found without torch: names, folders, options that do nothing."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from watchme.core.errors import DataError, Problem
from watchme.data.formats import market1501 as market
from watchme.data.formats.own_names import compiled
from watchme.data.formats.reid_datasets import TORCHREID_DATASETS, expected_layout, splits_of
from watchme.engines.osnet.config import Config, ReidDataset
from watchme.engines.osnet.data.datasets import (
    folder_of,
    format_of,
    has_500k,
    pattern_of,
    roots_of,
    source_names,
    target_names,
    used_names,
    with_targets,
)

_NAME = re.compile(r"[\w.-]+")


def dataset_problems(config: Config) -> list[Problem]:
    """Every problem of the dataset section whose types and ranges are right."""
    dataset = config.dataset
    dataset = with_targets(dataset, None if dataset.root is None else Path(dataset.root), config.mode)
    config = replace(config, dataset=dataset)
    names = used_names(dataset, config.mode)
    return [
        *_name_problems(config),
        *_option_problems(dataset, names),
        *_pattern_problems(dataset, names),
        *_use_problems(config),
        *_video_problems(dataset, names),
        *_folder_problems(dataset, names),
    ]


def _formats(dataset: ReidDataset, names: list[str]) -> list[str]:
    return [format_of(dataset, name) for name in names]


def _name_problems(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    # An evaluation needs targets alone; a training can do without them, and an export that is checked on its people.
    trains = config.mode in ("train", "check") or (config.mode == "export" and config.export.split == "val")
    needed = ("sources",) if trains or dataset.targets is None else ("targets",)
    if dataset.targets == [] and config.mode == "train":
        uses = {"objective": config.objective.startswith("test/"), "dataset.select_on_test": dataset.select_on_test}
        for key in (key for key, used in uses.items() if used):
            yield Problem("dataset.targets", f"leaves nothing to test on, which {key} needs", "[]")
    for key, names in (("sources", dataset.sources), ("targets", dataset.targets)):
        if names is None:
            continue
        if not names and key in needed:
            example = "sources=[market1501,dukemtmcreid]" if key == "sources" else "targets=[msmt17]"
            yield Problem(f"dataset.{key}", f"name at least one dataset, e.g. 'dataset.{example}'", "[]")
        if len(set(names)) < len(names):
            yield Problem(f"dataset.{key}", "names a dataset twice", repr(names))
        for name in names:
            if not _NAME.fullmatch(name):
                hint = "expected names, which become those of metrics; a folder goes to dataset.roots: "
                yield Problem(f"dataset.{key}", f"{hint}'dataset.roots={{shop:{name}}}'", repr(name))


def _option_problems(dataset: ReidDataset, names: list[str]) -> Iterator[Problem]:
    formats = _formats(dataset, names)
    counts = {name: splits_of(name, classic=dataset.cuhk03_classic_split) for name in formats}
    several = {name: count for name, count in counts.items() if count > 1}
    if dataset.split_id and not several:
        hint = "; cuhk03 has several with dataset.cuhk03_classic_split=true" if "cuhk03" in formats else ""
        yield Problem("dataset.split_id", f"{', '.join(names)} has one split alone; leave it 0{hint}")
    for name, count in several.items():
        if dataset.split_id >= count:
            yield Problem("dataset.split_id", f"{name} has the splits 0 to {count - 1}", str(dataset.split_id))
    for key in ("cuhk03_labeled", "cuhk03_classic_split"):
        if getattr(dataset, key) and "cuhk03" not in formats:
            yield Problem(f"dataset.{key}", "does nothing without cuhk03; leave it false", "True")
    if dataset.market1501_500k and not any(has_500k(dataset, name) for name in names):
        yield Problem("dataset.market1501_500k", "does nothing without market1501; leave it false", "True")
    if dataset.combineall and "mars" in [format_of(dataset, name) for name in source_names(dataset)]:
        yield Problem("dataset.combineall", "torchreid cannot combine the splits of mars; leave it false", "True")
    overlap = sorted(set(source_names(dataset)) & set(target_names(dataset)))
    if dataset.load_train_targets and overlap:
        expected = f"adapts to targets that are not trained on, but {', '.join(overlap)} is both; name dataset.targets"
        yield Problem("dataset.load_train_targets", expected, "True")


def _pattern_problems(dataset: ReidDataset, names: list[str]) -> Iterator[Problem]:
    """What is wrong with names of one's own."""
    given = dataset.pattern if isinstance(dataset.pattern, dict) else {"": dataset.pattern}
    for name, pattern in given.items():
        if pattern is None:
            continue
        key = f"dataset.pattern.{name}" if name else "dataset.pattern"
        if not any(pattern_of(dataset, each) == pattern for each in ([name] if name else names) if each in names):
            yield Problem(key, f"does nothing with {', '.join(names)}, whose names are known; leave it null", pattern)
            continue
        try:
            rule = compiled(pattern).rule
        except DataError as error:
            yield Problem(key, str(error), repr(pattern))
            continue
        if dataset.tracklets and "tracklet" not in rule.groupindex:
            yield Problem(key, "dataset.tracklets needs {tracklet} in it", repr(pattern))
    if dataset.pattern is not None and dataset.first_id == 0:
        yield Problem("dataset.first_id", "does nothing with dataset.pattern: everybody is a person; leave it 1", "0")


def _use_problems(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    for name in source_names(dataset):
        known = TORCHREID_DATASETS.get(format_of(dataset, name))
        if known and known.use == "test" and config.mode == "train":
            yield Problem(
                "dataset.sources",
                f"{name} has no training set; it serves as one of dataset.targets, or with mode=evaluate",
                name,
            )
    for name in target_names(dataset):
        known = TORCHREID_DATASETS.get(format_of(dataset, name))
        if known and known.use == "train":
            yield Problem("dataset.targets", f"{name} has no test split; name others, e.g. [market1501]", name)
        if known and known.use == "test" and dataset.load_train_targets:
            yield Problem("dataset.load_train_targets", f"{name} has no training images to adapt to", "True")


def _video_problems(dataset: ReidDataset, names: list[str]) -> Iterator[Problem]:
    for name in names:
        known = TORCHREID_DATASETS.get(format_of(dataset, name))
        if known and known.video != dataset.tracklets:
            kind = "consists of tracklets" if known.video else "has no tracklets"
            expected = f"{name} {kind}: dataset.tracklets={str(known.video).lower()}"
            yield Problem("dataset.tracklets", expected, str(dataset.tracklets))


def _without_root(dataset: ReidDataset, names: list[str], lost: list[str]) -> Problem:
    hint = "give the folder of the dataset: dataset.root=<folder>"
    if len(names) > 1:
        hint = f"give the folders of {', '.join(lost)}: dataset.root=<folder>, or each in dataset.roots"
    formats = dict.fromkeys(_formats(dataset, lost))
    layouts = [market.EXPECTED if name == "market1501" else expected_layout(name) for name in formats]
    return Problem("dataset.root", "\n".join([hint, *layouts]))


def _folder_problems(dataset: ReidDataset, names: list[str]) -> Iterator[Problem]:
    root = None if dataset.root is None else Path(dataset.root)
    demo = dataset.demo if root is None else None
    if demo is not None:
        yield from demo.config_problems()
    # One message for one cause: without a root every name would say the same.
    lost = [name for name in names if name not in roots_of(dataset)]
    if root is None and demo is None and lost:
        yield _without_root(dataset, names, lost)
        return
    for name in filter(_NAME.fullmatch, names):
        if name == dataset.name and demo is not None and name not in roots_of(dataset):
            continue
        try:
            folder = folder_of(dataset, name, root)
            if has_500k(dataset, name):
                market.extra_gallery(folder)
        except DataError as error:
            given = roots_of(dataset).get(name)
            key = "dataset.root" if given is None else f"dataset.roots.{name}"
            yield Problem(key, str(error), repr(given or dataset.root))
