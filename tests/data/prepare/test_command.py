"""The command line itself: help, errors, no torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from prepare.made import coco, made, prepare
from watchme.data.prepare.conversion_summary import quoted, table

COMMANDS = ("yolo", "coco", "crowdhuman", "mot", "voc", "pennfudan", "reid", "torchreid", "video")


def test_help_lists_the_sources() -> None:
    shown = prepare("--help")
    assert shown.code == 0
    for command in COMMANDS:
        assert f"\n    {command} " in shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_source_has_description_defaults_and_an_example(command: str) -> None:
    shown = prepare(command, "--help")
    assert shown.code == 0
    assert f"usage: python -m watchme.data.prepare {command} " in shown.out
    assert "\nexample" in shown.out
    assert f"\n    python -m watchme.data.prepare {command} " in shown.out
    assert "(default: " in shown.out


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_and_usage_fit_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    *usage, _ = prepare(*command).err.splitlines()  # the last line is the error
    shown = prepare(*command, "--help").out.splitlines()
    assert [line for line in usage + shown if len(line) > 80] == []


def test_wrong_arguments() -> None:
    assert prepare("coko", "x", "--out", "y").code == 2
    ended = prepare("coco", "x.json", "--out", "y", "--val-share", "2")
    assert ended.code == 2
    assert "expected a number from 0 to 1, found '2'" in ended.err
    assert (
        prepare("coco", "/no/such.json", "--out", "y").err
        == "/no/such.json cannot be read: No such file or directory\n"
    )


def test_it_needs_no_torch_and_shows_no_bar_where_there_is_no_terminal(tmp_path: Path) -> None:
    source = coco(tmp_path / "s", 30)
    script = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv[0] = 'prepare'\n"
        "runpy.run_module('watchme.data.prepare', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "coco", str(source), "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "split  images  people  without people" in ended.stdout


def test_a_path_is_quoted_for_shell_and_hydra(tmp_path: Path) -> None:
    for name in ("plain", "with space", "it's", 'a"b', "a,b=c", "back\\slash", "{x}"):
        out = tmp_path / name
        text = subprocess.run(
            ["bash", "-c", f"printf %s dataset.root={quoted(out)}"], capture_output=True, text=True
        ).stdout
        (override,) = OverridesParser.create().parse_overrides([text])
        assert override.value() == str(out) or getattr(override.value(), "text", None) == str(out)


def test_table() -> None:
    assert table([["split", "n"], ["train", 12345], ["v", 1]]) == "split       n\ntrain  12,345\nv           1"


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    source = coco(tmp_path / "s", 30)
    with monkeypatch.context() as patch:
        patch.setattr("os.link", interrupt)
        ended = prepare("coco", source, "--out", tmp_path / "out")
    assert ended.code == 130
    assert "the same command goes on" in ended.err
    made("coco", source, "--out", tmp_path / "out")
