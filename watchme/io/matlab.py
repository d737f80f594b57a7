"""MATLAB files as plain Python values."""

from pathlib import Path
from typing import Any

import numpy as np

from watchme.core.errors import DataError


def read_matlab(file: Path) -> dict[str, Any]:
    """The variables of a .mat file: structs as dicts, cells as lists or arrays, singletons as what they hold.

    Raises:
        DataError: If it is missing or damaged.
    """
    from scipy.io import loadmat  # it takes a while to import

    if not file.is_file():
        raise DataError(f"no such file: {file}")
    try:
        content: dict[str, Any] = loadmat(str(file), simplify_cells=True)
    except Exception as error:  # whatever its parser raises on foreign bytes
        raise DataError(f"{file} cannot be read as a MATLAB file: {error}") from None
    return {name: value for name, value in content.items() if not name.startswith("__")}


def variable(file: Path, *names: str) -> Any:
    """The first of some variables that a .mat file has.

    Raises:
        DataError: If the file cannot be read or has none of them.
    """
    content = read_matlab(file)
    for name in names:
        if name in content:
            return content[name]
    raise DataError(f"{file} has no variable {' or '.join(names)}; it has {', '.join(sorted(content)) or 'none'}")


def items(value: Any) -> list[Any]:
    """A cell or struct array as a list, though one of a single element was simplified to that element."""
    if isinstance(value, (list, np.ndarray)):
        return list(value)
    return [value]
