"""Hundreds of odd command lines: accepted, or refused in our words; never a traceback or a message of Hydra."""

import random
from collections.abc import Callable

import pytest

from watchme.config.group_options import group_options, groups
from watchme.config.validation import all_keys

Command = Callable[[list[str]], tuple[int, str]]

STARTS: tuple[tuple[str, ...], ...] = (
    (),
    ("model=osnet_x0_25",),
    ("model=yolo11n", "dataset=person_detection"),
    ("dataset=market1501", "dataset.root=nowhere"),
    ("mode=evaluate", "checkpoint=nothing.pt"),
    ("mode=export",),
    ("mode=search", "detector=a.pt", "reid=b.pt"),
    ("mode=predict", "source=a.mp4"),
    ("train.resume=nowhere",),
    ("train.resume=auto", "hydra.run.dir=runs/a"),
    ("experiment=osnet_basic",),
    ("debug=tiny",),
    ("--cfg", "job"),
)
VALUES = (
    *(
        "",
        "null",
        "true",
        "0",
        "-1",
        "7",
        "1e400",
        "nan",
        "inf",
        ".5",
        "1,2",
        "[1,2]",
        "[]",
        "{}",
        "{a:1}",
        "{a:{b:1}}",
    ),
    *(
        "auto",
        "cpu",
        "'a b'",
        '"a,b"',
        "a b",
        "a=b",
        "[",
        "]",
        "{",
        "'",
        '"',
        "\\",
        "a\\,b",
        "$",
        "${nothing}",
        "${",
        "???",
    ),
    *(
        "${oc.env:NOBODY_HAS_SET_THIS}",
        "${train.epochs}",
        "~/x",
        "~nobody/x",
        "/",
        "..",
        "ünïcode",
        "x" * 5000,
        "\n",
        "\t",
    ),
    *("glob(*)", "choice(1,2)", "interval(0,1)", "range(3)", "shuffle(1,2)", "int(3.5)", "str([1])", "extend_list(1)"),
    *("adam", "osnet", "yolo11n.pt", "best.pt", "1e-3..1e-1", "0,1", "cuda:0", "None", "True"),
)
FORMS = ("{k}={v}", "{k}={v}", "{k}={v}", "+{k}={v}", "++{k}={v}", "~{k}", "~{k}={v}", "{k}", "{k}=", "={v}", "{k}:{v}")
ODD = (
    *(
        "",
        "=",
        "==",
        "+",
        "++",
        "~",
        "-",
        "--",
        "a.b.c=1",
        "model@x=yolo11n",
        "model@_global_=yolo11n",
        "/model=yolo11n",
    ),
    *(
        "hydra/launcher=none",
        "hydra/job_logging=none",
        "hydra.run.dir=runs/b",
        "hydra.job.name=x",
        "hydra.verbose=true",
    ),
    *(
        "hydra.nothing=1",
        "hydra.job=3",
        "hydra=3",
        "hydra/sweeper=basic",
        "+hydra.job.env_set.A=1",
        "override=1",
        "defaults=[]",
    ),
    *(
        "--epochs",
        "--help",
        "-h",
        "-x",
        "--cfg=x",
        "--info=x",
        "--resolve",
        "--package=train",
        "-p",
        "-cd",
        "-cn",
        "-cp",
    ),
    *(
        "train",
        "yolo",
        "help",
        "help=train",
        "help=x.y",
        "help=",
        "trial.number=1",
        "0=1",
        "a b=1",
        "model.=1",
        ".model=1",
    ),
)
HYDRAS = (
    *("HYDRA_FULL_ERROR", "hydra.cc", "Could not override", "Could not append", "is not in struct", "Key '"),
    *(
        "See https://hydra",
        "LexerNoViableAlt",
        "mismatched input",
        "no viable alternative",
        "usage: ",
        "Primary config",
    ),
)


def line(rng: random.Random, keys: list[str]) -> list[str]:
    """A command line with a few arguments that are odd."""
    arguments = list(rng.choice(STARTS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.15:
            arguments.append(rng.choice(ODD))
            continue
        key = rng.choice(keys)
        if rng.random() < 0.3:
            key = rng.choice(sorted(groups()))
        value = rng.choice(VALUES)
        if key in groups() and rng.random() < 0.5:
            value = rng.choice(group_options(key) or [value])
        arguments.append(rng.choice(FORMS).format(k=key, v=value))
    rng.shuffle(arguments)
    # A flag's value stays behind it.
    return (
        arguments
        if "--cfg" not in arguments
        else ["--cfg", "job", *(a for a in arguments if a not in ("--cfg", "job"))]
    )


def fuzz(count: int, command: Command, seed: int) -> dict[int, int]:
    """Give so many command lines; returns how often each status was returned."""
    rng, keys = random.Random(seed), sorted(all_keys())
    codes: dict[int, int] = {}
    for number in range(count):
        arguments = line(rng, keys)
        try:
            code, text = command(arguments)
        except Exception as unexpected:
            raise AssertionError(f"number {number} of seed {seed}: {arguments}") from unexpected
        codes[code] = codes.get(code, 0) + 1
        assert code in (0, 1, 2), (arguments, text)
        assert "Traceback" not in text, (arguments, text)
        if code:
            assert not [words for words in HYDRAS if words in text], (arguments, text)
            assert len(text) < 6000 or "hydra.verbose=true" in arguments, (arguments, text)
    return codes


def test_odd_command_lines_are_answered_in_our_words(command: Command) -> None:
    codes = fuzz(40, command, seed=1)
    assert codes.get(2, 0) > 15


@pytest.mark.slow
def test_five_hundred_odd_command_lines_are_answered_in_our_words(command: Command) -> None:
    codes = fuzz(500, command, seed=0)
    assert codes.get(2, 0) > 200
    assert codes.get(0, 0) > 10
