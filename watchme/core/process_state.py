"""What a block of code may change in this process, and is put back after it: environment variables, torch's threads."""

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def torch_threads(wanted: int | None = None) -> Iterator[int]:
    """Run a block with `wanted` threads in torch (None: as many as it has), then restore the number."""
    import torch

    before = torch.get_num_threads()
    try:
        if wanted is not None:
            torch.set_num_threads(wanted)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
