"""The Python API, for notebooks and scripts: what the command line does, in this process.

Everything is exported by `watchme` itself, and imported when it is first used. docs/python.md shows it at work.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from watchme.cli.command_line import prepare
from watchme.config.conf_dir import CONF
from watchme.config.image_size import with_image_size
from watchme.config.overrides import parse_overrides, quoted, unresolved, values_by_key
from watchme.config.schema import RunConfig
from watchme.config.validation import validate
from watchme.core.errors import CheckpointError, ConfigError, Problem, WatchmeError, refused_path
from watchme.core.interfaces import Detector, Embedder, Result
from watchme.io.files import remove_if_empty
from watchme.io.run_lookup import weights_of
from watchme.run.log_file import run_log
from watchme.run.provenance import typed_as
from watchme.run.runner import run

if TYPE_CHECKING:
    from watchme.inference.match_results import Found
    from watchme.inference.models import Kind

__all__ = ["compose", "evaluate", "find", "load_detector", "load_embedder", "train"]

PathLike = str | Path


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The validated config of a command line, typed; nothing is run and nothing is written.

    Args:
        overrides: As after `python train.py`, e.g. `["model=osnet_x0_25", "train.epochs=3"]`.

    Raises:
        ConfigError: With every problem found.
        RunFolderError: If a run that is named cannot be read.
    """
    with _composed(overrides) as (config, _):
        return config


def train(overrides: Sequence[str] = (), *, folder: PathLike | None = None) -> Result:
    """Train a model, as `python train.py <overrides>` does.

    Args:
        overrides: As after `python train.py`.
        folder: The run folder; None: a new one below `output_root`.

    Returns:
        Metrics, best epoch and weights; `weights["best"]` is in the run folder, beside run.json and report.html.

    Raises:
        WatchmeError: What the command line would print; the message says what to do.
    """
    return _run("train", overrides, folder)


def evaluate(checkpoint: PathLike, overrides: Sequence[str] = (), *, folder: PathLike | None = None) -> Result:
    """Evaluate weights, as `python train.py mode=evaluate checkpoint=<checkpoint> <overrides>` does.

    Args:
        checkpoint: Weights file; one in a run's folder comes with that run's model and dataset.
        overrides: As after `python train.py`.
        folder: The run folder; None: a new one.

    Raises:
        WatchmeError: What the command line would print.
    """
    return _run("evaluate", [f"checkpoint={quoted(str(checkpoint))}", *overrides], folder)


def find(
    query: PathLike | Sequence[PathLike],
    source: PathLike | int,
    *,
    detector: PathLike,
    reid: PathLike,
    index: PathLike | None = None,
    overrides: Sequence[str] = (),
    folder: PathLike | None = None,
) -> "Found":
    """Find a person in pictures or a video, as `python train.py mode=find ...` does.

    Args:
        query: A picture of the person, several of the same person, or a folder of them.
        source: Image, folder, glob, video, list of paths, number of a camera, or address of a stream.
        detector: Run folder or weights of a detector.
        reid: Run folder or weights of a re-ID model.
        index: Folder that keeps what was seen in the source, for further queries.
        overrides: As after `python train.py`, e.g. `["find.threshold=0.8"]`.
        folder: The run folder; None: a new one.

    Raises:
        WatchmeError: What the command line would print.
    """
    from watchme.inference.match_results import read_found

    queries = [query] if isinstance(query, (str, Path)) else list(query)
    if not queries:
        raise ConfigError([Problem("query", "is empty; give a picture of the person")])
    keys = {"source": source, "detector": detector, "reid": reid, "index": index}
    given = [f"{key}={quoted(str(value))}" for key, value in keys.items() if value is not None]
    given.append(f"query=[{','.join(quoted(str(each)) for each in queries)}]")
    return read_found(_run_folder("find", [*given, *overrides], folder)[1])


def load_detector(path: PathLike, *, device: str | int = "auto", trust: bool = False) -> Detector:
    """Load a person detector of any engine, PyTorch or ONNX.

    Args:
        path: A run folder, or its weights.
        device: As `train.device`.
        trust: Whether a .pt file may run code of its own.

    Returns:
        `detect(images)`: a list of (height, width, 3) uint8 RGB arrays of any sizes to one (n, 5) float32 array each:
        x1, y1, x2, y2 in pixels and the confidence. Images that OpenCV has read are BGR: `image[:, :, ::-1]`.

    Raises:
        CheckpointError: If it is no detector.
        ConfigError: If the machine does not have the device.
    """
    from watchme.inference.input_validation import CheckedDetector

    return CheckedDetector(cast(Detector, _load(path, "detector", device, trust)))


