"""CONTRIBUTING.md names files and symbols that exist, and walks through a run in few lines."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
TEXT = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| ([^|]+) \| `([^`|]+)` \| `([^`|]+)` \|$", TEXT, re.M)
WALK = "\n".join(re.findall(r"^\d+\. .*$", TEXT.partition("## A run, file by file")[2].partition("\n## ")[0], re.M))


def defined(path: Path) -> set[str]:
    """Names of the functions and classes of a file, methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
            names |= {f"{node.name}.{part.target.id}" for part in node.body if _is_field(part)}  # type: ignore[attr-defined]
    return names


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


@pytest.mark.parametrize(("what", "file", "symbol"), TABLE, ids=[what for what, _, _ in TABLE])
def test_the_table_names_what_exists(what: str, file: str, symbol: str) -> None:
    assert symbol in defined(PROJECT / "watchme" / file), f"{what}: {file} has no {symbol}"


def test_the_table_is_whole() -> None:
    assert len(TABLE) >= 21


def test_the_walk_is_short_and_names_what_exists() -> None:
    assert len(re.findall(r"^\d+\. ", WALK, re.M)) <= 15
    files = re.findall(r"`([a-z_/0-9]+\.py)`: `([\w.]+)`", WALK)
    assert len(files) >= 10
    for file, symbol in files:
        assert symbol in defined(PROJECT / "watchme" / file), f"{file} has no {symbol}"
    for file in re.findall(r"`([a-z_/0-9]+\.py|[a-z_]+/)`", WALK):
        assert (PROJECT / "watchme" / file).exists(), file
    before_the_first_step = WALK.partition("9. ")[0]
    assert len(set(re.findall(r"`([a-z_/0-9]+\.py)`", before_the_first_step))) <= 12
