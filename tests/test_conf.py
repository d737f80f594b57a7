"""Every option of every group composes and validates; every key of the schema can be set without `+`."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from watchme.config.schema import CheckConfig, RunConfig
from watchme.config.type_conversion import options_of
from watchme.config.validation import fields_of, known_keys
from watchme.core.errors import ConfigError
from watchme.core.registry import engine_names, load_config_class

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = (
    "model",
    "dataset",
    "optimizer",
    "scheduler",
    "augmentation",
    "loss",
    "tracker",
    "evaluation",
    "train",
)
Composed = Callable[..., DictConfig]
Typed = Callable[..., RunConfig]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


MODELS = {
    "yolo": ["yolo11n", "yolo11s", "yolo11m", "yolo11l", "yolo11x", "yolov8n", "yolov8s"],
    "osnet": ["osnet_x0_25", "osnet_x0_5", "osnet_x0_75", "osnet", "osnet_ibn", "osnet_ain"],
}


@pytest.mark.parametrize(("engine", "model"), [(e, m) for e, names in MODELS.items() for m in names])
def test_each_model_picks_siblings_that_validate(engine: str, model: str, typed_config: Typed) -> None:
    config = typed_config(f"model={model}")
    assert config.model.engine == engine
    assert config.train.engine == engine
    assert config.dataset.task == {"yolo": "detection", "osnet": "reid"}[engine]
    assert isinstance(config, load_config_class(engine))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "amsgrad", "rmsprop", "radam"])
def test_each_optimizer_suits_osnet(optimizer: str, typed_config: Typed) -> None:
    config = typed_config("model=osnet_ibn", f"optimizer={optimizer}")
    assert config.optimizer.name == optimizer
    assert config.optimizer.lr > 0


def test_command_line_beats_experiment_beats_model_beats_dataset(composed_config: Composed) -> None:
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(
        group="experiment",
        name="precedence",
        package="_global_",
        node={"defaults": [{"override /optimizer": "radam"}, "_self_"], "train": {"epochs": 77, "seed": 5}},
    )
    config = composed_config("model=osnet_ibn", "experiment=precedence", "train.epochs=3")
    assert config.optimizer.name == "radam"
    assert (config.train.epochs, config.train.seed) == (3, 5)
    assert composed_config("model=osnet_ibn", "experiment=precedence", "optimizer=sgd").optimizer.name == "sgd"
    assert composed_config("model=osnet_ibn").dataset.name == "demo_reid"
    assert composed_config("model=osnet_ibn", "dataset=market1501").dataset.name == "market1501"
    assert composed_config("dataset=person_detection").optimizer.name == "sgd"
    assert composed_config("dataset=person_detection", "optimizer=adamw").optimizer.name == "adamw"


@pytest.mark.parametrize("engine", MODELS)
def test_every_key_of_the_schema_stands_in_the_composed_config(engine: str, composed_config: Composed) -> None:
    """So that it can be set on the command line without `+`, and is seen in `--cfg job`."""
    config = composed_config(f"model={MODELS[engine][0]}")
    optional = {"trial."}
    shared = {f"{group}." for group in ("optimizer", "scheduler")}  # their yaml names what that option has
    missing = []
    for key in sorted(known_keys(load_config_class(engine))):
        if key.startswith(tuple(optional | shared)):
            continue
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is not None and leaf not in node:
            missing.append(key)
    assert not missing


def differing_defaults(cls: type, node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys whose default in the schema is not what was composed."""
    for name, (hint, field) in fields_of(cls).items():
        value = node.get(name)
        for part in options_of(hint):
            if dataclasses.is_dataclass(part) and isinstance(part, type) and isinstance(value, dict):
                yield from differing_defaults(part, value, f"{prefix}{name}.")
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING or name not in node or isinstance(value, dict):
            continue
        if (list(default) if isinstance(default, tuple) else default) != value:
            yield prefix + name


