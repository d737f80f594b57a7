"""Datasets that a run trains on (sources) and is tested on (targets): folders, readers, merged identities.

torchreid is imported only when one of its formats is read, so that validation is fast.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from watchme.config.suggestions import nearest
from watchme.core.errors import DataError
from watchme.data.formats import market1501 as market
from watchme.data.formats import own_dataset, own_names
from watchme.data.formats.market1501 import Crop, Splits
from watchme.data.formats.reid_datasets import REID_DATASETS, TORCHREID_DATASETS, find_known, splits_of
from watchme.engines.osnet.config import Config, ReidDataset


@dataclass(frozen=True)
class Datasets:
    """Name -> splits of what is trained on and of what is tested on; a dataset in both is the same object."""

    sources: dict[str, Splits]
    targets: dict[str, Splits]


def source_names(dataset: ReidDataset) -> list[str]:
    """The datasets to train on: `dataset.sources`, or the dataset itself."""
    return [dataset.name] if dataset.sources is None else dataset.sources


def target_names(dataset: ReidDataset) -> list[str]:
    """The datasets to test on: `dataset.targets`, or the sources."""
    return source_names(dataset) if dataset.targets is None else dataset.targets


def with_targets(dataset: ReidDataset, root: Path | None, mode: str = "train") -> ReidDataset:
    """The config with `targets` named, where it names none and sources have nothing to test on: all others.

    Args:
        dataset: The config.
        root: `dataset.root`, or the demo world.
        mode: An evaluation needs its targets, so that nothing is left out.
    """
    if dataset.targets is not None or mode == "evaluate":
        return dataset
    tested = [name for name in source_names(dataset) if not _is_train_only(dataset, name, root)]
    return dataset if tested == source_names(dataset) else replace(dataset, targets=tested)


def _is_train_only(dataset: ReidDataset, name: str, root: Path | None) -> bool:
    reader = format_of(dataset, name)
    if reader != "market1501":
        return TORCHREID_DATASETS[reader].use == "train"
    place = _place(dataset, name, root)
    if place is None or not place.expanduser().exists():
        return False
    if has_own_names(dataset, name, place):
        return not own_dataset.has_test(place)
    return market.is_train_only(place)


def _place(dataset: ReidDataset, name: str, root: Path | None) -> Path | None:
    """The folder in which a dataset is looked for; None where the config gives none."""
    if name in roots_of(dataset):
        return Path(roots_of(dataset)[name]).expanduser()
    if root is None or name == dataset.name or name in REID_DATASETS:
        return root
    return root.expanduser() / name


def roots_of(dataset: ReidDataset) -> dict[str, str]:
    """Folders of datasets that are not below `dataset.root`."""
    return dataset.roots or {}


def format_of(dataset: ReidDataset, name: str) -> str:
    """How a dataset is read: by a name of torchreid's; others are in Market-1501 naming."""
    if name == dataset.name:
        return dataset.format
    return name if name in TORCHREID_DATASETS else "market1501"


def pattern_of(dataset: ReidDataset, name: str) -> str | None:
    """`dataset.pattern` for a dataset: one text is for the dataset itself, or for those that are not known by name."""
    if format_of(dataset, name) != "market1501":
        return None
    if dataset.pattern is None or isinstance(dataset.pattern, str):
        own = dataset.sources is None and name == dataset.name
        return dataset.pattern if own or name not in REID_DATASETS else None
    return dataset.pattern.get(name)


def has_own_names(dataset: ReidDataset, name: str, place: Path) -> bool:
    """Whether a dataset in a folder, or a CSV, is read by `own_names`."""
    listed = format_of(dataset, name) == "market1501" and own_names.is_list(place)
    return listed or pattern_of(dataset, name) is not None


def has_500k(dataset: ReidDataset, name: str) -> bool:
    """Whether the 500,000 distractors are asked for, and a dataset is Market-1501 or read as it alone."""
    own = name == dataset.name and dataset.format == "market1501"
    return dataset.market1501_500k and (own or name == "market1501")


def folder_of(dataset: ReidDataset, name: str, root: Path | None) -> Path:
    """The folder in which a dataset is, checked for what it must hold.

    `dataset.roots` comes first. Else it is in `dataset.root`: the dataset itself and those that torchreid knows
    as torchreid nests them, any other in a folder of its name.

    Args:
        dataset: The config.
        name: One of `source_names` or `target_names`.
        root: `dataset.root`, or the demo world.

    Raises:
        DataError: If it is not there; says what is expected.
    """
    reader, place = format_of(dataset, name), _place(dataset, name, root)
    if place is None:
        raise DataError(f"no folder is given for {name}: dataset.root=<folder>, or 'dataset.roots={{{name}:<folder>}}'")
    unknown = name != dataset.name and name not in REID_DATASETS and name not in roots_of(dataset)
    if unknown and not place.is_dir():
        close = nearest(name, REID_DATASETS)
        raise DataError(
            f"torchreid knows no {name}, and there is no folder {place} in Market-1501 naming"
            + (f"; did you mean {close}?" if close else "")
            + f"\nknown: {', '.join(REID_DATASETS)}; any other in the folder that "
            f"'dataset.roots={{{name}:<folder>}}' names"
        )
    if reader != "market1501":
        return find_known(reader, place)
    roles = roles_of(dataset, name)
    if has_own_names(dataset, name, place):
        return own_dataset.find_root(place, roles)
    return market.find_root(place, roles)


