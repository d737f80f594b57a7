"""Thousands of damaged configs: each is valid, or refused with problems that name key and fix; never a traceback."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from watchme.config.image_size import with_image_size
from watchme.config.validation import known_keys, validate
from watchme.core.errors import ConfigError
from watchme.core.registry import engine_names, load_config_class

Composed = Callable[..., DictConfig]

BASES = (
    (),
    ("model=osnet_x0_25",),
    ("model=osnet_ain", "dataset=several", "dataset.sources=[market1501]", "dataset.root=/nowhere"),
    ("dataset=person_detection", "dataset.root=/nowhere", "optimizer=auto"),
    ("experiment=osnet_advanced",),
    ("experiment=advanced_person_detection",),
    ("model=osnet", "loss=circle", "optimizer=rmsprop", "scheduler=multi_step"),
    ("mode=evaluate", "checkpoint=nothing.pt"),
    ("mode=check", "dataset=mars", "model=osnet"),
    ("model=search", "mode=search", "detector=a.pt", "reid=b.pt"),
    ("mode=export", "model=osnet", "checkpoint=nothing.pt"),
    ("debug=tiny",),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**40, 0.0, 0.5, -0.5, 1.5, 1e300, float("nan"), float("inf"), -float("inf")),
    *("", " ", "auto", "none", "null", "cpu", "0,1", "[0,1]", "a" * 300, "ünïcode", "two\nlines", "-", "/", "~", "\\"),
    *("${nothing}", "${train.epochs}", "${oc.env:NOBODY_HAS_SET_THIS}", "${oc.decode:'['}", "${", "???", "1e-3..1e-1"),
    *([], [0], [0, 0], [1.5, "x", None], [[1], [2]], ["${nothing}"], {}, {"a": 1}, {"a": {"b": [1]}}, {0: 1}),
    *("yolo", "osnet", "detection", "reid", "adam", "cosine", "fp16", "train", "val/map", "test/map"),
)
NEW = ("epoks", "lr", "imgsz", "name", "engine", "task", "deep.er.still", "0", "ünïcode", "args")


def damage(config: DictConfig, keys: list[str], own: list[str], rng: random.Random) -> list[str]:
    """Change a config in a few places, mostly keys of its `own`; returns what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        key, value = rng.choice(keys if rng.random() < 0.2 else own), rng.choice(VALUES)
        kind = rng.random()
        if kind > 0.5:  # a value that may well be right
            key = rng.choice(own)
            value = likely(config, key)
        if kind < 0.08:  # a section becomes a value
            key = key.partition(".")[0]
        elif kind < 0.16:
            key = ".".join([*key.split(".")[:-1], rng.choice(NEW)])
        elif kind < 0.22:
            parent, _, leaf = key.rpartition(".")
            try:
                node = OmegaConf.select(config, parent) if parent else config
            except OmegaConfBaseException:  # damaged before
                continue
            if isinstance(node, DictConfig) and leaf in node:
                del node[leaf]
                done.append(f"~{key}")
            continue
        try:
            OmegaConf.update(config, key, value, merge=False, force_add=True)
            done.append(f"{key}={value!r}")
        except (OmegaConfBaseException, TypeError, ValueError):
            continue  # OmegaConf itself cannot hold it
    return done


def likely(config: DictConfig, key: str) -> Any:
    """A value of the kind that a key has."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:  # damaged before
        return None
    if isinstance(value, bool):
        return not value
    return value * 2 if isinstance(value, int) else value / 2 if isinstance(value, float) else value


def answer(config: DictConfig) -> ConfigError | None:
    """What a config is refused with; None if it is valid."""
    try:
        validate(with_image_size(config, []))
    except ConfigError as error:
        return error
    return None


def fuzz(count: int, composed_config: Composed, seed: int = 0) -> tuple[int, int]:
    """Validate so many damaged configs; returns how many were valid and how many were refused."""
    rng = random.Random(seed)
    keys = sorted({key for name in engine_names() for key in known_keys(load_config_class(name))})
    bases = []
    for overrides in BASES:
        base = composed_config(*overrides)
        OmegaConf.set_struct(base, False)
        own = [key for key in keys if OmegaConf.select(base, key, throw_on_resolution_failure=False) is not None]
        bases.append((base, own))
    found = [0, 0]
    for number in range(count):
        base, own = rng.choice(bases)
        config = base.copy()
        done: Any = damage(config, keys, own, rng)
        try:
            error = answer(config)
        except Exception as unexpected:
            raise AssertionError(f"number {number} of seed {seed}: {done}") from unexpected
        found[error is not None] += 1
        for problem in error.problems if error else ():
            assert problem.key.strip(), done
            assert problem.expected.strip(), (done, problem)
            assert not any(word in problem.expected for word in ("Hydra", "omegaconf", "Traceback", " object at 0x")), (
                done,
                problem,
            )
        str(error)
    return found[0], found[1]


def test_damaged_configs_are_valid_or_refused(composed_config: Composed) -> None:
    _, refused = fuzz(150, composed_config, seed=1)
    assert refused > 50


@pytest.mark.slow
@pytest.mark.nightly
def test_five_thousand_damaged_configs_are_valid_or_refused(composed_config: Composed) -> None:
    valid, refused = fuzz(5000, composed_config)
    assert valid > 20
    assert refused > 2000
