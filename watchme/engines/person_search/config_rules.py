"""What a valid config of person search must fulfil beyond its types, found without torch: two models, a dataset."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from watchme.config.suggestions import one_of
from watchme.core.errors import CheckpointError, DataError, Problem
from watchme.core.metric_names import SEARCH
from watchme.data.person_search.readers import EXPECTED, find_format
from watchme.engines.person_search.config import Config
from watchme.inference.live import is_live
from watchme.io.run_lookup import CALIBRATION, config_of, weights_of

_NEEDED = {"search": ("detector", "reid"), "predict": ("detector",), "find": ("detector", "reid"), "embed": ("reid",)}
_TASKS = {"detector": "detection", "reid": "reid"}
_WANTED = {"detector": "a detector", "reid": "a re-ID model"}


def check(config: Config) -> list[Problem]:
    """Return what is wrong with the models, the dataset and the source, without importing torch."""
    needed = _NEEDED.get(config.mode, ())
    return [
        *_model_problems("detector", config.detector, config.mode, needed="detector" in needed),
        *_model_problems("reid", config.reid, config.mode, needed="reid" in needed),
        *(_dataset_problems(config) if config.mode == "search" else _source_problems(config)),
        *(_find_problems(config) if config.mode == "find" else ()),
        *_other_problems(config),
    ]


def _model_problems(key: str, path: str | None, mode: str, *, needed: bool) -> Iterator[Problem]:
    wanted = _WANTED[key]
    if path is None:
        if needed:
            yield Problem(key, f"mode={mode} needs the weights of {wanted}: {key}=<run>/weights/best.pt")
        return
    given = Path(path).expanduser()
    file = weights_of(given)
    if file.is_dir():
        yield Problem(key, f"is a folder, and no run's; give the weights: {key}=<run>/weights/best.pt", repr(path))
    elif not file.is_file():
        what = "no such file" if file == given else "is a run without weights/best.pt"
        yield Problem(key, f"{what}; give the weights of {wanted}: {key}=<run>/weights/best.pt", repr(path))
    else:
        try:
            found = config_of(file)
            task = None if found is None else found["dataset"]["task"]
            name = None if found is None else found["model"]["name"]
        except (CheckpointError, KeyError, TypeError) as error:
            yield Problem(key, f"the config of its run cannot be read: {error}", repr(path))
            return
        if task not in (None, _TASKS[key]):
            yield Problem(key, f"is of a run that trained {name} for the task {task}; give {wanted}", repr(path))


def _source_problems(config: Config) -> Iterator[Problem]:
    if config.source is None:
        kinds = (
            "a folder of crops" if config.mode == "embed" else "an image, folder, glob, video, list or camera number"
        )
        yield Problem("source", f"mode={config.mode} needs what to look at, {kinds}: source=<path>")
    if "parquet" in config.predict.save and importlib.util.find_spec("pyarrow") is None:
        yield Problem("predict.save", "parquet needs pyarrow: uv sync --extra parquet; embeddings.npz needs nothing")


def _find_problems(config: Config) -> Iterator[Problem]:
    if not config.query:
        yield Problem("query", "mode=find needs pictures of the person: query=<picture or folder>, query=[a.jpg,b.jpg]")
    if config.index is not None and config.source is not None and is_live(str(config.source)):
        yield Problem(
            "index", "keeps what was seen in files; a camera or a stream is not there again", repr(config.index)
        )
    if config.index is not None and Path(config.index).expanduser().is_file():
        expected = "expected a folder, that of mode=predict or one to make, and this is a file"
        yield Problem("index", expected, repr(config.index))
    if config.find.search == "faiss" and importlib.util.find_spec("faiss") is None:
        yield Problem("find.search", "faiss is not installed: uv pip install faiss-cpu", "'faiss'")
    named = config.find.calibration
    if named not in (None, "source") and not _calibration(Path(named).expanduser()).is_file():
        expected = f"holds no {CALIBRATION}; give the run folder of a re-ID training or evaluation, or `source`"
        yield Problem("find.calibration", expected, repr(named))


def _calibration(path: Path) -> Path:
    return path / CALIBRATION if path.is_dir() else path


def _other_problems(config: Config) -> Iterator[Problem]:
    for key, value in (("checkpoint", config.checkpoint), ("model.weights", config.model.weights)):
        if value is not None:
            expected = f"mode={config.mode} takes its models from detector and reid; leave it null"
            yield Problem(key, expected, repr(value))
    names = [f"test/{name}" for name in SEARCH]
    if config.objective not in names:
        yield Problem("objective", one_of(config.objective, names), repr(config.objective))


def _dataset_problems(config: Config) -> Iterator[Problem]:
    dataset = config.dataset
    if dataset.root is None:
        if dataset.demo is None:
            yield Problem("dataset.root", f"give the dataset: dataset.root=<folder>\n{EXPECTED}")
            return
        yield from dataset.demo.config_problems()
        return
    try:
        found = find_format(Path(dataset.root), dataset.format)
    except DataError as error:
        yield Problem("dataset.root", str(error), repr(dataset.root))
        return
    if found == "cuhk_sysu" and config.evaluation.gallery == "other_cameras":
        yield Problem("evaluation.gallery", "CUHK-SYSU knows no cameras; leave it other_frames", "'other_cameras'")