def roles_of(dataset: ReidDataset, name: str) -> tuple[str, ...]:
    """What is read of a dataset: train of a source, query and gallery of a target."""
    train = name in source_names(dataset) or (dataset.load_train_targets and name in target_names(dataset))
    test = name in target_names(dataset) or (dataset.combineall and name in source_names(dataset))
    return (*(market.ROLES[:1] if train else ()), *(market.ROLES[1:] if test else ()))


def used_names(dataset: ReidDataset, mode: str) -> list[str]:
    """All datasets that a run reads: an evaluation does without those that are only trained on."""
    sources = source_names(dataset) if mode in ("train", "export", "check") else []
    return list(dict.fromkeys([*sources, *target_names(dataset)]))


def root_of(dataset: ReidDataset) -> Path | None:
    """`dataset.root`, or the demo world, which is drawn if it is not there yet; None where neither is given."""
    if dataset.root is not None:
        return Path(dataset.root)
    if dataset.demo is None:
        return None
    from watchme.data.demo import ensure_demo_world

    return ensure_demo_world(dataset.demo).reid


def used_dataset(config: Config) -> tuple[ReidDataset, Path | None]:
    """The dataset section of a run with its targets (see `with_targets`), and its root (see `root_of`)."""
    root = root_of(config.dataset)
    return with_targets(config.dataset, root, config.mode), root


def read_datasets(dataset: ReidDataset, root: Path | None, mode: str = "train") -> Datasets:
    """Read all sources and targets, each once.

    Args:
        dataset: The config.
        root: `dataset.root`, or the demo world.
        mode: See `used_names`.

    Raises:
        DataError: If one is not there or cannot be read.
    """
    read = {name: read_splits(dataset, name, folder_of(dataset, name, root)) for name in used_names(dataset, mode)}
    sources, targets = [name for name in source_names(dataset) if name in read], target_names(dataset)
    for name in sources:
        if read[name].train:  # some are for testing alone
            market.check_train(read[name])
    for name in targets:
        market.check_queries(read[name])
        if dataset.load_train_targets:
            market.check_train(read[name])
    return Datasets({name: read[name] for name in sources}, {name: read[name] for name in targets})


def merged(parts: Iterable[Sequence[Crop]]) -> list[Crop]:
    """Training sets as one: the identities and cameras of each follow those of the ones before it."""
    together: list[Crop] = []
    pids = cams = 0
    for number, crops in enumerate(parts):
        together += [
            replace(crop, pid=crop.pid + pids, cam=crop.cam + cams, dataset=number) if number else crop
            for crop in crops
        ]
        pids = max((crop.pid for crop in together), default=0)
        cams = max((crop.cam for crop in together), default=-1) + 1
    return together


def read_splits(dataset: ReidDataset, name: str, folder: Path) -> Splits:
    """Read one dataset, from what `folder_of` returns.

    Raises:
        DataError: If it cannot be read.
    """
    reader = format_of(dataset, name)
    if reader != "market1501":
        return _read_known(dataset, reader, folder)
    roles = roles_of(dataset, name)
    if has_own_names(dataset, name, folder):
        splits = own_dataset.read_own(folder, roles, pattern_of(dataset, name), tracklets=dataset.tracklets)
    else:
        splits = market.read_market(
            folder,
            roles,
            more_distractors=has_500k(dataset, name),
            tracklets=dataset.tracklets,
            first_id=dataset.first_id,
        )
    if dataset.combineall:
        people = [crop for crop in (*splits.query, *splits.gallery) if crop.pid > 0]
        splits = replace(splits, train=[*splits.train, *people])
    return splits


def _read_known(dataset: ReidDataset, name: str, folder: Path) -> Splits:
    """Read by torchreid's class, and number people by the order of files.

    torchreid's numbers follow the order of sets, which may differ from process to process.
    """
    from watchme.engines.osnet.data.torchreid_datasets import Entry, read_torchreid

    found = read_torchreid(
        name,
        folder,
        split_id=dataset.split_id if splits_of(name, classic=dataset.cuhk03_classic_split) > 1 else 0,
        combineall=dataset.combineall,
        cuhk03_labeled=dataset.cuhk03_labeled,
        cuhk03_classic_split=dataset.cuhk03_classic_split,
    )

    known = TORCHREID_DATASETS[name]

    def crops(entries: list[Entry], people: dict[int, int], offset: int) -> list[Crop]:
        made = []
        for entry in sorted(entries, key=lambda entry: entry.files):
            pid = 0 if entry.junk else people.setdefault(entry.pid, offset + len(people) + 1)
            made.append(Crop(entry.files[0], pid, entry.cam, frames=entry.files if known.video else ()))
        return made

    train_people: dict[int, int] = {}
    test_people: dict[int, int] = {}
    train = [] if known.use == "test" else crops(found.train, train_people, 0)
    # torchreid numbers the people of the test split from 0 again: they are not those of the training set.
    query, gallery = (
        [] if known.use == "train" else crops(entries, test_people, len(train_people))
        for entries in (found.query, found.gallery)
    )
    return Splits(folder, train, query, gallery)
