"""Progress within an epoch, with named losses, in place of ultralytics' TQDM, whose line takes 110 columns."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from watchme.core.progress import Progress


class BatchProgress:
    """Iterates over numbered batches; `losses` returns the running means by name, empty before the first batch."""

    def __init__(
        self, batches: Iterable[Any], total: int, *, title: str, losses: Callable[[], Mapping[str, float]]
    ) -> None:
        self._batches = batches
        self._losses = losses
        self._progress = Progress(title, total, "batch", note=self._shown)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches; a bar is removed at the end, when the epoch's line is logged."""
        with self._progress:
            yield from self._batches

    def set_description(self, text: str) -> None:
        """Called by ultralytics after each batch, with its own line, which is not used."""
        self._progress.update()

    def _shown(self) -> str:
        losses = self._losses().items()
        return "  ".join(f"{name.removesuffix('_loss')} {float(value):.3g}" for name, value in losses)


@contextlib.contextmanager
def validation_progress(title: str) -> Iterator[None]:
    """Let ultralytics' validations within the block show our progress instead of columns of metrics."""
    from ultralytics.engine import validator as engine

    shown, engine.TQDM = engine.TQDM, lambda batches, desc, total: Progress(title, total, "batch").over(batches)
    try:
        yield
    finally:
        engine.TQDM = shown
