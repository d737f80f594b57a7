"""Initial weights from a checkpoint, also with another classifier; frozen parameters."""

import fnmatch
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from watchme.core.errors import CheckpointError, ConfigError, Problem
from watchme.engines.osnet.model import CLASSIFIER
from watchme.engines.osnet.state_dict import best_place, tensors_of
from watchme.io.checkpoint import load_checkpoint, require_finite

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """What became of a checkpoint's tensors: names by outcome."""

    loaded: list[str]
    other_shape: list[str]
    unknown: list[str]
    missing: list[str]
    dropped: list[str]

    def table(self) -> str:
        """A line for each outcome, with the first names."""
        rows = []
        for name, what in (
            ("loaded", "loaded"),
            ("dropped", "classifier, dropped"),
            ("other_shape", "other shape or type, not loaded"),
            ("unknown", "not in the model"),
            ("missing", "not in the file, kept as initialised"),
        ):
            names: list[str] = getattr(self, name)
            if names:
                shown = "" if name == "loaded" else ": " + ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                rows.append(f"  {len(names):4d} tensors {what}{shown}")
        return "\n".join(rows)


def load_weights(backbone: nn.Module, path: Path, *, keep_classifier: bool, min_matched: float) -> Match:
    """Fill a backbone of torchreid from a checkpoint and log what matched.

    At least the share `min_matched` of its tensors, the classifier aside, must be filled. `keep_classifier` takes the
    classifier over too, where its size is the same.

    Raises:
        CheckpointError: If the file cannot be read, or fewer tensors match.
    """
    content = load_checkpoint(path)
    theirs = tensors_of(content)
    own = backbone.state_dict()
    match = _match(theirs, own, keep_classifier=keep_classifier)
    body = [name for name in own if not name.startswith(CLASSIFIER)]
    share = sum(not name.startswith(CLASSIFIER) for name in match.loaded) / len(body)
    if share < min_matched:
        raise CheckpointError(
            f"{path} does not fit the model: {share:.0%} of its tensors match, at least {min_matched:.0%} must "
            f"(model.min_matched).\n{match.table()}\n    {_advice(content, {name: own[name] for name in body}, share)}"
        )
    require_finite(path, {name: theirs[name] for name in match.loaded})
    backbone.load_state_dict({**own, **{name: theirs[name] for name in match.loaded}})
    log.info("Weights from %s:\n%s", path, match.table())
    return match


def _match(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor], *, keep_classifier: bool) -> Match:
    wanted = {name: value for name, value in theirs.items() if keep_classifier or not name.startswith(CLASSIFIER)}
    known = {name: _fits(own[name], value) for name, value in wanted.items() if name in own}
    return Match(
        loaded=[name for name, fits in known.items() if fits],
        other_shape=[name for name, fits in known.items() if not fits],
        unknown=[name for name in wanted if name not in own],
        missing=[name for name in own if name not in wanted and not name.startswith(CLASSIFIER)],
        dropped=[name for name in theirs if name not in wanted],
    )


def _fits(own: Tensor, value: Tensor) -> bool:
    """Whether a tensor can take the values of another: those of a quantised one would count by their codes."""
    counts = not own.is_floating_point()
    return own.shape == value.shape and not value.is_meta and (counts or value.is_floating_point())


def _advice(content: Mapping[str, Any], body: Mapping[str, Tensor], share: float) -> str:
    """Where in the file more of the tensors are than those that were looked at."""
    key, prefix, better = best_place(content, body)
    if better <= share:
        return "Nowhere in the file are more of them. Is model=<architecture> the one that it was trained with?"
    places = [f"under the key {key}"] * bool(key) + [f"behind the prefix {prefix}"] * bool(prefix)
    return f"{better:.0%} match {' '.join(places)}: save these tensors alone, without the prefix, and name that file."


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Stop training the parameters whose names match a pattern (shell style, e.g. `conv1*`, `*.bn.*`); returns their
    names.

    Raises:
        ConfigError: If a pattern matches nothing, or nothing is left to train.
    """
    names = dict(model.named_parameters())
    frozen: list[str] = []
    for pattern in patterns:
        hits = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            tops = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise ConfigError([Problem("model.freeze", f"matches no parameter; the model has {tops}", repr(pattern))])
        frozen += hits
    for name in frozen:
        names[name].requires_grad_(False)
    if not any(value.requires_grad for value in names.values()):
        raise ConfigError([Problem("model.freeze", "leaves nothing to train", repr(list(patterns)))])
    return frozen


def set_trainable(model: nn.Module, frozen: Collection[str], open_layers: Sequence[str] | None) -> None:
    """Say which parameters of a `ReidNet` learn in an epoch; it is in training mode before.

    The `frozen` ones never learn; batch normalisation with all of its own among them keeps its running statistics, too.
    In the first epochs (torchreid's fixbase) only the modules `open_layers` of the backbone learn, and all others are
    in evaluation mode; None: all learn.
    """
    opened = ("neck.", *(f"backbone.{layer}." for layer in open_layers or ()))
    for name, value in model.named_parameters():
        value.requires_grad_(name not in frozen and (open_layers is None or name.startswith(opened)))
    for name, module in model.named_modules():
        own = {f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False)}
        still = isinstance(module, nn.modules.batchnorm._BatchNorm) and bool(own) and own <= set(frozen)
        closed = open_layers is not None and bool(name) and not f"{name}.".startswith(opened)
        if still or closed:
            module.training = False
