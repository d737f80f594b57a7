"""mode=check of re-ID datasets, and its short form before each training."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from watchme.core.errors import DataError
from watchme.core.interfaces import Job, Result
from watchme.data.check.contact_sheets import draw_sheets
from watchme.data.check.database import Facts, Finding
from watchme.data.check.reid_checks import check_names, check_people
from watchme.data.check.result import PICTURES, report_brief_check, report_check
from watchme.data.check.summary_table import people_statistics, summary
from watchme.data.formats import market1501 as market
from watchme.data.formats import own_dataset
from watchme.data.formats.market1501 import Crop
from watchme.engines.osnet.config import Config, ReidDataset
from watchme.engines.osnet.data import datasets as reid
from watchme.io.image_files import files_in, is_image, is_other_image


def check(job: Job) -> Result:
    """Check all sources and targets, and report what would harm training.

    Of a source that is no target the training set is looked at alone, of a target that is no source the other two.
    """
    from watchme.data.check.dataset_plots import plot_people  # matplotlib, which a training's start does without

    dataset, root = reid.used_dataset(cast(Config, job.config))
    with Facts(job.folder) as facts:
        for name, roles in _used(dataset).items():
            try:
                _list(facts, dataset, name, reid.folder_of(dataset, name, root), roles)
            except DataError as error:
                facts.add([Finding("unreadable dataset", _split(dataset, name, ""), detail=str(error).splitlines()[0])])
        check_people(facts)
        folder = job.folder / PICTURES
        shown = [*draw_sheets(facts, folder), *plot_people(facts, folder)]
        return report_check(job, facts, shown, people_statistics(facts))


def check_briefly(job: Job, datasets: reid.Datasets) -> None:
    """Check identities, cameras and splits as they were read, and warn of what is wrong with them."""
    dataset, _ = reid.used_dataset(cast(Config, job.config))
    with Facts() as facts:
        for name, roles in _used(dataset).items():
            splits = datasets.sources.get(name) or datasets.targets[name]
            for role in roles:
                _list_crops(facts, dataset, name, role, getattr(splits, role))
            for role, path, pid in splits.left_out:
                facts.add([_left_out(_split(dataset, name, role), path, pid)])
        check_names(facts)
        report_brief_check(job, summary(facts))


def _used(dataset: ReidDataset) -> dict[str, tuple[str, ...]]:
    """Name -> what is read of each dataset."""
    names = dict.fromkeys([*reid.source_names(dataset), *reid.target_names(dataset)])
    return {name: reid.roles_of(dataset, name) for name in names}


def _split(dataset: ReidDataset, name: str, role: str) -> str:
    alone = len(_used(dataset)) == 1
    return role if alone else "/".join(part for part in (name, role) if part)


def _list(facts: Facts, dataset: ReidDataset, name: str, folder: Path, roles: Sequence[str]) -> None:
    own = reid.has_own_names(dataset, name, folder)
    if own or reid.format_of(dataset, name) != "market1501":
        splits = _read_own(facts, dataset, name, folder) if own else reid.read_splits(dataset, name, folder)
        facts.add(_left_out(_split(dataset, name, role), path, pid) for role, path, pid in splits.left_out)
        for role in roles:
            if crops := getattr(splits, role):  # some datasets are for training, others for testing alone
                _list_crops(facts, dataset, name, role, crops)
        return
    places = {role: [folder / place] for role, place in zip(market.ROLES, market.FOLDERS, strict=True)}
    if reid.has_500k(dataset, name):
        places["gallery"].append(market.extra_gallery(folder))
    for role in roles:
        split = _split(dataset, name, role)
        rows = itertools.chain.from_iterable(
            _market_rows(facts, split, role, place, dataset.first_id) for place in places[role]
        )
        facts.list_images(split, role, market.ROLES.index(role) > 0, rows, name)


def _read_own(facts: Facts, dataset: ReidDataset, name: str, folder: Path) -> market.Splits:
    """A dataset with names of its own; what cannot be read becomes findings."""
    pattern, roles = reid.pattern_of(dataset, name), reid.roles_of(dataset, name)

    def fault(where: object, what: str) -> None:
        facts.add([Finding("name breaks the convention", _split(dataset, name, ""), str(where), detail=what)])

    return own_dataset.read_own(folder, roles, pattern, tracklets=dataset.tracklets, fault=fault)


def _market_rows(
    facts: Facts, split: str, role: str, folder: Path, first_id: int
) -> Iterator[tuple[str, None, int, int]]:
    """Images of a folder, one after the other; what is not one of the split's becomes a finding."""
    count = 0
    for path in files_in(folder):
        crop = market.parse(path, first_id)
        if crop is None and is_other_image(path):
            facts.add([_left_out(split, path, None)])
        elif crop is None and not is_image(path):
            facts.add([Finding("other file", split, str(path))])
        elif crop is None:
            facts.add([Finding("name breaks the convention", split, str(path))])
        elif crop.pid < 0 or (crop.pid == 0 and role != "gallery"):
            facts.add([_left_out(split, path, crop.pid)])
        else:
            count += 1
            yield str(path), None, crop.pid, crop.cam
    if not count:
        facts.add([Finding("missing split", split, str(folder), detail="it has no images")])


def _left_out(split: str, path: Path, pid: int | None) -> Finding:
    """An image that is not used; `pid` None: since its format is not read."""
    if pid is None:
        return Finding("image not read", split, str(path))
    return Finding("image left out" if pid == -1 else "identity left out", split, str(path), detail=f"identity {pid}")


def _list_crops(facts: Facts, dataset: ReidDataset, name: str, role: str, crops: Iterable[Crop]) -> None:
    rows = ((str(path), None, crop.pid, crop.cam) for crop in crops for path in crop.files)
    facts.list_images(_split(dataset, name, role), role, int(role != "train"), rows, name)
