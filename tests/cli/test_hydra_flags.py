"""Hydra's flags: pairs and values that it would answer by a traceback or its usage are answered in our words."""

from collections.abc import Callable
from itertools import combinations

import pytest

from watchme.cli.command_line import prepare
from watchme.cli.hydra_flags import split_flags

Command = Callable[[list[str]], tuple[int, str]]

DEEDS = ("-r", "--multirun", "--cfg job", "-i defaults", "-sc install=bash")
WRONG = [
    ("--cfg nothing", "--cfg = nothing", "expected one of job, hydra, all: --cfg job"),
    ("--cfg", "--cfg", "expected one of job, hydra, all: --cfg job"),
    ("-c", "--cfg", "expected one of job, hydra, all: --cfg job"),
    ("--cfg optimizer=adam", "--cfg = optimizer=adam", "expected one of job, hydra, all: --cfg job"),
    ("--info nothing", "--info = nothing", "expected one of all, aliases, config, defaults"),
    ("--info=x", "--info = x", "expected one of all"),
    ("--resolve", "--resolve", "goes with --cfg: --cfg job --resolve"),
    ("--info --resolve", "--resolve", "goes with --cfg: --cfg job --resolve"),
    ("--package train", "--package", "goes with --cfg: --cfg job --package train"),
    ("-p", "--package", "needs a value: --package train"),
    ("--cfg job --package trian", "--package = 'trian'", "did you mean train?"),
    ("--cfg job -p train.epoks", "--package = 'train.epoks'", "expected one of"),
    ("--run=x", "--run = x", "takes no value"),
    ("-m=3", "-m = 3", "takes no value"),
    ("--resolve=yes --cfg job", "--resolve = yes", "takes no value"),
    ("-sc", "--shell-completion", "-sc install=bash"),
    ("-sc nonsense", "--shell-completion = nonsense", "-sc install=bash"),
    ("-sc install=tcsh", "--shell-completion = install=tcsh", "bash, fish and zsh"),
    ("-sc install=bash uninstall=bash", "--shell-completion", "-sc install=bash"),
    ("--config-name", "--config-name", "needs a value"),
    ("-cd", "--config-dir", "needs a value"),
    ("--experimental-rerun nowhere", "--experimental-rerun = 'nowhere'", "train.resume=<run folder>"),
    ("--experimental-rerun", "--experimental-rerun", "needs a value"),
    ("--nothing", "--nothing", "settings are written key=value"),
    ("--mult", "--mult", "settings are written key=value"),
]


def refusal(line: str, command: Command) -> str:
    """The one problem that a command line is refused with, in one line."""
    code, text = command(line.split())
    assert (code, "Traceback" in text, "usage:" in text) == (2, False, False), text
    assert text.startswith("The config has 1 problem; nothing was run."), text
    return " ".join(text.split())


@pytest.mark.parametrize("pair", list(combinations(DEEDS, 2)), ids=" ".join)
def test_one_of_two_deeds_is_to_be_chosen(pair: tuple[str, str], command: Command) -> None:
    assert "only one of them can be given" in refusal(" ".join(pair), command)


@pytest.mark.parametrize(("line", "key", "expected"), WRONG, ids=[line for line, _, _ in WRONG])
def test_a_wrong_flag_is_refused_once(line: str, key: str, expected: str, command: Command) -> None:
    text = refusal(line, command)
    assert f"nothing was run. {key} " in text
    assert expected in text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--cfg job --package dataset.demo", "identities"),
        ("-c=job optimizer=adam -p optimizer", "name: adam"),
        ("optimizer=adam --cfg job --resolve", "name: adam"),
        ("--cfg hydra -p hydra.run", "dir:"),
        ("--info defaults", "optimizer"),
        ("--info optimizer=adam", "optimizer"),
        ("optimizer=adam -i", "optimizer"),
        ("--help --resolve", "Usage: python train.py"),
        ("-r -m --help", "Usage: python train.py"),
        ("--hydra-help", "Hydra"),
    ],
)
def test_right_flags_show_what_they_promise(line: str, shown: str, command: Command) -> None:
    code, text = command(line.split())
    assert (code, shown in text) == (0, True), text


def test_flags_carry_their_values() -> None:
    flags, others = split_flags(["a=1", "-c", "job", "-i", "b=2", "-m", "c=3", "-cd", "x"])
    assert flags == ["--cfg=job", "--info=all", "-m", "--config-dir=x"]
    assert others == ["a=1", "b=2", "c=3"]


def test_overrides_go_behind_flags() -> None:
    assert prepare(["train.seed=1", "--cfg", "job", "train.epochs=2"])[0] == "--cfg=job"
