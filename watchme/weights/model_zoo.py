"""The model zoo: published weights by name for both engines, read from the one table model_zoo.yaml."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ASSETS: Final = "https://github.com/ultralytics/assets/releases"
HUB: Final = "https://huggingface.co/kaiyangzhou/osnet"
DRIVE: Final = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
TRAINED_ON: Final = {
    "imagenet": "ImageNet",
    "market1501": "Market-1501",
    "dukemtmcreid": "DukeMTMC-reID",
    "msmt17": "MSMT17",
    "msmt17_combineall": "MSMT17, all images",
    "ms_d_c": "MSMT17 + DukeMTMC-reID + CUHK03",
    "ms_d_m": "MSMT17 + DukeMTMC-reID + Market-1501",
    "ms_m_c": "MSMT17 + Market-1501 + CUHK03",
    "d_m_c": "DukeMTMC-reID + Market-1501 + CUHK03",
}


@dataclass(frozen=True)
class PublishedWeights:
    """A published weights file."""

    name: str  # what `model.weights` says for it: `yolo11n.pt`, or for OSNet its training data, `market1501`
    engine: str  # yolo or osnet
    architecture: str  # the `model.name` that it belongs to, e.g. yolo11n or osnet_ibn_x1_0
    file: str  # its name at the source, in the cache and on a mirror
    trained_on: str  # the training data
    urls: tuple[str, ...]  # where it is fetched from, in this order
    page: str  # the page for a browser
    licence: str  # of the file, as its publisher says
    published: str = ""  # the publisher's figures: mAP50-95 of the validation set, or rank-1 (mAP); both in percent
    size: int | None = None  # bytes; None where not public
    # None where not public; then the hash of the first fetch is recorded and compared afterwards
    sha256: str | None = None
    on_hub: bool = False  # OSNet: whether public code is known to fetch this file name from the author's hub repository

    @property
    def key(self) -> str:
        """Its name among the weights of all models: yolo11n.pt, osnet_x0_25_msmt17."""
        return self.name if self.engine == "yolo" else f"{self.architecture}_{self.name}"

    def __str__(self) -> str:
        return f"{self.key} ({self.architecture} trained on {self.trained_on})"


@cache
def all_weights() -> tuple[PublishedWeights, ...]:
    """Every row of the table, in its order."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one reads the table in 5 ms instead of 50
    text = Path(__file__).with_name("model_zoo.yaml").read_text(encoding="utf-8")
    table = yaml.load(text, Loader=loader)
    return (*_detectors(table), *_osnets(table))


def _detectors(table: dict[str, Any]) -> Iterator[PublishedWeights]:
    for file, row in table["yolo"].items():
        yield PublishedWeights(
            name=file,
            engine="yolo",
            file=file,
            urls=(f"{ASSETS}/download/{table['release']}/{file}",),
            page=f"{ASSETS}/tag/{table['release']}",
            licence="AGPL-3.0",
            **{"trained_on": "COCO", **row},
        )


def _osnets(table: dict[str, Any]) -> Iterator[PublishedWeights]:
    for architecture, rows in table["osnet"].items():
        for name, row in rows.items():
            rest = {key: value for key, value in row.items() if key not in {"drive", "hub"}}
            yield PublishedWeights(
                name=name,
                engine="osnet",
                architecture=architecture,
                trained_on=TRAINED_ON[name],
                urls=(f"{HUB}/resolve/{table['hub_commit']}/{row['file']}", DRIVE + row["drive"]),
                page=f"{HUB}/tree/main" if row.get("hub") else f"https://drive.google.com/file/d/{row['drive']}/view",
                licence="MIT",
                on_hub=row.get("hub", False),
                **rest,
            )


def find(name: str, engine: str, architecture: str) -> PublishedWeights | None:
    """The published weights that `model.weights=name` means for a model; None if there are none of that name.

    Args:
        name: `coco` (the release of the architecture), a release's file name (also in the spelling `yolov11n.pt`), the
            name of OSNet's training data, an OSNet file's name, or a `key`.
        engine: yolo or osnet.
        architecture: The model's name; detectors are also found for another one, as in `yolo train model=yolo11n.pt`.
    """
    wanted = canonical(name)
    for weights in all_weights():
        if weights.engine != engine:
            continue
        names = {weights.key, weights.file}
        if weights.architecture == canonical(architecture):
            names |= {weights.name} | ({"coco"} if weights.trained_on == "COCO" else set())
        if wanted in names:
            return weights
    return None


def names_for(engine: str, architecture: str) -> list[str]:
    """What `model.weights` may say for a model, besides a file, a run folder, an address and null."""
    rows = [weights for weights in all_weights() if weights.engine == engine]
    own = [weights for weights in rows if weights.architecture == canonical(architecture)]
    if engine != "yolo":
        return [weights.name for weights in own]
    return [*(["coco"] if any(weights.trained_on == "COCO" for weights in own) else []), *(row.name for row in rows)]


def by_key(key: str) -> PublishedWeights | None:
    """The weights of a `key` or file name, whichever model they are for."""
    wanted = canonical(key)
    return next((weights for weights in all_weights() if wanted in {weights.key, weights.file}), None)


def canonical(name: str) -> str:
    """`yolov11n` is the guide's spelling of what ultralytics calls `yolo11n` (so are 12 and 26)."""
    return re.sub(r"^yolov(1[1-9]|2\d)", r"yolo\1", name)
