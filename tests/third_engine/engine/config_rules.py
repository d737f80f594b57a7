"""What a valid config of the constant engine must fulfil beyond its types."""

from watchme.engines.constant.config import Config

from watchme.core.errors import Problem


def check(config: Config) -> list[Problem]:
    """Nothing to look for on disk."""
    if len(config.model.curve) < config.train.epochs:
        return [Problem("train.epochs", f"expected <= {len(config.model.curve)}", str(config.train.epochs))]
    return []
