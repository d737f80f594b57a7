"""Options that do nothing in the mode that was chosen; without a word they would seem to be used."""

from watchme.config.schema import RunConfig
from watchme.core.errors import Problem

# Keys of one's own models and pictures -> the modes that use them.
_USERS = {
    "source": ("predict", "find", "embed"),
    "detector": ("search", "predict", "find"),
    "reid": ("search", "predict", "find", "embed"),
    "query": ("find",),
    "query_person": ("find",),
    "index": ("find",),
    "blur_others": ("find",),
}


def idle_options(config: RunConfig) -> list[Problem]:
    """Weights and debugging options that the mode does not use."""
    return [*_idle_weights(config), *_idle_debugging(config)]


def _idle_weights(config: RunConfig) -> list[Problem]:
    problems = []
    if config.mode == "train" and config.checkpoint is not None:
        expected = "mode=train uses none: model.weights=<file> starts from weights, train.resume=<run> goes on"
        problems.append(Problem("checkpoint", expected, repr(config.checkpoint)))
    for key, users in _USERS.items():
        if config.mode not in users and getattr(config, key) not in (None, False):
            expected = f"belongs to {' and '.join(f'mode={mode}' for mode in users)}"
            problems.append(Problem(key, expected, repr(getattr(config, key))))
    return problems


def _idle_debugging(config: RunConfig) -> list[Problem]:
    problems, train, mode = [], config.train, config.mode
    limit = train.limit_batches
    if isinstance(limit, float) and limit > 1:
        expected = f"a share is at most 1.0; {limit:g} without a point is a count of batches"
        problems.append(Problem("train.limit_batches", expected, repr(limit)))
    if limit is not None and mode not in ("train", "evaluate"):
        problems.append(Problem("train.limit_batches", f"does nothing with mode={mode}; leave it null", repr(limit)))
    for key in ("profile", "detect_anomaly"):
        if getattr(train, key) and mode != "train":
            problems.append(Problem(f"train.{key}", f"looks at training; it does nothing with mode={mode}", "True"))
    if train.detect_anomaly and train.precision == "fp16":
        expected = "fp16 scales the loss until gradients overflow, which is no anomaly; train.precision=fp32 or bf16"
        problems.append(Problem("train.detect_anomaly", expected, "True"))
    return problems
