"""The only file that imports torchreid: its models, wrapped so that training and state stay ours, and its datasets."""

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from watchme.core.errors import DataError
from watchme.data.formats.reid_datasets import TORCHREID_DATASETS, DatasetLayout

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    # It warns that its Cython ranking is not built, which is not used here.
    warnings.simplefilter("ignore")
    from torchreid.reid import models
    from torchreid.reid.data import datasets

log = logging.getLogger(__name__)

CLASSIFIER = "classifier."


class ReidNet(nn.Module):
    """An OSNet of torchreid, with a BNNeck if asked for.

    `backbone.state_dict()` has exactly torchreid's keys, so that what is saved loads into torchreid's model and into
    the WatchMe backend, which builds it with loss='triplet' and drops the classifier.

    Args:
        name: Architecture in torchreid's spelling.
        num_classes: Size of the classifier.
        bnneck: Batch normalisation (without bias) between embedding and classifier (Luo et al., Bag of Tricks, CVPRW
            2019). The embedding that is compared, and that the backend uses, is the one before it.
    """

    def __init__(self, name: str, num_classes: int, *, bnneck: bool = False) -> None:
        super().__init__()
        self.backbone = models.build_model(name, num_classes, loss="triplet", pretrained=False)
        self.feature_dim: int = self.backbone.feature_dim
        self.neck: nn.BatchNorm1d | None = None
        if bnneck:
            self.neck = nn.BatchNorm1d(self.feature_dim)
            self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) images to (B, classes) logits, (B, D) embeddings, and (B, D) as the classifier sees them."""
        embeddings = self.embed(images)
        neck = self.neck(embeddings) if self.neck is not None else embeddings
        return self.backbone.classifier(neck), embeddings, neck

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) images to (B, D) embeddings."""
        maps = self.backbone.featuremaps(images)
        pooled = torch.flatten(self.backbone.global_avgpool(maps), 1)
        return pooled if self.backbone.fc is None else self.backbone.fc(pooled)


class Entry(NamedTuple):
    """An image or tracklet as torchreid numbers it; `junk` is no one's match."""

    files: tuple[Path, ...]
    pid: int
    cam: int
    junk: bool


class Found(NamedTuple):
    """The splits of a dataset of torchreid, in its order."""

    train: list[Entry]
    query: list[Entry]
    gallery: list[Entry]


def read_torchreid(
    name: str,
    folder: Path,
    *,
    split_id: int = 0,
    combineall: bool = False,
    cuhk03_labeled: bool = False,
    cuhk03_classic_split: bool = False,
) -> Found:
    """Read one of `TORCHREID_DATASETS` by torchreid's class, which may write its splits into the folder.

    Random splits that torchreid makes are always the same ones, and its state of the generators is left alone. Where
    a file of splits names images by the place that they had once, they are looked for in `folder`.

    Args:
        name: Key of `TORCHREID_DATASETS`.
        folder: What `reid_datasets.find_known` found.
        split_id: Which of the dataset's splits.
        combineall: Let torchreid add query and gallery to the training set, less its junk.
        cuhk03_labeled: cuhk03: boxes drawn by hand instead of detected ones.
        cuhk03_classic_split: cuhk03: one of the 20 splits of 2014 instead of the one of 2017.

    Raises:
        DataError: If torchreid cannot read it, or images are missing.
    """
    known = TORCHREID_DATASETS[name]
    options: dict[str, Any] = {"combineall": combineall, "verbose": False}
    if known.splits > 1:
        options["split_id"] = split_id
    if name == "cuhk03":
        options |= {"cuhk03_labeled": cuhk03_labeled, "cuhk03_classic_split": cuhk03_classic_split}
    if known.video:
        options["transform"] = _unchanged
    reader = getattr(datasets, known.reader)
    # A subclass, so that torchreid itself is not changed: the folder is the one found, and nothing is downloaded.
    changes = {"dataset_dir": "", "download_dataset": _nothing, "check_before_run": _nothing}
    local = type(known.reader, (reader,), changes)
    try:
        with _quiet_and_repeatable(name):
            read = local(root=str(folder), **options)
        junk = set(reader._junk_pids)
        return Found(
            _entries(read.train, folder, known, set()),
            _entries(read.query, folder, known, junk),
            _entries(read.gallery, folder, known, junk),
        )
    except DataError:
        raise
    except ModuleNotFoundError as error:
        raise DataError(f"torchreid needs {error.name} to read {name}: pip install {error.name}") from None
    except PermissionError as error:
        raise DataError(
            f"torchreid keeps the splits of {name} beside it, but {error.filename or folder} cannot be written; "
            f"make {folder} writable for one run"
        ) from None
    except Exception as error:  # its asserts, and whatever a damaged list or split file makes it raise
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(
            f"torchreid cannot read {name} in {folder}: {reason}\n"
            f"    A splits*.json there is torchreid's own and can be removed; it is made anew."
        ) from error


def _nothing(*_: object, **__: object) -> None:
    """Stands for what torchreid shall not do."""


def _unchanged(image: Any) -> Any:
    return image


@contextlib.contextmanager
def _quiet_and_repeatable(name: str) -> Iterator[None]:
    """What torchreid prints goes to the log; its random splits follow from seed 0 and disturb no one's numbers."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(said):
            warnings.simplefilter("always")
            yield
        for line in (*said.getvalue().splitlines(), *(str(warning.message) for warning in caught)):
            log.info("%s: %s", name, line)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _entries(rows: Sequence[Any], folder: Path, known: DatasetLayout, junk: set[int]) -> list[Entry]:
    entries = []
    missing: list[Path] = []
    for names, pid, cam, *_ in rows:
        files = tuple(sorted(Path(each) for each in ([names] if isinstance(names, str) else names)))
        if not files:
            raise DataError(f"a tracklet of identity {pid} in {folder} has no images")
        if not files[0].exists():
            files = tuple(_moved(path, folder, known) for path in files)
        missing += [path for path in files if not path.exists()]
        entries.append(Entry(files, int(pid), int(cam), int(pid) in junk))
    if missing:
        raise DataError(
            f"{len(missing)} images that the lists of {folder} name are missing, e.g. {missing[0]}\n"
            f"    Where the dataset was moved, remove torchreid's splits*.json or split_*.json there."
        )
    return entries


def _moved(path: Path, folder: Path, known: DatasetLayout) -> Path:
    """Where an image lies now, if the dataset was elsewhere when its splits were written."""
    _, inside, tail = path.as_posix().rpartition(f"/{known.folder}/")
    return folder / tail if inside else path
