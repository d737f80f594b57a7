"""One vocabulary for the size that a network sees: `dataset.image_size` and `dataset.height/width`.

A detector sees a square, `dataset.image_size`; a re-ID model an upright crop, `dataset.height` and `dataset.width`. A
config may say either: what fits is put under the engine's own keys, the rest is left for validation to answer.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from watchme.config.validation import known_keys
from watchme.core.registry import engine_names, load_config_class

log = logging.getLogger(__name__)

_SQUARE, _HEIGHT, _WIDTH = (f"dataset.{name}" for name in ("image_size", "height", "width"))


def with_image_size(config: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """A composed config whose image size stands under the keys of its engine; the same one where it did already.

    Args:
        config: As Hydra composed it.
        overrides: Of the command line, which beat what files say: with `dataset.height=128` an image_size of
            debug=tiny counts no more.
    """
    engine = _value(config, "model.engine")
    if engine not in engine_names():
        return config
    own = known_keys(load_config_class(engine))
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    found = {key: _value(config, key) for key in (_SQUARE, _HEIGHT, _WIDTH)}
    changes = _upright(found, given) if _SQUARE not in own and _HEIGHT in own else {}
    if _SQUARE in own and _HEIGHT not in own:
        changes = _square(found)
    if not changes:
        return config
    config = config.copy()
    OmegaConf.set_struct(config, False)
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if value is None:
            del config[section][name]
        else:
            config[section][name] = value
    return config


def _value(config: DictConfig, key: str) -> Any:
    """A value of a section; None where either cannot be read, which validation reports."""
    section, _, name = key.partition(".")
    try:
        node = config.get(section)
        return node.get(name) if isinstance(node, DictConfig) else None
    except OmegaConfBaseException:
        return None


def _upright(found: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    """Height and width for an image_size: (height, width), or a height of which the width is half, as 256 x 128."""
    size = found[_SQUARE]
    if size is None:
        return {}
    if given & {_HEIGHT, _WIDTH}:
        return {} if _SQUARE in given else {_SQUARE: None}
    pair = list(size) if OmegaConf.is_list(size) else [size, size // 2] if type(size) is int else []
    if len(pair) != 2:
        return {}
    log.info("dataset.image_size=%s: the model sees crops %s high and %s wide", size, *pair)
    return {_SQUARE: None, _HEIGHT: pair[0], _WIDTH: pair[1]}


def _square(found: Mapping[str, Any]) -> dict[str, Any]:
    """The image_size for a height and a width that are equal."""
    if found[_HEIGHT] is None or found[_HEIGHT] != found[_WIDTH]:
        return {}
    return {_SQUARE: found[_HEIGHT], _HEIGHT: None, _WIDTH: None}