def load_embedder(path: PathLike, *, device: str | int = "auto") -> Embedder:
    """Load a re-ID model of any engine, PyTorch or ONNX.

    Args:
        path: A run folder, or its weights.
        device: As `train.device`.

    Returns:
        `embed(crops)`: a list of (height, width, 3) uint8 RGB crops of one person each, of any sizes, to an (n, D)
        float32 array of unit norm, so that `embeddings @ embeddings.T` are cosine similarities. See `load_detector`
        for BGR.

    Raises:
        CheckpointError: If it is no re-ID model.
        ConfigError: If the machine does not have the device.
    """
    from watchme.inference.input_validation import CheckedEmbedder

    return CheckedEmbedder(cast(Embedder, _load(path, "re-ID model", device, False)))


def _load(path: PathLike, kind: "Kind", device: str | int, trust: bool) -> Detector | Embedder:
    from watchme.core.registry import load_model
    from watchme.inference.models import load_kind

    weights = weights_of(Path(path).expanduser())
    if not weights.is_file():
        raise CheckpointError(f"{path} holds no weights; give a run folder or its weights/best.pt")
    return load_kind(kind, weights, lambda engine, file: load_model(engine, file, device, trust=trust), str(path))


def _run(mode: str, overrides: Sequence[str], folder: PathLike | None) -> Result:
    return _run_folder(mode, overrides, folder)[0]


def _run_folder(mode: str, overrides: Sequence[str], folder: PathLike | None) -> tuple[Result, Path]:
    """Run one job; returns its result and its folder."""
    given = values_by_key(parse_overrides(overrides))
    if given.get("mode", mode) != mode:
        raise ConfigError([Problem("mode", f"watchme.{mode} runs mode={mode}; leave it out", repr(given["mode"]))])
    arguments = [*([] if mode == "train" or "mode" in given else [f"mode={mode}"]), *overrides]
    if folder is not None:
        if "hydra.run.dir" in given:
            raise ConfigError([Problem("hydra.run.dir", f"the folder is given twice, also as folder={str(folder)!r}")])
        arguments.append(f"hydra.run.dir={quoted(str(folder))}")
    with _composed(arguments) as (config, composed):
        settings = HydraConfig.get()
        path = Path(settings.runtime.output_dir)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused_path(error) from error
        with typed_as(arguments), _messages(), run_log(path / f"{settings.job.name}.log"):
            try:
                return run(config, composed, path, unresolved(settings.overrides.task)), path.resolve()
            except WatchmeError:
                remove_if_empty(path)
                raise


@contextlib.contextmanager
def _composed(overrides: Sequence[str]) -> Iterator[tuple[RunConfig, DictConfig]]:
    """The validated config, and the one that it was made from; Hydra knows of the run within the block alone."""
    if isinstance(overrides, str):
        raise ConfigError([Problem(overrides, 'give overrides as a list: ["train.epochs=3"]')])
    flags = [text for text in overrides if text.startswith("-") or text.partition("=")[0] == "help"]
    if flags:
        raise ConfigError([Problem(flag, "belongs to the command line; give overrides, key=value") for flag in flags])
    config_before, hydra_before = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    arguments = prepare(list(overrides))
    GlobalHydra.instance().clear()  # a notebook's own; Hydra refuses a second one
    try:
        with initialize_config_dir(str(CONF)):
            whole = hydra_compose("config", arguments, return_hydra_config=True)
            HydraConfig.instance().set_config(whole)
            with read_write(whole.hydra.runtime), open_dict(whole.hydra.runtime):
                whole.hydra.runtime.output_dir = str(Path(OmegaConf.select(whole, "hydra.run.dir")).absolute())
            HydraConfig.instance().set_config(whole)
            composed = whole.copy()
            with read_write(composed), open_dict(composed):
                del composed["hydra"]
            composed = with_image_size(composed, unresolved(whole.hydra.overrides.task))
            yield validate(composed), composed
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = config_before, hydra_before


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Print a run's messages, as the command line does, unless logging is set up already."""
    root, ours = logging.getLogger(), logging.getLogger("watchme")
    level = ours.level
    handler: logging.Handler | None = None
    if not root.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
    if ours.getEffectiveLevel() > logging.INFO:
        ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        if handler is not None:
            root.removeHandler(handler)
