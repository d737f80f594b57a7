"""The OmegaConf resolvers that conf/ uses: `${env:YOLO_EPOCHS,100}`, `${default_weights:coco}`, ...

OmegaConf checks the text of every interpolation as often as it is loaded and merged. It knows one by a regular
expression where its arguments are plain words or numbers, as in `${env:YOLO_EPOCHS,100}`. With another interpolation in
it, or without arguments, it is parsed by the grammar, which takes 1 to 5 ms each time.
"""

import os
import re
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf.errors import GrammarParseError
from omegaconf.resolvers import oc

from watchme.cli.help import help_text
from watchme.config.conf_dir import CONF


def register() -> None:
    """Register all of them.

    `${env:NAME,default}` is the environment variable, read as a value of the command line is: a number, null, a list.
    What that grammar cannot read is text; `${env_text:NAME,default}` always is. An empty variable is as one that is not
    set, and `~` is the home folder.
    `${token:2}` is two random bytes, which make run folders of the same second differ; `${help_text:}` is --help.
    `${if_set:value,yes,no}` is `no` where the value is null, and `${if_auto:value,other}` is `other` where it is -1.
    `${default_weights:name}` is the default of model.weights: the published weights of that name for real data, null
    for the demo world, unless model.pretrained says otherwise. `${source_name:street.mp4}` is what run folders call it.
    """
    OmegaConf.register_resolver("env", _env, replace=True)
    OmegaConf.register_resolver("env_text", _env_text, replace=True)
    OmegaConf.register_resolver("if_set", lambda value, yes, no: no if value is None else yes, replace=True)
    OmegaConf.register_resolver("default_weights", _default_weights, replace=True)
    OmegaConf.register_resolver("if_auto", _if_auto, replace=True)
    OmegaConf.register_resolver("token", lambda size: os.urandom(size).hex(), use_cache=True, replace=True)
    OmegaConf.register_resolver("source_name", _source_name, replace=True)
    OmegaConf.register_resolver("help_text", lambda: help_text(CONF), replace=True)


def _env(name: str, default: Any, *, _parent_: Container, _node_: Node) -> Any:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return oc.decode(text, _parent_, _node_)
    except GrammarParseError:  # of a path with a bracket, a comma, an umlaut or a `~`
        return _env_text(name, default)


def _env_text(name: str, default: str | None) -> str | None:
    text = os.environ.get(name)
    return os.path.expanduser(text) if text else default  # noqa: PTH111, Path raises where there is no such home


def _if_auto(key: str | int, other: Any, *, _root_: DictConfig) -> Any:
    value = OmegaConf.select(_root_, key) if isinstance(key, str) else key
    return other if value == -1 else value


def _default_weights(name: str, *, _root_: DictConfig) -> str | None:
    pretrained = OmegaConf.select(_root_, "model.pretrained")
    if pretrained is not None:
        return name if pretrained else None
    root, demo = (OmegaConf.select(_root_, f"dataset.{key}") for key in ("root", "demo"))
    return None if root is None and demo is not None else name


def _source_name(source: str | int | None) -> str:
    """`street` of videos/street.mp4, `photos` of photos/*.jpg, `camera0` of 0."""
    text = "" if source is None else str(source)
    if text.isdigit():
        return f"camera{text}"
    parts = [part for part in re.split(r"[/\\\\]", text.rstrip("/")) if part and not set("*?[") & set(part)]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(parts[-1]).stem if parts else "")[:40].strip("._-") or "source"
