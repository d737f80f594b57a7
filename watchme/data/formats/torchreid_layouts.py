"""The datasets that torchreid 0.2.5 knows by name, and where it expects them. Standard library only.

torchreid downloads what it does not find. Here nothing is: a dataset that is not there is an error that shows where
it belongs. market1501 is not listed: `market1501.py` reads it, as it reads any folder in that naming.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchme.core.errors import DataError

_HOW_TO = "https://kaiyangzhou.github.io/deep-person-reid/datasets.html"


@dataclass(frozen=True)
class Known:
    """A dataset of torchreid.

    Attributes:
        reader: torchreid's class.
        folder: Below `dataset.root`.
        layouts: Alternatives; each is the paths below the folder that must be there.
        splits: How many `dataset.split_id` chooses from.
        video: Whether it consists of tracklets.
        use: What it is good for: some are for training or for testing only.
    """

    reader: str
    folder: str
    layouts: tuple[tuple[str, ...], ...]
    splits: int = 1
    video: bool = False
    use: Literal["both", "train", "test"] = "both"


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_MARKET_LIKE = ("bounding_box_train", "query", "bounding_box_test")
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_CUHK03_JSON = tuple(f"splits_{kind}_{crops}.json" for kind in ("classic", "new") for crops in ("detected", "labeled"))

CATALOG = {
    "dukemtmcreid": Known("DukeMTMCreID", "dukemtmc-reid", (_below("DukeMTMC-reID", *_MARKET_LIKE),)),
    "msmt17": Known(
        "MSMT17",
        "msmt17",
        (
            _below("MSMT17_V1", "train", "test", *_LISTS),
            _below("MSMT17_V2", "mask_train_v2", "mask_test_v2", *_LISTS),
        ),
    ),
    "cuhk03": Known(
        "CUHK03",
        "cuhk03",
        (
            (
                "cuhk03_release/cuhk-03.mat",
                "cuhk03_new_protocol_config_detected.mat",
                "cuhk03_new_protocol_config_labeled.mat",
            ),
            # What torchreid makes of those; they are not needed any more then.
            ("images_detected", "images_labeled", *_CUHK03_JSON),
        ),
        splits=20,
    ),
    "cuhk01": Known("CUHK01", "cuhk01", (("campus",), ("CUHK01.zip",)), splits=20),
    "cuhk02": Known(
        "CUHK02", "cuhk02", (tuple(f"Dataset/P{pair}/cam{cam}" for pair in range(1, 6) for cam in (1, 2)),)
    ),
    "viper": Known("VIPeR", "viper", (("VIPeR/cam_a", "VIPeR/cam_b"),), splits=20),
    "grid": Known(
        "GRID", "grid", (_below("underground_reid", "probe", "gallery", "features_and_partitions.mat"),), splits=10
    ),
    "prid": Known("PRID", "prid2011", (_below("prid_2011/single_shot", "cam_a", "cam_b"),), splits=10),
    "ilids": Known("iLIDS", "ilids", (("i-LIDS_Pedestrian/Persons",),), splits=10),
    "sensereid": Known("SenseReID", "sensereid", (_below("SenseReID", "test_probe", "test_gallery"),), use="test"),
    "cuhksysu": Known("CUHKSYSU", "cuhksysu", (("cropped_images",),), use="train"),
    "mars": Known(
        "Mars",
        "mars",
        (
            (
                "bbox_train",
                "bbox_test",
                *_below("info", "train_name.txt", "test_name.txt"),
                *_below("info", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"),
            ),
        ),
        video=True,
    ),
    "dukemtmcvidreid": Known(
        "DukeMTMCVidReID",
        "dukemtmc-vidreid",
        (_below("DukeMTMC-VideoReID", "train", "query", "gallery"),),
        video=True,
    ),
    "prid2011": Known(
        "PRID2011",
        "prid2011",
        (("splits_prid2011.json", *_below("prid_2011/multi_shot", "cam_a", "cam_b")),),
        splits=10,
        video=True,
    ),
    "ilidsvid": Known(
        "iLIDSVID",
        "ilids-vid",
        (
            (
                *_below("i-LIDS-VID/sequences", "cam1", "cam2"),
                "train-test people splits/train_test_splits_ilidsvid.mat",
            ),
        ),
        splits=10,
        video=True,
    ),
}


def splits_of(name: str, *, classic: bool) -> int:
    """How many splits `dataset.split_id` chooses from; cuhk03 has 20 by the classic protocol and one by the new."""
    known = CATALOG.get(name)
    if known is None or (name == "cuhk03" and not classic):
        return 1
    return known.splits


def find_known(name: str, root: Path) -> Path:
    """The folder of a dataset of the catalog: torchreid's below `root`, or `root` itself.

    Raises:
        DataError: If it is in neither; the message shows what is expected.
    """
    known, root = CATALOG[name], root.expanduser()
    for base in (root / known.folder, root):
        if any(all((base / path).exists() for path in layout) for layout in known.layouts):
            return base
    if not root.is_dir():
        wrong = f"no such folder: {root}"
    elif not (root / known.folder).is_dir():
        wrong = f"{root} has no {known.folder}"
    else:
        base = root / known.folder
        missing = min(([path for path in layout if not (base / path).exists()] for layout in known.layouts), key=len)
        wrong = f"{base} has no {' and no '.join(missing)}"
    raise DataError(f"{wrong}\n{expected_layout(name)}")


def expected_layout(name: str) -> str:
    """Where a dataset of the catalog belongs, in lines."""
    known = CATALOG[name]
    lines = "\n".join(_lines(known))
    return (
        f"{name} is not downloaded; expected layout:\n{lines}\n  or <root> is {known.folder} itself\n"
        f"where to get it: {_HOW_TO}"
    )


def _lines(known: Known) -> Iterator[str]:
    for number, layout in enumerate(known.layouts):
        if number:
            yield "  or"
        yield from (f"    <root>/{known.folder}/{path}" for path in layout)
