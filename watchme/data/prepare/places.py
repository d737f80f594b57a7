"""Where the re-ID datasets that torchreid knows belong below `dataset.root`, and how their archives are told apart.

The folders are those of data/formats/torchreid_layouts.py and market1501.py; a test compares them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_MARKET = ("bounding_box_train", "query", "bounding_box_test")
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")


@dataclass(frozen=True)
class Place:
    """A dataset's place.

    Attributes:
        folder: Below the output.
        layouts: Alternatives: paths below the folder that must be there.
        named: What names of its archives have in them, letters and digits alone, in small letters.
        reader: The option of `dataset=` that reads it; empty: Market-1501 naming, in its own folder.
        use: What it is good for.
    """

    folder: str
    layouts: tuple[tuple[str, ...], ...]
    named: tuple[str, ...]
    reader: str = ""
    use: str = "both"


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


PLACES: Mapping[str, Place] = {
    "market1501": Place(
        "market1501", (_below("Market-1501-v15.09.15", *_MARKET),), ("market1501",), reader="market1501"
    ),
    "dukemtmcreid": Place("dukemtmc-reid", (_below("DukeMTMC-reID", *_MARKET),), ("dukemtmcreid",), "dukemtmcreid"),
    "msmt17": Place(
        "msmt17",
        (_below("MSMT17_V1", "train", "test", *_LISTS), _below("MSMT17_V2", "mask_train_v2", "mask_test_v2", *_LISTS)),
        ("msmt17",),
        "msmt17",
    ),
    "cuhk03": Place(
        "cuhk03",
        (
            (
                "cuhk03_release/cuhk-03.mat",
                "cuhk03_new_protocol_config_detected.mat",
                "cuhk03_new_protocol_config_labeled.mat",
            ),
            (
                "images_detected",
                "images_labeled",
                *(f"splits_{kind}_{crops}.json" for kind in ("classic", "new") for crops in ("detected", "labeled")),
            ),
        ),
        ("cuhk03",),
        "cuhk03",
    ),
    "cuhk01": Place("cuhk01", (("campus",), ("CUHK01.zip",)), ("cuhk01",), "cuhk01"),
    "cuhk02": Place(
        "cuhk02",
        (tuple(f"Dataset/P{pair}/cam{camera}" for pair in range(1, 6) for camera in (1, 2)),),
        ("cuhk02",),
        "cuhk02",
    ),
    "viper": Place("viper", (("VIPeR/cam_a", "VIPeR/cam_b"),), ("viper",), "viper"),
    "grid": Place(
        "grid",
        (_below("underground_reid", "probe", "gallery", "features_and_partitions.mat"),),
        ("undergroundreid", "grid"),
        "grid",
    ),
    "prid": Place("prid2011", (_below("prid_2011/single_shot", "cam_a", "cam_b"),), ("prid2011", "prid"), "prid"),
    "ilids": Place("ilids", (("i-LIDS_Pedestrian/Persons",),), ("ilidspedestrian", "ilids"), "ilids"),
    "sensereid": Place(
        "sensereid", (_below("SenseReID", "test_probe", "test_gallery"),), ("sensereid",), "sensereid", use="test"
    ),
    "cuhksysu": Place("cuhksysu", (("cropped_images",),), ("cuhksysu",), "cuhksysu", use="train"),
    "mars": Place(
        "mars",
        (
            (
                "bbox_train",
                "bbox_test",
                *_below("info", "train_name.txt", "test_name.txt"),
                *_below("info", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat"),
            ),
        ),
        ("mars",),
        "mars",
    ),
    "dukemtmcvidreid": Place(
        "dukemtmc-vidreid",
        (_below("DukeMTMC-VideoReID", "train", "query", "gallery"),),
        ("dukemtmcvideoreid", "dukemtmcvidreid"),
        "dukemtmcvidreid",
    ),
    "prid2011": Place(
        "prid2011",
        (("splits_prid2011.json", *_below("prid_2011/multi_shot", "cam_a", "cam_b")),),
        ("splitsprid2011",),
        "prid2011",
    ),
    "ilidsvid": Place(
        "ilids-vid",
        (
            (
                *_below("i-LIDS-VID/sequences", "cam1", "cam2"),
                "train-test people splits/train_test_splits_ilidsvid.mat",
            ),
        ),
        ("ilidsvid",),
        "ilidsvid",
    ),
}


def own(name: str) -> Place:
    """The place of a dataset of your own in Market-1501 naming, where `dataset.sources` finds it by its name."""
    return Place(name, (_MARKET,), (name,))


def told_by_name(names: Iterable[str]) -> str | None:
    """The dataset that names of archives, or of folders in them, speak of; None where they are silent or disagree."""
    found: set[str] = set()
    for name in names:
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        hits = {(len(text), dataset) for dataset, place in PLACES.items() for text in place.named if text in plain}
        if hits:
            found.add(max(hits)[1])
    return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Move:
    """Entries below `origin` go below `target`; both are folders, "" is the root."""

    origin: str
    target: str

    def __call__(self, name: str) -> str | None:
        """Where an entry goes; None if it lies elsewhere in the archive."""
        if self.origin and not name.startswith(f"{self.origin}/"):
            return None
        rest = name[len(self.origin) + 1 :] if self.origin else name
        return f"{self.target}/{rest}" if self.target else rest


def find_move(place: Place, paths: set[str]) -> tuple[Move, int] | None:
    """How an archive's paths fall into a dataset's place.

    Each path of the layout is looked for by its end; what stands before it in the archive and in the place is a move.

    Args:
        place: The place.
        paths: All files and folders of the archive.

    Returns:
        The move that satisfies most paths of a layout, and how many; None where the archive holds none of them.
    """
    ends: dict[str, list[str]] = {}
    for path in paths:
        ends.setdefault(path.rpartition("/")[2], []).append(path)
    best: tuple[tuple[int, int], Move] | None = None
    for layout in place.layouts:
        for move in {move for wanted in layout for move in _moves(wanted, ends.get(wanted.rpartition("/")[2], ()))}:
            hits = sum(_origin(move, wanted) in paths for wanted in layout)
            # Of equals the one that lies least deep, and keeps the names of its folders.
            rank = (hits, -move.origin.count("/") - move.target.count("/") - bool(move.origin) - bool(move.target))
            if hits and (best is None or rank > best[0]):
                best = rank, move
    return None if best is None else (best[1], best[0][0])


def _moves(wanted: str, paths: Iterable[str]) -> Iterable[Move]:
    for path in paths:
        there, here = path.split("/"), wanted.split("/")
        common = 0
        while common < min(len(there), len(here)) and there[-1 - common] == here[-1 - common]:
            common += 1
        yield Move("/".join(there[: len(there) - common]), "/".join(here[: len(here) - common]))


def _origin(move: Move, wanted: str) -> str | None:
    """The archive's path that would become `wanted`."""
    if move.target and not wanted.startswith(f"{move.target}/"):
        return None
    rest = wanted[len(move.target) + 1 :] if move.target else wanted
    return f"{move.origin}/{rest}" if move.origin else rest


def missing(place: Place, there: Sequence[str]) -> list[str]:
    """What the nearest layout still lacks, given the paths below the dataset's folder."""
    known = set(there)
    return min(([path for path in layout if path not in known] for layout in place.layouts), key=len)
