"""The rules of the house: which way imports point, and that nothing heavy is imported before validation."""

import ast
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "watchme"
# From the bottom to the top of the house. A module imports from its own floor or from below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "cache", "convert", "trained"),
    ("data", "metrics"),
    ("schema",),
    ("contract",),
    ("runtime", "checkpoint"),
    ("handoff", "checked"),
    ("engines",),
    ("route",),
    ("validate",),
    ("rundir",),
    ("tracking", "report", "model_card", "observers", "console", "recall", "implied", "helptext", "hardware"),
    ("sweep",),
    ("run",),
    ("cli",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py"]


def part(dotted: str) -> str | None:
    """The part of the house that a dotted name lies in."""
    pieces = dotted.split(".")
    return pieces[1] if pieces[0] == "watchme" and len(pieces) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_point_downward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in FLOOR, f"{own} has no floor: give it one in tests/test_architecture.py"
    for name in imports(path):
        other = part(name)
        if other is None or other == own or other not in FLOOR:
            continue
        assert FLOOR[other] <= FLOOR[own], f"{path.relative_to(PROJECT)} imports {name}, which is above it"


def test_engines_do_not_know_each_other_nor_what_is_above() -> None:
    for path in (PACKAGE / "engines").rglob("*.py"):
        folders = path.relative_to(PACKAGE / "engines").parts
        for name in imports(path):
            pieces = name.split(".")
            assert part(name) not in {"tracking", "sweep", "route", "run", "cli", "report"}, f"{path}: {name}"
            if pieces[:2] == ["watchme", "engines"] and len(pieces) > 2:
                assert pieces[2] == folders[0], f"{path} imports another engine: {name}"


def test_only_the_backend_imports_torchreid() -> None:
    users = {path for path in modules() if any(name.split(".")[0] == "torchreid" for name in imports(path))}
    # load_reid.py is shipped with exported weights, and runs at the backend's.
    assert users <= {PACKAGE / "engines" / "osnet" / name for name in ("backend.py", "load_reid.py")}


def test_no_file_is_called_utils() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.stem in {"utils", "util", "helpers", "misc"}]


def test_compose_and_a_failing_validation_never_import_torch(
    train_py: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    """`train_py` makes importing torch an error, which would end these with a traceback."""
    shown = train_py("--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    for model in ("yolo11n", "osnet_ibn"):
        refused = train_py(f"model={model}", "train.epochs=0", "+model.typo=1")
        assert refused.returncode == 2
        assert "2 problems" in refused.stderr