@pytest.mark.parametrize(
    ("engine", "overrides"),
    [
        ("yolo", ("model=yolo11n", "dataset=person_detection")),
        ("yolo", ("dataset=demo_detection", "train=yolo", "augmentation=yolo", "dataset.image_size=640")),
        ("osnet", ("model=osnet", "dataset=market1501")),
        ("person_search", ("model=search", "dataset=person_search")),
    ],
)
def test_defaults_of_the_schema_are_those_of_conf(
    engine: str, overrides: tuple[str, ...], composed_config: Composed
) -> None:
    composed: Any = OmegaConf.to_container(composed_config(*overrides), resolve=True)
    # What each option of the group sets as it likes, and what depends on the data; person search trains nothing.
    varies = ("optimizer.", "scheduler.", "model.weights", *(("train.", "export") if engine == "person_search" else ()))
    differing = [key for key in differing_defaults(load_config_class(engine), composed) if not key.startswith(varies)]
    assert not differing


def test_a_default_that_drifts_is_found() -> None:
    composed = {"before_training": False}
    assert list(differing_defaults(CheckConfig, composed, "check.")) == ["check.before_training"]


@pytest.mark.parametrize("option", options("scheduler"))
def test_scheduler_values_are_those_of_its_name(option: str, composed_config: Composed) -> None:
    # linear_short and cosine_warm are linear and cosine with another warm-up.
    known = {"linear_short": "linear", "cosine_warm": "cosine"}
    assert composed_config(f"scheduler={option}").scheduler.name == known.get(option, option)


@pytest.mark.parametrize(
    ("arguments", "key", "choices"),
    [
        (("model=osnet_ibn", "dataset=person_detection"), "dataset.task", "demo_reid|"),
        (("model=yolo11n", "dataset=market1501"), "dataset.task", "demo_detection|person_detection"),
        (("model=osnet_ibn", "augmentation=yolo"), "augmentation.engine", "reid_basic"),
        (("model=yolo11n", "augmentation=reid_basic"), "augmentation.engine", "yolo"),
        (("model=osnet_ibn", "loss=yolo"), "loss.engine", "reid"),
    ],
)
def test_mismatch_is_one_problem_with_the_fitting_options(
    arguments: tuple[str, ...], key: str, choices: str, typed_config: Typed
) -> None:
    with pytest.raises(ConfigError) as caught:
        typed_config(*arguments)
    assert [problem.key for problem in caught.value.problems] == [key]
    assert choices in caught.value.problems[0].expected


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (("checkpoint=best.pt",), "checkpoint", "model.weights"),
        (("detector=best.pt",), "detector", "mode=search"),
        (("mode=check", "reid=best.pt"), "reid", "mode=search"),
        (("model=osnet_ibn", "mode=search"), "mode", "train, evaluate, check, export"),
    ],
)
def test_what_a_mode_does_not_use_is_refused(
    overrides: tuple[str, ...], key: str, expected: str, typed_config: Typed
) -> None:
    with pytest.raises(ConfigError) as refused:
        typed_config(*overrides)
    assert [problem.key for problem in refused.value.problems] == [key]
    assert expected in refused.value.problems[0].expected


def test_config_errors_survive_pickling(typed_config: Typed) -> None:
    import pickle

    with pytest.raises(ConfigError) as caught:
        typed_config("train.epochs=0")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_every_engine_has_a_frozen_config() -> None:
    for name in engine_names():
        assert dataclasses.is_dataclass(load_config_class(name))


