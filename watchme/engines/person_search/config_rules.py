"""What a valid config of person search must fulfil beyond its types, found without torch: two models, a dataset."""

from collections.abc import Iterator
from pathlib import Path

from watchme.config.suggestions import nearest
from watchme.core.errors import CheckpointError, DataError, Problem
from watchme.core.metric_names import SEARCH
from watchme.data.person_search.readers import EXPECTED, find_format
from watchme.engines.person_search.config import Config
from watchme.io.run_lookup import config_of

_TASKS = {"detector": "detection", "reid": "reid"}
_WANTED = {"detector": "a detector", "reid": "a re-ID model"}


def check(config: Config) -> list[Problem]:
    """Return what is wrong with the two models and the dataset, without importing torch."""
    return [
        *_model_problems("detector", config.detector),
        *_model_problems("reid", config.reid),
        *_dataset_problems(config),
        *_other_problems(config),
    ]


def _model_problems(key: str, path: str | None) -> Iterator[Problem]:
    wanted = _WANTED[key]
    if path is None:
        yield Problem(key, f"mode=search needs the weights of {wanted}: {key}=<run>/weights/best.pt")
        return
    file = Path(path).expanduser()
    if file.is_dir():
        inside = file / "weights" / "best.pt"
        fix = f"{key}={inside}" if inside.is_file() else f"{key}=<run>/weights/best.pt"
        yield Problem(key, f"is a folder; give the weights in it: {fix}", repr(path))
    elif not file.is_file():
        yield Problem(key, f"no such file; give the weights of {wanted}: {key}=<run>/weights/best.pt", repr(path))
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


def _other_problems(config: Config) -> Iterator[Problem]:
    for key, value in (("checkpoint", config.checkpoint), ("model.weights", config.model.weights)):
        if value is not None:
            yield Problem(key, "mode=search takes its two models from detector and reid; leave it null", repr(value))
    names = [f"test/{name}" for name in SEARCH]
    if config.objective not in names:
        close = nearest(config.objective, names)
        hint = f"; did you mean {close}?" if close else ""
        yield Problem("objective", f"expected one of {', '.join(names)}{hint}", repr(config.objective))


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
