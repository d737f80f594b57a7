"""The rules of the package: which way imports point, and that nothing heavy is imported before validation."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "watchme"
# From the bottom to the top; the longest prefix of a module's name counts. A module imports from its own layer or from
# one below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core", "config", "config.type_conversion", "config.conf_dir"),
    ("io", "weights", "config.group_options"),
    ("data", "metrics"),
    ("config.schema",),
    ("core.interfaces", "core.step_meter", "core.step_profiler"),
    ("export", "inference", "data.check.result"),
    ("engines",),
    ("core.registry",),
    ("config.validation", "config.mode_rules", "config.image_size"),
    ("run", "run.run_dir", "run.summary", "run.model_card", "run.early_stopping", "run.gpu_monitor"),
    ("tracking", "report"),
    ("dashboard",),
    ("sweep",),
    ("run.runner", "run.session"),
    ("cli", "api"),
)
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def layer_of(module: str) -> int | None:
    """The layer of a dotted name within watchme, by its longest prefix that has one."""
    pieces = module.split(".")
    for length in range(len(pieces), 0, -1):
        if ".".join(pieces[:length]) in LAYER:
            return LAYER[".".join(pieces[:length])]
    return None


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
    """The first package within watchme of a dotted name."""
    pieces = dotted.split(".")
    return pieces[1] if pieces[0] == "watchme" and len(pieces) > 1 else None


def module_name(path: Path) -> str:
    """Dotted name below watchme, of a package that of its folder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_point_downward(path: Path) -> None:
    own = layer_of(module_name(path))
    assert own is not None, f"{path} has no layer: give it one in tests/test_architecture.py"
    for name in imports(path):
        other = layer_of(name.removeprefix("watchme.")) if part(name) else None
        assert other is None or other <= own, f"{path.relative_to(PROJECT)} imports {name}, which is above it"


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, lazily and for types alone included."""
    names = {module_name(path): path for path in modules()}
    graph = {}
    for name, path in names.items():
        found = {dotted.removeprefix("watchme.") for dotted in imports(path)}
        # `from watchme.tracking import jsonl` is an import of the module, not of what its package imports.
        packages = {dotted.rpartition(".")[0] for dotted in found if dotted in names}
        symbols = {dotted.rpartition(".")[0] for dotted in found if dotted not in names}
        graph[name] = (found & names.keys()) - (packages - symbols) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other."""

    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        stack = [start]
        while stack:
            for name in graph[stack.pop()] - found:
                found.add(name)
                stack.append(name)
        return found

    reach = {name: reachable(name) for name in graph}
    groups = ({other for other in reach[name] if name in reach[other]} for name in graph if name in reach[name])
    return [set(group) for group in dict.fromkeys(frozenset(group) for group in groups)]


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [{"b", "c"}]


def test_no_module_imports_itself_through_others() -> None:
    found = circles(import_graph())
    assert not found, f"import circles: {[sorted(group) for group in found]}"


def test_engines_do_not_know_each_other_nor_what_is_above() -> None:
    for path in (PACKAGE / "engines").rglob("*.py"):
        folders = path.relative_to(PACKAGE / "engines").parts
        for name in imports(path):
            pieces = name.split(".")
            assert not name.startswith("watchme.core.registry"), path
            assert part(name) not in {"tracking", "sweep", "run", "cli", "report"}, f"{path}: {name}"
            if pieces[:2] == ["watchme", "engines"] and len(pieces) > 2:
                assert pieces[2] == folders[0], f"{path} imports another engine: {name}"


def test_torchreid_is_imported_without_its_warning() -> None:
    """By one module; load_reid.py is shipped with exported weights, and runs at the backend's."""
    users = {path for path in modules() if any(name.split(".")[0] == "torchreid" for name in imports(path))}
    assert users == {PACKAGE / "engines" / "osnet" / name for name in ("quiet_torchreid.py", "load_reid.py")}


# Imported, and installed by a declared package that is made of them: ultralytics-opencv-headless, tensorboard, jinja2,
# and pooch's downloads.
OF_OTHERS = {"cv2", "google", "markupsafe", "requests"}


def test_what_is_imported_is_declared() -> None:
    """A package that another one happens to bring goes when that one drops it, as ultralytics may nvidia-ml-py."""
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8").partition("[dependency-groups]")[0]
    declared = set(re.findall(r'"([a-z0-9-]+)[\[<=>]', project.lower()))
    used = {name.partition(".")[0] for path in PACKAGE.rglob("*.py") for name in imports(path)}
    installed = packages_distributions()
    foreign = used & installed.keys() - sys.stdlib_module_names - OF_OTHERS - {"watchme"}
    assert "pynvml" in foreign
    brought = {name: {each.lower().replace("_", "-") for each in installed[name]} for name in foreign}
    assert {name: by for name, by in brought.items() if declared.isdisjoint(by)} == {}


def test_no_file_is_called_utils() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.stem in {"utils", "util", "helpers", "misc"}]


def test_a_stem_means_one_thing() -> None:
    """Engines have the same parts under the same names; elsewhere a name stands once, but for what shows progress."""
    apart = [path for path in PACKAGE.rglob("*.py") if "engines" not in path.parts and not path.stem.startswith("__")]
    stems = Counter(path.stem for path in apart)
    assert {stem for stem, count in stems.items() if count > 1} <= {"progress"}
    of_engines = {path.stem for path in PACKAGE.joinpath("engines").rglob("*.py")}
    base = {
        "batch_limit",
        "config_rules",
        "handoff_text",
        "metric_names",
        "progress",
    }  # what engines' own modules add to
    assert of_engines & set(stems) <= base


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