ENVIRONMENT = [
    ("YOLO_EPOCHS", "7", (), "train.epochs", 7),
    ("YOLO_EPOCHS", "7", ("dataset=person_detection",), "train.epochs", 7),
    ("YOLO_BATCH_SIZE", "3", (), "train.batch_size", 3),
    ("YOLO_IMAGE_SIZE", "96", (), "dataset.image_size", 96),
    ("YOLO_IMAGE_SIZE", "96", ("dataset=person_detection",), "dataset.image_size", 96),
    ("YOLO_LEARNING_RATE", "0.5", (), "optimizer.lr", 0.5),
    ("YOLO_LEARNING_RATE", "0.5", ("optimizer=sgd",), "optimizer.lr", 0.5),
    ("YOLO_PROJECT_PATH", "proj", (), "output_root", "proj"),
    ("YOLO_MODEL_PATH", "yolov11n.pt", (), "model.weights", "yolov11n.pt"),
    ("YOLO_DATASET_PATH", "somewhere", ("dataset=person_detection",), "dataset.root", "somewhere"),
    *(
        ("YOLO_DATASET_PATH", path, ("dataset=person_detection",), "dataset.root", path)
        for path in ("/data/Straße 7", "/data/people (1), it's #2")
    ),
    ("YOLO_DATASET_PATH", "~/people", ("dataset=person_detection",), "dataset.root", str(Path.home() / "people")),
    ("YOLO_PROJECT_PATH", "2024", (), "output_root", "2024"),
    ("OSNET_SAVE_DIR", "~/runs", ("model=osnet",), "output_root", str(Path.home() / "runs")),
    ("OSNET_EPOCHS", "7", ("model=osnet",), "train.epochs", 7),
    ("OSNET_BATCH_SIZE", "12", ("model=osnet",), "train.batch_size", 12),
    ("OSNET_LEARNING_RATE", "0.5", ("model=osnet",), "optimizer.lr", 0.5),
    ("OSNET_NUM_CLASSES", "751", ("model=osnet",), "model.num_classes", 751),
    ("OSNET_ARCHITECTURE", "osnet_ibn_x1_0", ("model=osnet",), "model.name", "osnet_ibn_x1_0"),
    ("OSNET_SAVE_DIR", "client", ("model=osnet",), "output_root", "client"),
    ("OSNET_DATASET_PATH", "somewhere", ("model=osnet", "dataset=market1501"), "dataset.root", "somewhere"),
]


@pytest.mark.parametrize(("name", "text", "arguments", "key", "value"), ENVIRONMENT)
def test_backend_variables_set_values_and_the_command_line_beats_them(
    name: str,
    text: str,
    arguments: tuple[str, ...],
    key: str,
    value: object,
    composed_config: Composed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, text)
    assert OmegaConf.select(composed_config(*arguments), key) == value
    other = "11" if isinstance(value, (int, float)) else "other"
    assert str(OmegaConf.select(composed_config(*arguments, f"{key}={other}"), key)) == other


def test_an_empty_variable_is_as_one_that_is_not_set(
    composed_config: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("model=osnet", "dataset=market1501")
    variables = ("OSNET_DATASET_PATH", "OSNET_EPOCHS", "OSNET_LEARNING_RATE", "OSNET_SAVE_DIR", "OSNET_ARCHITECTURE")
    keys = ("dataset.root", "train.epochs", "optimizer.lr", "output_root", "model.name", "tracker.mode")
    before = [OmegaConf.select(composed_config(*options), key) for key in keys]
    for name in (*variables, "WANDB_MODE"):
        monkeypatch.setenv(name, "")
    assert [OmegaConf.select(composed_config(*options), key) for key in keys] == before


@pytest.mark.parametrize(
    ("name", "arguments", "key"),
    [
        ("YOLO_EPOCHS", (), "train.epochs"),
        ("YOLO_BATCH_SIZE", (), "train.batch_size"),
        ("YOLO_IMAGE_SIZE", (), "dataset.image_size"),
        ("YOLO_LEARNING_RATE", (), "optimizer.lr"),
        ("OSNET_EPOCHS", ("model=osnet",), "train.epochs"),
        ("OSNET_BATCH_SIZE", ("model=osnet",), "train.batch_size"),
        ("OSNET_LEARNING_RATE", ("model=osnet",), "optimizer.lr"),
        ("OSNET_NUM_CLASSES", ("model=osnet",), "model.num_classes"),
    ],
)
def test_variable_of_the_wrong_type_is_named(
    name: str, arguments: tuple[str, ...], key: str, typed_config: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "abc")
    with pytest.raises(ConfigError) as caught:
        typed_config(*arguments)
    assert (key, name) in {(problem.key, problem.source) for problem in caught.value.problems}
