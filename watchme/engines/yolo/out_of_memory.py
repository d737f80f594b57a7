"""Out of memory in training or evaluation: what was tried, and the keys that help."""

from watchme.core.errors import TrainingError
from watchme.engines.yolo.config import Config


def training_error(error: BaseException, *, batch_size: int, gpus: int, image_size: int) -> TrainingError:
    """The error of a training that ran out of memory; on the CPU and on MPS, `gpus` is 0."""
    each = f", {batch_size // gpus} on each of {gpus} GPUs," if gpus > 1 else ""
    precision = " or train.precision=fp16" if gpus else ""
    automatic = " train.batch_size=-1 takes what fits one GPU." if gpus == 1 else ""
    return TrainingError(
        f"out of memory in training with a batch of {batch_size}{each} at {image_size} px: {_first_line(error)}\n"
        f"    Lower train.batch_size or dataset.image_size, or choose a smaller model{precision}.{automatic}"
    )


def evaluation_batch(config: Config) -> int:
    """Images in a batch of an evaluation: `evaluation.batch_size`, or as ultralytics validates while it trains."""
    training = config.train.batch_size if config.train.batch_size > 0 else 16
    return config.evaluation.batch_size or 2 * training


def evaluation_error(error: BaseException, config: Config) -> TrainingError:
    """The error of an evaluation that ran out of memory."""
    batch = evaluation_batch(config)
    origin = "" if config.evaluation.batch_size else ", twice train.batch_size,"
    return TrainingError(
        f"out of memory in evaluation with a batch of {batch}{origin} at {config.dataset.image_size} px: "
        f"{_first_line(error)}\n    Lower it: evaluation.batch_size={max(1, batch // 2)}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
