"""Re-ID datasets that are known by name: where their files belong below `dataset.root`, and how archives are named.

All but market1501 are read by torchreid 0.2.5's classes. torchreid downloads what it does not find; here nothing is
downloaded: a dataset that is missing is an error that shows the expected layout. Standard library only.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchme.core.errors import DataError
from watchme.data.formats import market1501

_HOW_TO = "https://kaiyangzhou.github.io/deep-person-reid/datasets.html"


@dataclass(frozen=True)
class DatasetLayout:
    """The files of a dataset."""

    folder: str  # below `dataset.root`
    layouts: tuple[tuple[str, ...], ...]  # alternatives; each is the paths below the folder that must exist
    reader: str = ""  # torchreid's class; empty for Market-1501 naming, which `market1501.py` reads
    # What names of its archives contain, reduced to small letters and digits; empty: the dataset's name
    archives: tuple[str, ...] = ()
    splits: int = 1  # how many `dataset.split_id` chooses from
    video: bool = False  # whether it consists of tracklets
    use: Literal["both", "train", "test"] = "both"  # some have images for training or for testing only

    def missing(self, base: Path) -> list[str]:
        """What the nearest of the layouts still lacks in the folder `base`; empty where one is complete."""
        return min(([path for path in layout if not (base / path).exists()] for layout in self.layouts), key=len)


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_CUHK03_JSON = tuple(f"splits_{kind}_{crops}.json" for kind in ("classic", "new") for crops in ("detected", "labeled"))

TORCHREID_DATASETS = {
    "dukemtmcreid": DatasetLayout("dukemtmc-reid", (_below("DukeMTMC-reID", *market1501.FOLDERS),), "DukeMTMCreID"),
    "msmt17": DatasetLayout(
        "msmt17",
        (_below("MSMT17_V1", "train", "test", *_LISTS), _below("MSMT17_V2", "mask_train_v2", "mask_test_v2", *_LISTS)),
        "MSMT17",
    ),
    # The second layout is what torchreid makes of the first, which is not needed any more then.
    "cuhk03": DatasetLayout(
        "cuhk03",
        (
            (
                "cuhk03_release/cuhk-03.mat",
                "cuhk03_new_protocol_config_detected.mat",
                "cuhk03_new_protocol_config_labeled.mat",
            ),
            ("images_detected", "images_labeled", *_CUHK03_JSON),
        ),
        "CUHK03",
        splits=20,
    ),
    "cuhk01": DatasetLayout("cuhk01", (("campus",), ("CUHK01.zip",)), "CUHK01", splits=20),
    "cuhk02": DatasetLayout(
        "cuhk02", (tuple(f"Dataset/P{pair}/cam{cam}" for pair in range(1, 6) for cam in (1, 2)),), "CUHK02"
    ),
    "viper": DatasetLayout("viper", (("VIPeR/cam_a", "VIPeR/cam_b"),), "VIPeR", splits=20),
    "grid": DatasetLayout(
        "grid",
        (_below("underground_reid", "probe", "gallery", "features_and_partitions.mat"),),
        "GRID",
        archives=("undergroundreid", "grid"),
        splits=10,
    ),
    "prid": DatasetLayout(
        "prid2011",
        (_below("prid_2011/single_shot", "cam_a", "cam_b"),),
        "PRID",
        archives=("prid2011", "prid"),
        splits=10,
    ),
    "ilids": DatasetLayout(
        "ilids", (("i-LIDS_Pedestrian/Persons",),), "iLIDS", archives=("ilidspedestrian", "ilids"), splits=10
    ),
    "sensereid": DatasetLayout(
        "sensereid", (_below("SenseReID", "test_probe", "test_gallery"),), "SenseReID", use="test"
    ),
    "cuhksysu": DatasetLayout("cuhksysu", (("cropped_images",),), "CUHKSYSU", use="train"),
    "mars": DatasetLayout(
        "mars",
        (
            (
                "bbox_train",
                "bbox_test",
                *_below("info", "train_name.txt", "test_name.txt"),
                *_below("info", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"),
            ),
        ),
        "Mars",
        video=True,
    ),
    "dukemtmcvidreid": DatasetLayout(
        "dukemtmc-vidreid",
        (_below("DukeMTMC-VideoReID", "train", "query", "gallery"),),
        "DukeMTMCVidReID",
        archives=("dukemtmcvideoreid", "dukemtmcvidreid"),
        video=True,
    ),
    "prid2011": DatasetLayout(
        "prid2011",
        (("splits_prid2011.json", *_below("prid_2011/multi_shot", "cam_a", "cam_b")),),
        "PRID2011",
        archives=("splitsprid2011",),
        splits=10,
        video=True,
    ),
    "ilidsvid": DatasetLayout(
        "ilids-vid",
        ((*_below("i-LIDS-VID/sequences", "cam1", "cam2"), "train-test people splits/train_test_splits_ilidsvid.mat"),),
        "iLIDSVID",
        splits=10,
        video=True,
    ),
}
REID_DATASETS = {
    "market1501": DatasetLayout("market1501", (_below("Market-1501-v15.09.15", *market1501.FOLDERS),)),
    **TORCHREID_DATASETS,
}
_NAME_PARTS = {part: name for name, layout in REID_DATASETS.items() for part in layout.archives or (name,)}


def own_layout(name: str) -> DatasetLayout:
    """The layout of a dataset of your own in Market-1501 naming, where `dataset.sources` finds it by its name."""
    return DatasetLayout(name, (market1501.FOLDERS,))


def recognize(names: Iterable[str]) -> str | None:
    """The dataset that the names of archives, or of folders in them, contain; None where none or several do."""
    found: set[str] = set()
    for name in names:
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        if parts := [part for part in _NAME_PARTS if part in plain]:
            found.add(_NAME_PARTS[max(parts, key=len)])
    return found.pop() if len(found) == 1 else None


def splits_of(name: str, *, classic: bool) -> int:
    """How many splits `dataset.split_id` chooses from; cuhk03 has 20 by the classic protocol and one by the new."""
    known = TORCHREID_DATASETS.get(name)
    if known is None or (name == "cuhk03" and not classic):
        return 1
    return known.splits


def find_known(name: str, root: Path) -> Path:
    """The folder of a dataset that torchreid reads: as torchreid nests it below `root`, or `root` itself.

    Raises:
        DataError: If it is in neither; the message shows what is expected.
    """
    known, root = TORCHREID_DATASETS[name], root.expanduser()
    for base in (root / known.folder, root):
        if not known.missing(base):
            return base
    if not root.is_dir():
        wrong = f"no such folder: {root}"
    elif not (root / known.folder).is_dir():
        wrong = f"{root} has no {known.folder}"
    else:
        base = root / known.folder
        wrong = f"{base} has no {' and no '.join(known.missing(base))}"
    raise DataError(f"{wrong}\n{expected_layout(name)}")


def expected_layout(name: str) -> str:
    """Where a dataset that torchreid reads belongs, in lines."""
    known = TORCHREID_DATASETS[name]
    lines = "\n".join(_lines(known))
    return (
        f"{name} is not downloaded; expected layout:\n{lines}\n  or <root> is {known.folder} itself\n"
        f"where to get it: {_HOW_TO}"
    )


def _lines(known: DatasetLayout) -> Iterator[str]:
    for number, layout in enumerate(known.layouts):
        if number:
            yield "  or"
        yield from (f"    <root>/{known.folder}/{path}" for path in layout)
